import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from coterie.errors import InputError
from coterie.images import open_images
from coterie.images.collection import open_rows
from coterie.networks import encoder as module
from coterie.networks.backbones import alexnet
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.sobel import Sobel
from coterie.networks.encoder import EncoderSpec, build, colour_statistics, features
from coterie.networks.heads import Heads
from coterie.networks.model import Model
from coterie.networks.weights import load_pretrained, load_weights
from coterie.run import Run
from coterie.run.devices import Devices

TIGHT = {"rtol": 1e-9, "atol": 1e-9}
ROUNDED = {"rtol": 1e-6, "atol": 1e-7}  # what float64 networks say, as `features` gives it: in float32
PIXELS = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def run():
    return Run(devices=Devices("cpu", "fp32", 1))


@pytest.mark.parametrize(
    "name, size, width",
    [
        ("small", 16, 128),
        ("small", 64, 128),
        ("small", 100, 128),
        ("small", 17, 128),
        ("small-32", 16, 256),
        ("resnet18-cifar", 16, 512),
        ("resnet34-cifar", 16, 512),
        ("resnet18-stl", 32, 512),
        ("resnet34-stl", 32, 512),
        ("wrn-28-2", 16, 128),
        ("wrn-28-8", 16, 512),
        ("wrn-37-2", 16, 256),
        ("alexnet", 64, 4096),
        ("vgg16", 32, 4096),
        ("small-sobel", 16, 128),
        ("resnet18-cifar-sobel", 16, 512),
        ("wrn-28-2-sobel", 16, 128),
        ("pixels-sobel", 9, 162),
        ("pixels", 9, 243),
    ],
)
def test_own_names(name, size, width):
    net = build(EncoderSpec(name, size)).eval()
    with torch.no_grad():
        z = net(torch.rand(2, 3, size, size))
    assert z.shape == (2, width) and net.n_features == width and z.isfinite().all()


def test_a_projection_makes_unit_features_whose_maps_have_their_mean():
    net = build(EncoderSpec("small", 16, projection=7)).eval()
    with torch.no_grad():
        z, maps = net(torch.rand(2, 3, 16, 16)), net.maps(torch.rand(2, 3, 16, 16))
    assert z.shape == (2, 7) and net.n_features == 7 and maps.shape[1] == 7
    torch.testing.assert_close(z.norm(dim=1), torch.ones(2))


def test_a_projection_behind_connected_layers_has_no_maps(monkeypatch):
    monkeypatch.setattr(alexnet, "WIDTH", 64)
    plain, longer = (build(EncoderSpec("alexnet-sobel", 96, projection=projection)).eval() for projection in (0, 7))
    with torch.no_grad():
        assert plain.maps(torch.rand(2, 3, 96, 96)).shape == (2, 256, 2, 2) and longer.maps(torch.rand(2, 3, 96, 96)) is None
        assert longer(torch.rand(2, 3, 96, 96)).shape == (2, 7)


def test_every_own_name_is_tried_above():
    tried = {mark.args[1][i][0] for mark in test_own_names.pytestmark for i in range(len(mark.args[1]))}
    assert tried >= set(module.OWN)


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="resnet1800.*small, .*resnet18-cifar.*timm"):
        build(EncoderSpec("resnet1800", 32))


def test_a_timm_model_is_built_headless():
    net = build(EncoderSpec("resnet18", 32)).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 32, 32)).shape == (2, 512) == (2, net.n_features)


def test_sobel_stands_before_the_network_and_behind_the_colours():
    net, x = build(EncoderSpec("small-sobel", 16)).eval().double(), torch.rand(3, 3, 16, 16, dtype=torch.float64)
    net.standardise(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0]))
    edges = Sobel()((x - net.mean.view(3, 1, 1)) / net.deviation.view(3, 1, 1))
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.backbone(edges), **TIGHT)
        torch.testing.assert_close(net.maps(x).mean((2, 3)), net(x), **TIGHT)
    assert not any(key.startswith("front") for key in net.state_dict()), "files of other encoders stay as they are"


