import numpy as np
import pytest
import torch

from coterie.fitting.small import encoded, small
from coterie.images import open_images
from coterie.images.collection import open_rows
from coterie.report import thumbnails
from coterie.run import Run, cached
from coterie.run.devices import Devices

PICTURES = np.random.default_rng(0).integers(0, 255, (9, 40, 40, 3), dtype=np.uint8)
REST = [1, 2, 5, 8]


def run(cache):
    return Run(devices=Devices("cpu", "fp32", 1), cache=cache)


def test_small_pictures_are_means_of_areas():
    pictures = np.random.default_rng(1).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)
    means = pictures.astype(np.float64).reshape(9, 32, 2, 32, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2) / 255
    assert np.allclose(small(open_images(pictures)), means, atol=1e-6)
    assert torch.equal(small(open_images(PICTURES[:, :16, :16])), open_images(PICTURES[:, :16, :16]).batch(torch.arange(9)).pixels_B3HW)


def test_rows_stay_as_they_are():
    rows_ND = torch.arange(6.0).view(2, 3)
    assert torch.equal(small(open_rows(rows_ND)), rows_ND)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_encoded_ones_are_those_of_each_picture_and_made_once(tmp_path, monkeypatch):
    images = open_images(PICTURES)
    alone = encoded(images, REST, run(None))
    assert alone["others_id"].tolist() == REST
    assert same(encoded(images, REST, run(tmp_path)), alone)
    (entry,) = cached.entries(tmp_path)
    assert (entry.kind, entry.n) == (cached.THUMBNAILS, 9)
    monkeypatch.setattr(thumbnails, "pack_others", lambda ids, picture: pytest.fail("they are kept"))
    assert same(encoded(open_images(PICTURES), REST, run(tmp_path)), alone)
    assert encoded(images, list(range(9)), run(tmp_path))["others_id"].tolist() == list(range(9))


def test_no_picture_is_wanted(tmp_path):
    assert encoded(open_images(PICTURES), [], run(tmp_path)) == {} and cached.entries(tmp_path) == []


def test_other_pictures_are_encoded_anew(tmp_path):
    first = encoded(open_images(PICTURES), REST, run(tmp_path))
    assert not same(encoded(open_images(PICTURES[::-1].copy()), REST, run(tmp_path)), first) and len(cached.entries(tmp_path)) == 2


@pytest.mark.parametrize("ids", [[3], [9], [1, 3]])
def test_a_picture_that_was_not_packed_cannot_be_taken(ids):
    packed = thumbnails.pack_others(REST, lambda i: PICTURES[i])
    with pytest.raises(ValueError, match="no small picture"):
        thumbnails.others_of(packed, ids)


def test_a_cache_that_cannot_be_written_is_said_and_costs_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    here = run(tmp_path / "file")
    assert same(encoded(open_images(PICTURES), REST, here), encoded(open_images(PICTURES), REST, run(None)))
    assert ["thumbnails could not be kept in the cache" in row["text"] for row in here.history] == [True]
