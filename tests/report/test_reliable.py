"""What lies beside the pictures: attention maps of some, and which images the run found reliable."""

import io

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from coterie.errors import InputError
from coterie.report.charts import draw_dots
from coterie.report.data import read
from coterie.report.layout import Map
from coterie.report.reliable import compare
from coterie.report.thumbnails import HEAT, overlay, pack, pack_maps, unpack, unpack_maps

from .fake_run import blobs, drawings, fake_run


def test_maps_come_back_and_older_runs_have_none():
    maps = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    tensors = pack([7, 9], drawings(np.arange(2), 20)) | pack_maps([7, 9], maps)
    found = unpack_maps(tensors)
    assert list(found) == [7, 9] and np.array_equal(found[9], maps[1]) and list(unpack(tensors)) == [7, 9]
    assert unpack_maps(pack([7], drawings(np.zeros(1, int), 20))) == {}
    for damaged in ({"attention_id": np.array([7])}, {"attention": maps[0]}, {"attention": maps.astype(np.float32)}):
        with pytest.raises(ValueError, match="attention"):
            unpack_maps(tensors | damaged)
    del tensors["attention_id"]
    with pytest.raises(ValueError, match="attention"):
        unpack_maps(tensors)


def test_an_overlay_is_clear_where_its_map_is_nought():
    found = overlay(np.array([[0, 255], [0, 255]], np.uint8))
    image = np.asarray(Image.open(io.BytesIO(found.data)))
    assert found.mime == "image/png" and image.shape == (found.height, found.width, 4)
    assert (image[..., :3] == HEAT).all() and (image[:, 0, 3] == 0).all() and (image[:, -1, 3] == round(255 * 0.72)).all()
    assert (np.diff(image[0, :, 3].astype(int)) >= 0).all() and len(np.unique(image[0, :, 3])) > 8, "soft from left to right"


def test_reliable_images_are_counted_and_placed():
    labels, reliable = np.array([0, 0, 2, 2, 2, -1]), np.array([True, False, True, True, False, False])
    xy = np.array([[0, 0], [1, 0], [0.5, 0.5], [1, 1]], np.float32)
    found = compare(reliable, labels, Map(np.array([0, 1, 3, 5]), xy))
    assert (found.images, found.reliable) == (6, 3) and found.shares == [(0, 2, 1), (2, 3, 2)]
    assert found.every == [(-1, "M976 976h0"), (0, "M24 24h0M976 24h0"), (2, "M500 500h0")] and found.height == 1000
    assert found.kept == [(0, "M24 24h0"), (2, "M500 500h0")]
    assert draw_dots(xy[:0], labels[:0]) == []


def test_reliable_images_of_a_run(looked_at_run, plain_run, labels, tmp_path):
    assert read(plain_run).reliable_N is None, "no trace at all"
    reliable = read(looked_at_run).reliable_N
    assert reliable is not None and reliable.dtype == bool and np.array_equal(reliable, (np.arange(60) % 3 > 0) & (labels != 3))
    features, p = blobs(labels, 4)
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features)
    save_file({"joint-00000": labels[None]}, run / "trace.safetensors")
    assert read(run).reliable_N is None, "a trace of another method"
    save_file({"reliable": np.ones(59, np.uint8)}, run / "trace.safetensors")
    with pytest.raises(InputError, match=r"trace\.safetensors"):
        read(run)
    (run / "trace.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"trace\.safetensors"):
        read(run)