def test_sobel_before_a_timm_model():
    net = build(EncoderSpec("resnet18-sobel", 32)).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    with pytest.raises(InputError, match="edges"):
        load_pretrained(net)
    with pytest.raises(InputError, match="precomputed-sobel"):
        build(EncoderSpec("precomputed-sobel", 1))


def test_pixels_are_the_pixels_standardised():
    net = build(EncoderSpec("pixels", 4))
    x = torch.rand(3, 3, 4, 4)
    net.standardise(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0]))
    want = torch.stack([(x[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)])], 1).flatten(1)
    torch.testing.assert_close(net(x), want)


# ---- features


def naive_statistics(pixels: np.ndarray):
    x = pixels.reshape(-1, 3) / 255
    return x.mean(0), np.maximum(x.std(0), 1 / 8)


def test_colour_statistics():
    pixels = PIXELS.copy()
    pixels[..., 2] = 40  # flat
    pixels[..., 1] = pixels[..., 1] // 2
    mean, deviation = colour_statistics(open_images(pixels))
    want = naive_statistics(pixels)
    np.testing.assert_allclose(mean, want[0], atol=1e-6)
    np.testing.assert_allclose(deviation, want[1], atol=1e-6)
    assert float(deviation[2]) == 1 / 8


def test_colour_statistics_of_many_come_from_an_even_spread(monkeypatch):
    monkeypatch.setattr(module, "STATISTICS_FROM", 5)
    pixels = np.arange(100, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    mean, _ = colour_statistics(open_images(pixels))
    np.testing.assert_allclose(mean * 255, np.mean([0, 24, 49, 74, 99]), atol=0.5)


@pytest.mark.parametrize("name", ["small", "pixels"])
def test_features_in_batches_are_features_one_by_one(run, name):
    images = open_images(PIXELS)
    net = run.new("net", build, EncoderSpec(name, 16)).train().double()
    whole = features(net, images, run, batch_size=5)
    assert net.training, "the mode is given back"
    assert whole.dtype == torch.float32 and len(whole) == 23 and not whole.is_inference()
    net.eval()
    with torch.no_grad():
        for i in (0, 7, 22):
            one = net(torch.from_numpy(PIXELS[i : i + 1]).permute(0, 3, 1, 2) / 255)
            torch.testing.assert_close(whole[i : i + 1].double(), one, **ROUNDED)
    torch.testing.assert_close(features(net, images, run, batch_size=23), whole, **ROUNDED)


def test_row_i_is_image_i(run):
    images = open_images(PIXELS)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    net = run.new("net", build, EncoderSpec("small", 16)).double()
    torch.testing.assert_close(features(net, images[order], run), features(net, images, run)[order], **ROUNDED)


def test_features_leave_the_batch_norm_alone(run):
    net = run.new("net", build, EncoderSpec("small", 16)).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    features(net, open_images(PIXELS), run)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_precomputed_features_pass_through(run):
    rows = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32)
    assert np.array_equal(features(build(EncoderSpec("precomputed", 1)), open_rows(rows), run), rows)


# ---- weights


