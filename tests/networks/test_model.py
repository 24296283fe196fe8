"""The file of a model may be a stranger's: whatever stands in it under a right checksum, it is one line, and no room beyond the file's."""

import resource

import pytest
import torch

from coterie.errors import InputError
from coterie.networks import model
from coterie.networks import weights as encoders
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Heads
from coterie.networks.model import FILE, Model, load
from coterie.run import checkpoint
from coterie.run.devices import Devices


@pytest.fixture
def devices():
    return Devices("cpu", "fp32", 1)


@pytest.fixture
def folder(tmp_path):
    Model(build(EncoderSpec("small", 16)).eval(), Heads(128, 3), 16, 128, 3).save(tmp_path / FILE)
    return tmp_path


def changed(folder, **values):
    checkpoint.save(folder / FILE, checkpoint.load(folder / FILE) | values, keep_previous=False)


def test_a_model_comes_back(folder, devices):
    before, back = checkpoint.load(folder / FILE), load(folder, devices)
    assert (back.image_size, back.n_features, back.n_clusters) == (16, 128, 3)
    assert all(torch.equal(value, before["encoder_state"][name]) for name, value in back.encoder.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18-cifar", "alexnet"])
def test_nothing_is_drawn_that_the_file_replaces(encoder, tmp_path, devices):
    network = build(EncoderSpec(encoder, 64)).eval()
    Model(network, Heads(network.n_features, 3), 64, network.n_features, 3).save(tmp_path / FILE)
    drawn, pixels = torch.get_rng_state(), torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    back = load(tmp_path, devices)
    assert torch.equal(torch.get_rng_state(), drawn)
    with torch.no_grad():
        torch.testing.assert_close(back.encoder(pixels), network(pixels), atol=1e-4, rtol=1e-4)  # channels_last


class Numbered(torch.nn.Module):
    """Knows where things stand, as some networks of timm, which no file holds."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("places", torch.arange(3), persistent=False)


class Plain(Numbered):
    def __init__(self):
        super().__init__()
        del self.places
        self.places = torch.arange(3)


@pytest.mark.parametrize("kind", [Numbered, Plain])
def test_what_no_file_holds_is_built(kind, tmp_path):
    back = model._filled(tmp_path, kind, {"weight": torch.ones(3)})
    assert back.weight.tolist() == [1, 1, 1] and back.places.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "values, says",
    [
        ({"encoder": "no such net"}, "no encoder is called"),
        ({"encoder": "vit_giant_patch14_dinov2"}, "differ"),
        ({"encoder": "eva_giant_patch14_224", "image_size": 4096}, "differ|cannot be built"),
        ({"encoder": "vit_small_patch16_224", "image_size": 17}, "differ|cannot be built"),
        ({"encoder": "small-32"}, "differ"),
        ({"encoder": 3}, "its encoder cannot be"),
        ({"encoder_state": {}}, "differ"),
        ({"encoder_state": []}, "encoder_state cannot be"),
        ({"encoder_state": {"mean": 1}}, "differ"),
        ({"head": "Nothing"}, "head cannot be"),
        ({"head": "MlpHeads"}, "differ"),
        ({"head_state": {"weight": None}}, "differ"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": 1 << 40}, "image_size"),
        ({"image_size": "16"}, "image_size"),
        ({"projection": -1}, "projection"),
        ({"projection": 1 << 50}, "projection"),
        ({"n_clusters": 1 << 29}, "differ"),
        ({"n_features": 1 << 29}, "differ"),
        ({"n_features": True}, "n_features"),
        ({"n_features": None}, "n_features"),
    ],
    ids=str,
)
def test_crafted_contents(folder, devices, values, says):
    changed(folder, **values)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=says):
        load(folder, devices)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20, "more than a gigabyte"  # in kB; on macOS in bytes


def test_a_head_that_takes_other_features(folder, devices):
    changed(folder, n_features=64, head_state=Heads(64, 3).state_dict())
    with pytest.raises(InputError, match="the head takes 64 features"):
        load(folder, devices)


@pytest.mark.parametrize(
    "tree",
    [
        '{"list": ' * 50_000 + "1" + "}" * 50_000,
        '{"tensor": "nowhere"}',
        "{}",
        '{"dict": [[[], 1]]}',
        '{"dict": 3}',
        "[",
        "3",
        '{"list": [null]}',
    ],
    ids=lambda tree: tree[:12],
)
def test_crafted_nestings(tmp_path, devices, tree):
    from safetensors.torch import save

    header = {"format": checkpoint.FORMAT, "tree": tree, "checksum": checkpoint._checksum({}, tree)}
    (tmp_path / FILE).write_bytes(save({}, header))
    with pytest.raises(InputError, match=FILE):
        load(tmp_path, devices)
    with pytest.raises(InputError, match="--weights"):
        encoders.load_weights(build(EncoderSpec("small", 16)), tmp_path)


@pytest.mark.parametrize(
    "state", [{"encoder_state": {}}, {"encoder_state": {"mean": torch.zeros(4)}}, {"encoder_state": {"a": 1}}, {}, []], ids=str
)
def test_crafted_weights(tmp_path, state):
    checkpoint.save(tmp_path / FILE, state)
    with pytest.raises(InputError, match="--weights"):
        encoders.load_weights(build(EncoderSpec("small", 16)), tmp_path)
