import numpy as np
import pytest
import torch

from coterie.images import open_images
from coterie.networks import encoder as networks
from coterie.networks import kept
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import Run, cached
from coterie.run.devices import Devices

PICTURES = np.random.default_rng(0).integers(0, 255, (7, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def run(tmp_path):
    return Run(devices=Devices("cpu", "fp32", 1), cache=tmp_path)


@pytest.fixture
def counted(monkeypatch):
    """How often a network really computed."""
    calls, compute = [], networks.features
    monkeypatch.setattr(networks, "features", lambda *given: calls.append(1) or compute(*given))
    return calls


def test_names_and_number_tell_whether_features_are_likely_kept(run, tmp_path):
    images = open_images(PICTURES)
    assert not kept.likely(tmp_path, images.name, "small", 7)
    kept.features(build(EncoderSpec("small", 16)), images, run)
    assert kept.likely(tmp_path, images.name, "small", 7)
    assert not kept.likely(tmp_path, images.name, "small-32", 7) and not kept.likely(tmp_path, images.name, "small", 8)


def test_the_second_time_they_come_from_the_cache(run, counted):
    encoder, images = build(EncoderSpec("small", 16)), open_images(PICTURES)
    first = kept.features(encoder, images, run)
    again = kept.features(encoder, open_images(PICTURES), run)
    assert len(counted) == 1 and torch.equal(first, again) and first.dtype == torch.float32


def test_other_pictures_weights_or_sizes_are_another_matter(run, counted):
    encoder = build(EncoderSpec("small", 16))
    kept.features(encoder, open_images(PICTURES), run)
    kept.features(encoder, open_images(PICTURES[:6]), run)
    kept.features(build(EncoderSpec("small", 16)), open_images(PICTURES), run)  # drawn anew
    kept.features(encoder, open_images(PICTURES, size=12), run)
    assert len(counted) == 4 == len(cached.entries(run.cache))


def test_a_damaged_file_is_made_again(run, counted):
    encoder, images = build(EncoderSpec("small", 16)), open_images(PICTURES)
    first = kept.features(encoder, images, run)
    (entry,) = cached.entries(run.cache)
    content = bytearray(entry.path.read_bytes())
    content[-9] ^= 4
    entry.path.write_bytes(content)
    assert torch.equal(kept.features(encoder, images, run), first) and len(counted) == 2
    assert cached.entries(run.cache)[0] == entry


def test_cleared_and_without_a_cache(run, counted):
    encoder, images = build(EncoderSpec("small", 16)), open_images(PICTURES)
    kept.features(encoder, images, run)
    assert cached.clear(run.cache) > 7 * 128 * 4 and cached.entries(run.cache) == []
    kept.features(encoder, images, Run(devices=Devices("cpu", "fp32", 1)))
    assert cached.entries(run.cache) == [] and len(counted) == 2


def test_what_has_a_damaged_header_is_listed_too(run):
    kept.features(build(EncoderSpec("small", 16)), open_images(PICTURES), run)
    (entry,) = cached.entries(run.cache)
    assert (entry.source, entry.encoder, entry.n) == ("array", "small", 7)
    entry.path.write_bytes(entry.path.read_bytes()[:20])
    assert cached.entries(run.cache)[0][2:5] == ("?", "?", 0)
