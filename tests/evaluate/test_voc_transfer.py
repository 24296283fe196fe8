"""What is learned from an encoder on a tiny set in Pascal VOC's layout; a killed run goes on to the same numbers."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evaluate.voc_files import write
from torch import nn

from coterie.errors import InputError
from coterie.evaluate import transfer, voc_classification, voc_detection, voc_segmentation
from coterie.evaluate.beginning import Connected, Features, Maps, batches
from coterie.evaluate.scores import Scores
from coterie.evaluate.task import Task
from coterie.evaluate.voc import read
from coterie.evaluate.voc_classification import crop, loss_of
from coterie.networks.backbones import alexnet
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.seeding import forked, generator

SIZE = 32
FITS = {
    "classification": voc_classification.classification,
    "detection": voc_detection.detection,
    "segmentation": voc_segmentation.segmentation,
}
MODULES = {"classification": voc_classification, "detection": voc_detection, "segmentation": voc_segmentation}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A detector small enough for a test."""
    monkeypatch.setattr(voc_detection, "WIDTH", 8)
    monkeypatch.setattr(voc_detection, "HIDDEN", 16)


def encoder(name="small", size=SIZE):
    with forked(0, "encoder"):
        return build(EncoderSpec(name, size)).eval().requires_grad_(False)


def run(folder=None):
    return Run(folder, devices=Devices("cpu", "fp32", 1))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write(tmp_path_factory.mktemp("voc") / "VOCtiny", n=8, size=32)


@pytest.fixture(scope="module")
def parts(home):
    train = read(home, "trainval", masks=True)
    return train, read(home, "test", train.classes, masks=True)


def test_classes_that_are_colours_are_learned(parts):
    """Red and blue, which an untrained encoder carries on."""
    found = voc_classification.classification(run(), encoder(), *parts, "all", SIZE, 25)
    assert found["mAP"] > 0.9 and found["n_train"] == found["n_test"] == 8 and {"AP cat", "AP dog"} < set(found)


class Colours(nn.Module):
    """Maps that show the colours of every 4 x 4 pixels, as a planted perfect encoder."""

    def __init__(self):
        super().__init__()
        self.backbone, self.projection = nn.Module(), nn.Identity()
        self.backbone.maps = lambda x: nn.functional.avg_pool2d(x, 4).repeat(1, 16, 1, 1)

    def standardised(self, x):
        return (x - 0.4) / 0.2


def test_places_that_are_colours_are_learned(parts, monkeypatch):
    """Beyond what calling everything ground scores, about 0.3: the mean of nearly 1, 0 and 0."""
    monkeypatch.setattr(voc_segmentation, "RATE", 0.1)  # as few updates as this test can afford
    found = voc_segmentation.segmentation(run(), Colours(), *parts, "all", 48, 55)
    assert found["mean_iou"] > 0.5 and {"IoU ground", "IoU cat", "IoU dog"} < set(found)


def test_boxes_of_a_few_pictures_are_learned_by_heart(home, monkeypatch):
    """Random boxes score nearly nothing. Proposals learn last: until then mAP comes and goes, though the loss falls."""
    few = replace(read(home, "trainval"), images=read(home, "trainval").images[:4])
    for name, value in {"WIDTH": 16, "HIDDEN": 32, "SIDE": 4, "RATE": 0.08}.items():  # as few updates as this test can afford
        monkeypatch.setattr(voc_detection, name, value)
    assert voc_detection.detection(run(), Colours(), few, few, "all", SIZE, 120)["mAP"] > 0.8


class Killed(Exception):
    pass


@pytest.mark.parametrize("name, learn", [("classification", "all"), ("detection", "fc6-8"), ("segmentation", "all")])
def test_killed_and_continued_is_the_same(parts, tmp_path, monkeypatch, name, learn):
    train, test = parts
    whole = FITS[name](run(), encoder(), train, test, learn, SIZE, 2)
    begun = iter(range(9))

    def dying(*given):
        if next(begun):
            raise Killed
        return batches(*given)

    monkeypatch.setattr(MODULES[name], "batches", dying)
    with pytest.raises(Killed):
        FITS[name](run(tmp_path), encoder(), train, test, learn, SIZE, 2)
    monkeypatch.setattr(MODULES[name], "batches", lambda *given: pytest.fail("twice") if next(begun) > 2 else batches(*given))
    assert FITS[name](run(tmp_path), encoder(), train, test, learn, SIZE, 2) == whole


