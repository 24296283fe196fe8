"""FixMatch's wide residual networks, written down once more with functions, in float64; parameter counts: tests/parity/test_spice.py."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coterie.networks.backbones.wide_resnet import WideResNet
from coterie.run.seeding import forked

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def made(width=2, strides=(1, 2, 2), seed=0) -> WideResNet:
    """In eval mode and float64, with running statistics and scales that are not those of the start."""
    with forked(seed):
        net = WideResNet(width, strides)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.weight, 1, 0.2), nn.init.normal_(module.bias, 0, 0.2)
    return net.eval().double()


def picture(b=2, size=16) -> torch.Tensor:
    return torch.randn(b, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def act(x, norm):
    x = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
    x = x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    return torch.where(x > 0, x, 0.1 * x)


@torch.no_grad()
@pytest.mark.parametrize("strides, size", [((1, 2, 2), 16), ((2, 2, 2, 2), 32)])
def test_the_network_equals_its_formula(strides, size):
    net, x = made(strides=strides), picture(size=size)
    blocks = iter(net.blocks)
    y = F.conv2d(x, net.stem.weight, padding=1)
    for group, stride in enumerate(strides):
        for i in range(4):
            block, stride = next(blocks), stride if i == 0 else 1
            first, norm, _, second = block.body
            inner = act(y, block.norm)
            short = y
            if i == 0:  # the one place where channels and size change; in the first group the short cut starts after the norm
                short = F.conv2d(inner if group == 0 else y, block.short.weight, stride=stride)
            inner = F.conv2d(inner, first.weight, stride=stride, padding=1)
            y = short + F.conv2d(act(inner, norm), second.weight, padding=1)
    assert next(blocks, None) is None
    y = act(y, net.norm)
    torch.testing.assert_close(net.maps(x), y, **TIGHT)
    torch.testing.assert_close(net(x), y.mean((2, 3)), **TIGHT)
    assert net.n_features == y.shape[1] == 32 << len(strides) - 1


@torch.no_grad()
def test_an_image_does_not_see_the_others_of_its_batch():
    net, x = made(), picture(5)
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]), **TIGHT)
    torch.testing.assert_close(net(x.flip(0)), net(x).flip(0), **TIGHT)


@torch.no_grad()
@pytest.mark.parametrize("size", [8, 15, 96])
def test_any_size_of_picture(size):
    for strides, width in (((1, 2, 2), 128), ((2, 2, 2, 2), 256)):
        assert made(strides=strides).float()(picture(1, size).float()).shape == (1, width)


def test_running_statistics_move_by_a_thousandth():
    with forked(0):
        net = WideResNet(1).train().double()
    x = picture(8)
    net(x)
    want = 0.001 * net.stem(x).mean((0, 2, 3))
    torch.testing.assert_close(net.blocks[0].norm.running_mean, want.detach(), **TIGHT)


def test_first_weights_keep_the_size_of_what_runs_through():
    """He's initialisation over the outputs (FixMatch): standard deviation sqrt(2 / (9 n_out)); every weight gets a gradient."""
    with forked(0):
        net = WideResNet(2).train().double()
    for conv in (module for module in net.modules() if isinstance(module, nn.Conv2d)):
        fan = conv.out_channels * conv.kernel_size[0] ** 2
        assert float(conv.weight.detach().std()) == pytest.approx((2 / fan) ** 0.5, rel=0.15)
    net(picture(8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in net.parameters())
