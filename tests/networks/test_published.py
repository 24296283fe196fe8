"""Published weights: of a package, of the hub's cache, of the hub; on files with random weights, and on the package itself where it is."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from coterie.errors import InputError
from coterie.images import open_images
from coterie.networks import published, weights
from coterie.networks.encoder import EncoderSpec, SideBySide, build, features, hub_of, of_timm
from coterie.run import Run
from coterie.run.devices import Devices

HERE = published.in_package("lite0") is not None
with_extra = pytest.mark.skipif(not HERE, reason="the extra coterie[photos] is not installed")
DAISY, BELL_COTE = 985, 442  # ImageNet's classes of scikit-learn's two photographs
STORED_LENGTHS, STORED_TOP = (26.11634, 26.07986), [303, 354, 1118, 486, 1221]  # of flower.jpg: its five largest features, in order


@pytest.fixture
def run():
    return Run(devices=Devices("cpu", "fp32", 1))


@pytest.fixture
def nothing_here(monkeypatch):
    """A machine without packages of weights and with an empty cache of the hub."""
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    monkeypatch.setattr(published, "in_hub_cache", lambda repository: None)


def photographs(size: int) -> np.ndarray:
    pictures = open_images([load_sample_image(name) for name in ("flower.jpg", "china.jpg")], size=size)
    return pictures.pixels.numpy()


@with_extra
def test_the_package_sees_what_is_on_a_photograph():
    """The tensors lie in the right places: the network with its classifier knows a daisy and a bell tower."""
    net = of_timm(EncoderSpec("lite0", 160), n_classes=1000)
    given = torch.load(published.in_package("lite0"), weights_only=True)
    net.load_state_dict(dict(zip(net.state_dict(), given.values())))
    with torch.inference_mode():
        logits = net.eval()(torch.from_numpy(photographs(160)).permute(0, 3, 1, 2) / 127.5 - 1)
    assert DAISY in logits[0].topk(5).indices and logits[1].argmax() == BELL_COTE


@with_extra
def test_what_the_package_computes(run):
    """The stored feature of one photograph, through all that a fit uses: opening, standardising, folding."""
    encoder = build(EncoderSpec("lite0", 160))
    weights.load_pretrained(encoder)
    z_ND = features(encoder, open_images(photographs(160)), run)
    assert encoder.mean.tolist() == encoder.deviation.tolist() == [0.5] * 3
    np.testing.assert_allclose(z_ND.norm(dim=1), STORED_LENGTHS, rtol=1e-3)
    top = z_ND[0].topk(5).indices.tolist()
    assert top == STORED_TOP


@with_extra
def test_a_file_that_is_another_is_refused(monkeypatch):
    monkeypatch.setitem(published.PUBLISHED, "lite0", replace(published.PUBLISHED["lite0"], sha256="0" * 64))
    with pytest.raises(InputError, match="sha256 differs"):
        weights.load_pretrained(build(EncoderSpec("lite0", 32)))


def test_a_package_of_any_names_is_taken_in_order(tmp_path, monkeypatch):
    """A made-up package: timm's tensors of lite0 under other names, drawn at random."""
    source = of_timm(EncoderSpec("lite0", 32), n_classes=1000)
    file = tmp_path / "weights.pth"
    torch.save({f"tensor.{i}": value for i, value in enumerate(source.state_dict().values())}, file)
    monkeypatch.setattr(weights.published, "in_package", lambda name: file)
    known = replace(published.PUBLISHED["lite0"], sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setitem(published.PUBLISHED, "lite0", known)
    encoder = build(EncoderSpec("lite0", 32))
    weights.load_pretrained(encoder)
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


@pytest.mark.parametrize("name", ["dinov2-small", "siglip-base", "mobileclip-s0", "convnext-tiny"])
def test_the_table_names_what_timm_has(name):
    known = published.PUBLISHED[name]
    assert hub_of(name) is not None and not known.package
    with torch.device("meta"):
        assert of_timm(EncoderSpec(name, known.px)).num_features == known.n_features


def test_weights_of_the_hubs_cache(tmp_path, monkeypatch):
    """A file that lies there is loaded without the network; here it holds random weights."""
    source = of_timm(EncoderSpec("resnet18", 32), n_classes=1000)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(published, "in_hub_cache", lambda repository: tmp_path / "model.safetensors")
    encoder = build(EncoderSpec("resnet18", 32))
    weights.load_pretrained(encoder)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in encoder.backbone.state_dict().items())


def test_without_weights_and_without_leave_for_the_network(nothing_here):
    with pytest.raises(InputError, match="pip install 'coterie\\[photos\\]'"):
        weights.load_pretrained(build(EncoderSpec("lite0", 32)))
    with pytest.raises(InputError, match=r"not on this machine; --set pretrained=true .* --weights FILE"):
        weights.load_pretrained(build(EncoderSpec("resnet18", 32)))
    assert not weights.is_here("lite0") and not weights.is_here("lite0+lite1")


def test_two_encoders_side_by_side(run):
    both, images = (
        build(EncoderSpec("small+small-32", 16)),
        open_images(np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8)),
    )
    both.standardise(torch.full((3,), 0.4), torch.full((3,), 0.2))
    z_ND = features(both, images, run)
    assert isinstance(both.backbone, SideBySide) and z_ND.shape == (5, 128 + 256) == (5, both.n_features)
    for one, part in zip(both.parts, z_ND.split([128, 256], 1)):
        torch.testing.assert_close(part, torch.nn.functional.normalize(features(one, images, run)), atol=1e-4, rtol=1e-3)
        assert one.mean.tolist() == pytest.approx([0.4] * 3)


def test_half_a_pair_is_refused():
    with pytest.raises(InputError, match="both sides"):
        build(EncoderSpec("small+", 16))
