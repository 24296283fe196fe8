"""Attention maps: cosine of every place with the centroid of the picture's cluster."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

from coterie.fitting.assignments import Assignments, write_run
from coterie.images import open_images
from coterie.images.collection import open_rows
from coterie.methods.fitted import Fitted
from coterie.networks.attention import LARGEST, attention, attention_maps
from coterie.networks.encoder import Encoder, EncoderSpec, build, features
from coterie.networks.heads import Heads
from coterie.networks.model import Model
from coterie.report.choice import attended, central, choose
from coterie.run import Run
from coterie.run.devices import Devices

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
LABELS = torch.arange(20) % 3


@pytest.fixture(scope="module")
def images():
    return open_images(PIXELS)


@pytest.fixture(scope="module")
def run():
    return Run(devices=Devices("cpu", "fp32", 1))


def made(name: str, size: int = 64) -> Encoder:
    torch.manual_seed(0)
    return build(EncoderSpec(name, size)).eval()


def naive(maps_Dhw: list, centroid_D: list) -> list:
    """One picture, a place at a time."""
    d, h, w = len(maps_Dhw), len(maps_Dhw[0]), len(maps_Dhw[0][0])
    cosines = []
    for y in range(h):
        for x in range(w):
            place = [maps_Dhw[c][y][x] for c in range(d)]
            dot = sum(a * b for a, b in zip(place, centroid_D))
            norms = math.sqrt(sum(a * a for a in place)) * math.sqrt(sum(b * b for b in centroid_D))
            cosines.append(max(0.0, dot / norms))
    low, high = min(cosines), max(cosines)
    stretched = [(cosine - low) / (high - low) for cosine in cosines]
    return [stretched[y * w : (y + 1) * w] for y in range(h)]


def test_each_place_against_a_loop():
    rng = torch.Generator().manual_seed(1)
    maps, centroids = torch.randn(4, 6, 3, 5, generator=rng), torch.randn(4, 6, generator=rng)
    found = attention(maps, centroids)
    for p in range(4):
        torch.testing.assert_close(found[p], torch.tensor(naive(maps[p].tolist(), centroids[p].tolist())), rtol=1e-4, atol=1e-5)
    assert (found == 0).sum() > 4, "whatever points away counts as 0, not only the least place of each picture"


def test_a_map_that_is_alike_everywhere_is_empty():
    assert attention(torch.ones(1, 4, 3, 3), torch.ones(1, 4)).abs().max() == 0
    assert attention(-torch.ones(1, 4, 3, 3), torch.ones(1, 4)).abs().max() == 0
    assert attention(torch.zeros(1, 4, 3, 3), torch.ones(1, 4)).isfinite().all()


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_the_whole_against_a_loop(name, images, run):
    """A backbone of ours, and one of timm; the centroid is the mean of the cluster's unit features, and not of the pictures shown."""
    encoder = made(name).double()  # maps and features do not hang on how many pictures pass at once
    z = features(encoder, images, run)
    ids = [1, 4, 5, 18]
    found = attention_maps(encoder.train(), images, ids, LABELS, z)
    assert found is not None and found.dtype == torch.uint8 and encoder.training
    encoder.eval()
    for i, map_hw in zip(ids, found):
        units = [z[j] / z[j].norm() for j in range(20) if LABELS[j] == LABELS[i]]
        with torch.no_grad():
            maps = encoder.maps(images.batch(torch.tensor([i])).pixels_B3HW)
        assert maps is not None
        torch.testing.assert_close(maps[0].mean((1, 2)), z[i].double(), rtol=1e-6, atol=1e-7)
        wanted = torch.tensor(naive(maps[0].tolist(), (sum(units) / len(units)).tolist()))
        assert wanted.shape == map_hw.shape and ((wanted * 255) - map_hw).abs().max() <= 1


def test_large_maps_are_averaged_down(run):
    images = open_images(np.random.default_rng(1).integers(0, 256, (3, 72, 72, 3), dtype=np.uint8))
    encoder = made("small", 72)
    encoder.backbone = nn.Conv2d(3, 4, 3, padding=1)
    encoder.backbone.maps = encoder.backbone.forward  # type: ignore[assignment]
    z = torch.cat([encoder.maps(b.pixels_B3HW).mean((2, 3)).detach() for b in images.batches(3)])  # type: ignore[union-attr]
    found = attention_maps(encoder, images, [0, 2], torch.zeros(3, dtype=torch.int64), z)
    assert found is not None and found.shape == (2, LARGEST, LARGEST)
    assert found.amax((1, 2)).tolist() == [255, 255] and found.amin((1, 2)).tolist() == [0, 0]


def test_where_there_are_none(images, run):
    z = torch.rand(20, 8)
    assert attention_maps(made("pixels"), images, [1], LABELS, z) is None
    assert attention_maps(made("small"), images, [], LABELS, z) is None
    assert attention_maps(nn.Identity(), images, [1], LABELS, z) is None
    rows = open_rows(np.random.default_rng(0).normal(size=(20, 8)))
    assert attention_maps(made("precomputed"), rows, [1], LABELS, z) is None
    small = open_images(PIXELS[:, :32, :32])
    assert attention_maps(made("resnet18"), small, [1], LABELS, features(made("resnet18"), small, run)) is None, (
        "a single place tells nothing"
    )
    vit = made("test_vit")
    assert attention_maps(vit, images, [1], LABELS, features(vit, images, run)) is None


def test_features_that_are_not_the_mean_of_the_maps_have_no_maps(images):
    encoder = made("small")
    assert attention_maps(encoder, images, [1, 2], LABELS, torch.rand(20, 8)) is None, "of another length"
    z = torch.randn(20, 128, generator=torch.Generator().manual_seed(0))
    assert attention_maps(encoder, images, [1, 2], LABELS, z) is None, "of another network"


def test_a_run_keeps_the_maps_of_its_central_pictures(images, run, tmp_path):
    encoder = made("small")
    fitted = Fitted.from_parts(encoder, Heads(128, 3), features(encoder, images, run))
    model = Model(encoder, fitted.head, 64, 128, 3)
    write_run(tmp_path, images, Assignments(fitted.p_NK, fitted.features_ND, model), run)
    tensors = load_file(tmp_path / "pictures.safetensors")
    labels = fitted.p_NK.argmax(1)
    units = F.normalize(fitted.features_ND).numpy()
    ids = attended(central(choose(fitted.p_NK.numpy(), labels.numpy(), units), labels.numpy(), units), labels.numpy())
    wanted = attention_maps(encoder, images, ids, labels, fitted.features_ND)
    assert wanted is not None and np.array_equal(tensors["attention"], wanted.numpy())
    assert tensors["attention_id"].tolist() == ids and set(ids) <= set(tensors["id"].tolist())
    plain = Model(made("pixels"), Heads(12288, 3), 64, 12288, 3)
    write_run(tmp_path, images, Assignments(fitted.p_NK, torch.rand(20, 12288), plain), run)
    assert sorted(load_file(tmp_path / "pictures.safetensors")) == ["id", "jpeg", "offset"]