@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder.backbone."])
def test_weights_round_trip(tmp_path, prefix):
    one, other = (build(EncoderSpec("small", 16)) for _ in range(2))
    state = {f"{prefix}{key}": value for key, value in one.backbone.state_dict().items()}
    save_file(state | {"classifier.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(value, one.backbone.state_dict()[key]) for key, value in other.backbone.state_dict().items())


def test_weights_of_a_timm_model_bring_its_colours(tmp_path):
    net = build(EncoderSpec("resnet18", 32))
    save_file(net.backbone.state_dict(), tmp_path / "w.safetensors")
    load_weights(net, tmp_path / "w.safetensors")
    np.testing.assert_allclose(net.mean, [0.485, 0.456, 0.406], atol=1e-3)


def test_weights_that_do_not_fit_are_named(tmp_path):
    save_file(build(EncoderSpec("small", 16)).backbone.state_dict(), tmp_path / "small.safetensors")
    for name in ("small-32", "resnet18-cifar"):
        net = build(EncoderSpec(name, 16))
        before = {key: value.clone() for key, value in net.state_dict().items()}
        with pytest.raises(InputError, match=rf"small.safetensors.*of {name}.*first: \w+"):
            load_weights(net, tmp_path / "small.safetensors")
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_weights_that_are_no_file_are_named(tmp_path):
    (tmp_path / "text.safetensors").write_text("not weights")
    for name in ("text.safetensors", "absent.safetensors", "."):
        with pytest.raises(InputError, match="--weights"):
            load_weights(build(EncoderSpec("small", 16)), tmp_path / name)


def test_own_encoders_have_no_published_weights():
    with pytest.raises(InputError, match="--weights"):
        load_pretrained(build(EncoderSpec("small", 16)))


def test_offline_says_what_to_do(monkeypatch):
    import timm

    net = build(EncoderSpec("resnet18", 32))

    def offline(*args, **more):
        raise OSError("We couldn't connect to huggingface.co")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match="resnet18.*model.safetensors.*--weights"):
        load_pretrained(net, network=True)


def test_pretrained_takes_weights_and_colours(monkeypatch):
    import timm

    net, source = build(EncoderSpec("resnet18", 32)), timm.create_model("resnet18", num_classes=0)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **more: source if pretrained else None)
    load_pretrained(net, network=True)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in net.backbone.state_dict().items())
    np.testing.assert_allclose(net.mean, [0.485, 0.456, 0.406], atol=1e-3)


def test_own_encoders_need_no_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", types.SimpleNamespace())
    build(EncoderSpec("small", 16)), build(EncoderSpec("resnet18-cifar", 16))


def test_residual_blocks_equal_their_formula():
    """One basic block by hand: relu(bn(conv(relu(bn(conv(x))))) + short(x))."""
    net = CifarResNet(18).eval().double()
    block = net.blocks[2]
    x = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    convs = [part for part in block.body if isinstance(part, nn.Conv2d)]
    norms = [part for part in block.body if isinstance(part, nn.BatchNorm2d)]
    with torch.no_grad():
        y = torch.relu(norms[0](torch.nn.functional.conv2d(x, convs[0].weight, stride=2, padding=1)))
        y = norms[1](torch.nn.functional.conv2d(y, convs[1].weight, padding=1))
        want = torch.relu(y + block.short(x))
        torch.testing.assert_close(block(x), want, **TIGHT)
    assert net.maps(torch.rand(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 512, 4, 4)


def test_weights_of_a_run(run, tmp_path):
    """Its folder or its file: backbone and colours as they were, for another method to start from."""
    encoder = build(EncoderSpec("small", 16))
    encoder.standardise(torch.tensor([0.2, 0.3, 0.4]), torch.tensor([0.2, 0.3, 0.2]))
    Model(encoder, Heads(128, 3), 16, 128, 3).save(tmp_path / "model.safetensors")
    for place in (tmp_path, tmp_path / "model.safetensors"):
        other = build(EncoderSpec("small", 16))
        load_weights(other, place)
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in encoder.state_dict().items())
    with pytest.raises(InputError, match="resnet18-cifar are not in it"):
        load_weights(build(EncoderSpec("resnet18-cifar", 16)), tmp_path)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_weights(encoder, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name, learns", [("resnet18", "layer4.1"), ("tf_efficientnet_lite0", "blocks.6"), ("vit_tiny_patch16_224", "blocks.11")]
)
def test_a_held_encoder_learns_in_its_last_block_alone(name, learns):
    encoder = build(EncoderSpec(name, 32))
    encoder.hold()
    trained = {key for key, value in encoder.backbone.named_parameters() if value.requires_grad}
    assert trained and all(key.startswith((learns, "conv_head", "bn2", "norm", "fc_norm")) for key in trained)
    assert any(key.startswith(learns) for key in trained)
    before = {key: value.clone() for key, value in encoder.backbone.state_dict().items()}
    encoder.train()
    encoder(torch.rand(4, 3, 32, 32)).sum().backward()
    moved = {key for key, value in encoder.backbone.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.startswith((learns, "bn2")) for key in moved), "a normalisation that should stand still took statistics"
    assert encoder.backbone.training and not encoder.still[0].training