def test_the_encoder_stays_as_it_is_and_only_all_learns_in_the_copy(parts):
    train, test = parts
    given, kept = encoder(), []
    before = copy.deepcopy(given.state_dict())
    for learn in ("fc6-8", "all"):
        maps = Maps(given, learn, SIZE).train()
        optimizer = torch.optim.SGD([*maps.parameters(), nn.Parameter(torch.zeros(1))], 0.1)
        loss = maps(torch.rand(2, 3, SIZE, SIZE, generator=generator(0, "pixels"))).square().mean()
        if learn == "all":
            loss.backward()
        assert loss.requires_grad == (learn == "all")
        optimizer.step()
        kept.append(all(torch.equal(value, before[key]) for key, value in maps.encoder.state_dict().items()))
    assert kept == [True, False]
    assert all(torch.equal(value, before[key]) for key, value in given.state_dict().items())
    assert all(torch.equal(Maps(given, "all", SIZE).train().encoder.state_dict()[key], before[key]) for key in before)


def test_maps_of_alexnet_end_before_the_last_pooling_and_its_connected_layers_judge(monkeypatch):
    monkeypatch.setattr(alexnet, "WIDTH", 16)
    given = encoder("alexnet", 127)
    pixels = torch.rand(2, 3, 127, 127, generator=generator(0, "pixels"))
    maps = Maps(given, "all", 127).eval()(pixels)
    pooled = given.backbone.convolutions[-1](maps)
    assert maps.shape[1:] == (256, 7, 7) and torch.equal(pooled, given.maps(pixels))
    with torch.no_grad():
        whole = Features(given, "all", 127).eval()(pixels)
        assert torch.equal(whole, given(pixels).relu()), "fine-tuning begins with the weights that are there"
        with forked(0, "reset"):
            again = Connected(given, "fc6-8")
    linear = [layer for layer in again.layers if isinstance(layer, nn.Linear)]
    assert all((layer.bias == 0.1).all() and layer.weight.requires_grad for layer in linear)
    with forked(0, "detector"):
        detector = voc_detection.faster_rcnn(given, 2, "fc6-8", 127)
    assert isinstance(detector.roi_heads.box_head, Connected) and detector.roi_heads.box_roi_pool.output_size == (3, 3)
    learning = {name.split(".")[0] for name, weight in detector.named_parameters() if weight.requires_grad}
    assert learning == {"rpn", "roi_heads"}


def test_maps_of_timm_have_16_pixels_a_place():
    assert Maps(encoder("resnet10t", 64), "all", 64)(torch.zeros(1, 3, 64, 96)).shape[2:] == (4, 6)


def test_crops_and_loss():
    picture = torch.arange(40 * 60).float().view(1, 40, 60).expand(3, 40, 60)
    sides = []
    for i in range(50):
        part = crop(picture, 8, generator(i, "crop"))
        assert part.shape == (3, 8, 8) and picture.min() <= part.min() and part.max() <= picture.max()
        sides.append(float((part[0, -1] - part[0, 0]).mean() / 60) * 8 / 7)
    assert np.sqrt(0.1 * 2400) * 0.9 < min(sides) and max(sides) < np.sqrt(0.5 * 2400) * 1.1 and max(sides) > 1.5 * min(sides)
    logits, present = torch.tensor([[2.0, -1.0, 5.0]], dtype=torch.float64), torch.tensor([[1, 0, -1]])
    wanted = (-np.log(1 / (1 + np.exp(-2))) - np.log(1 - 1 / (1 + np.exp(1)))) / 2
    assert float(loss_of(logits, present)) == pytest.approx(wanted, abs=1e-6)


def test_one_line_for_what_cannot_be_learned(parts, home):
    train, test = parts
    for given, learn, said in ((encoder("pixels"), "all", "no maps"), (encoder(), "some", "learn")):
        with pytest.raises(InputError, match=said):
            voc_detection.faster_rcnn(given, 2, learn, SIZE)
    with pytest.raises(InputError, match="differ"):
        voc_classification.classification(run(), encoder(), train, read(home, "test", ["cat"]), epochs=1)


def task(home, folder, on=True):
    def opened(*given):
        pytest.fail("a set of VOC's layout is no source")

    return Task(encoder(), SIZE, "weights", {}, opened, run(), Scores(folder), on=str(home) if on else None)


@pytest.mark.parametrize("name", FITS)
def test_a_protocol_writes_its_numbers_once(home, tmp_path, monkeypatch, name):
    protocol = f"voc-{name}"
    settings = {protocol: type(transfer.default_settings(protocol))(epochs=1, size=SIZE)}
    transfer.transfer(task(home, tmp_path), settings)
    (rows,) = [Scores(tmp_path).rows()]
    assert {row["protocol"] for row in rows} == {protocol} and {row["set"] for row in rows} == {"VOCtiny, test"}
    assert rows[0]["metric"] in transfer.FIRST and not (tmp_path / "work").exists(), "what was learned is not kept"
    monkeypatch.setattr(MODULES[name], "batches", lambda *given: pytest.fail("computed again"))
    transfer.transfer(task(home, tmp_path), settings)
    assert Scores(tmp_path).rows() == rows
    with pytest.raises(InputError, match="--on"):
        transfer.transfer(task(home, tmp_path, on=False), settings)
