"""AlexNet, VGG-16 and the Sobel filters, written down once more with functions, in float64; the published shapes are in tests/parity."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coterie.errors import InputError
from coterie.networks.backbones.alexnet import alexnet, vgg16
from coterie.networks.backbones.sobel import Sobel
from coterie.run.seeding import forked

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def picture(b: int, size: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(b, channels, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def nets():
    with forked(0):
        return {"alexnet": alexnet(95, 2).eval().double(), "vgg16": vgg16(64).eval().double()}


def block(x, convolution, norm):
    x = F.conv2d(x, convolution.weight, convolution.bias, convolution.stride, convolution.padding)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()


@torch.no_grad()
@pytest.mark.parametrize(
    "name, size, channels, pools", [("alexnet", 95, 2, {0: 3, 1: 3, 4: 3}), ("vgg16", 64, 3, dict.fromkeys((1, 3, 6, 9, 12), 2))]
)
def test_the_network_equals_its_formula(nets, name, size, channels, pools):
    net, x = nets[name], picture(2, size, channels)
    convolutions = [part for part in net.convolutions if isinstance(part, nn.Conv2d)]
    norms = [part for part in net.convolutions if isinstance(part, nn.BatchNorm2d)]
    y = x
    for i, parts in enumerate(zip(convolutions, norms)):
        y = block(y, *parts)
        y = F.max_pool2d(y, pools[i], 2) if i in pools else y
    torch.testing.assert_close(net.maps(x), y, **TIGHT)
    first, second = (part for part in net.connected if isinstance(part, nn.Linear))
    z = second(first(y.flatten(1)).relu())
    torch.testing.assert_close(net(x), z, **TIGHT)
    assert net.n_features == z.shape[1] == 4096 and z.min() < 0, "before the last ReLU"


@torch.no_grad()
def test_views_of_another_size_pass(nets):
    assert nets["alexnet"](picture(1, 80, 2)).shape == nets["vgg16"](picture(1, 32)).shape == (1, 4096)


def test_dropout_is_for_training_alone(nets):
    net, x = nets["alexnet"], picture(1, 95, 2)
    shares = {name: [part.p for part in nets[name].connected if isinstance(part, nn.Dropout)] for name in nets}
    assert shares == {"alexnet": [0.5, 0.5], "vgg16": [0.5]}
    with torch.no_grad():
        assert torch.equal(net(x), net(x))


def test_first_weights(nets):
    for net in nets.values():
        for conv in (part for part in net.convolutions if isinstance(part, nn.Conv2d)):
            fan = conv.out_channels * conv.kernel_size[0] ** 2
            assert float(conv.weight.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.05) and not conv.bias.any()
        for linear in (part for part in net.connected if isinstance(part, nn.Linear)):
            assert float(linear.weight.detach().std()) == pytest.approx(0.01, rel=0.01) and not linear.bias.any()


@pytest.mark.parametrize("make, least", [(alexnet, 63), (vgg16, 32)])
def test_too_small_pictures_are_refused(make, least):
    with pytest.raises(InputError, match=f"at least {least} px"):
        make(least - 1)


def test_sobel_equals_naive_loops():
    x = picture(2, 7)
    grey = F.pad(x.mean(1), (1, 1, 1, 1))
    weights = (1, 2, 1)
    got = Sobel()(x)
    assert got.shape == (2, 2, 7, 7)
    for b in range(2):
        for r in range(7):
            for c in range(7):
                across = sum(w * float(grey[b, r + i, c] - grey[b, r + i, c + 2]) for i, w in enumerate(weights))
                down = sum(w * float(grey[b, r, c + i] - grey[b, r + 2, c + i]) for i, w in enumerate(weights))
                assert got[b, :, r, c].tolist() == pytest.approx([across, down], abs=1e-9)


def test_sobel_sees_no_colour_no_brightness_and_learns_nothing():
    sobel, x = Sobel(), picture(1, 9)
    inner = slice(1, -1)
    torch.testing.assert_close(sobel(x + 5)[..., inner, inner], sobel(x)[..., inner, inner], **TIGHT)
    torch.testing.assert_close(sobel(x.flip(1)), sobel(x), **TIGHT)
    torch.testing.assert_close(sobel(x.mT), sobel(x).mT.flip(1), **TIGHT)
    assert not list(sobel.parameters()) and not sobel.state_dict()
