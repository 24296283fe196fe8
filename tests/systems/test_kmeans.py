"""The k-means baseline as a whole."""

import numpy as np
import pytest
from sklearn.cluster import KMeans as Reference

from coterie import fitting, load
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.run.devices import Devices
from coterie.run.files import read_json_lines

from .runs import Killed, bits, die_after, fit, outcome, rows

pytestmark = pytest.mark.systems


def digits() -> np.ndarray:
    from coterie.images.named import load_named

    return load_named("digits").pictures[:600]


def test_as_good_as_another_implementation(tmp_path):
    pictures = digits()
    for seed in range(3):
        fit(pictures, tmp_path / str(seed), "kmeans", clusters=10, seed=seed, image_size=8, restarts=5)
        found = outcome(tmp_path / str(seed))[0]
        rows = pictures.reshape(600, -1) / 255.0
        inertia = sum(((rows[found == k] - rows[found == k].mean(0)) ** 2).sum() for k in range(10))
        assert inertia <= 1.03 * Reference(10, n_init=5, random_state=seed).fit(rows).inertia_


def test_same_seed_same_bits_other_seed_other_bits(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(digits()[:200], tmp_path / name, "kmeans", clusters=10, seed=seed, restarts=1)
    assert bits(tmp_path / "a") == bits(tmp_path / "b") != bits(tmp_path / "c")


@pytest.mark.parametrize("after", [1, 2, 3])
def test_killed_and_continued_same_bits(drawn, tmp_path, monkeypatch, after):
    fit(drawn(), tmp_path / "whole", "kmeans")
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(), tmp_path / "cut", "kmeans")
    fit(drawn(), tmp_path / "cut", "kmeans")
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")
    assert rows(tmp_path / "cut") == [("k-means", i) for i in range(3)]


def test_the_best_restart_is_kept(drawn, tmp_path):
    fit(drawn(), tmp_path / "run", "kmeans", restarts=6)
    lines = [row for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "k-means"]
    best = min(range(6), key=lambda i: (lines[i]["loss"], i))
    assert lines[-1]["best"] == best
    assert sorted(np.bincount(outcome(tmp_path / "run")[0], minlength=4)) == sorted(lines[best]["sizes"])


def test_predicts_what_it_fitted(drawn, tmp_path):
    pictures = drawn()
    fit(pictures, tmp_path / "run", "kmeans")
    _, _, p = fitting.predict(tmp_path / "run", pictures, Devices("cpu", "fp32", 1))
    assert np.array_equal(p.argmax(1).numpy(), outcome(tmp_path / "run")[0])


def test_finds_colours(tmp_path):
    rng = np.random.default_rng(0)
    pictures = (np.eye(3)[np.arange(60) % 3][:, None, None] * 150 + rng.integers(0, 80, (60, 16, 16, 3))).astype(np.uint8)
    fit(pictures, tmp_path / "run", "kmeans", clusters=3)
    labels, p = outcome(tmp_path / "run")
    assert metrics.accuracy(np.arange(60) % 3, labels) == 1.0 and p.max(1).min() > 0.5


def stretched(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds that differ in small columns, beside two larger ones that tell nothing; and the same rows' kinds."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(200) % 4
    rows = np.hstack([np.eye(4)[kinds] * 3 + rng.normal(size=(200, 4)) * 0.3, rng.normal(size=(200, 2)) * 5 + 100])
    return rows.astype(np.float32), kinds


@pytest.mark.parametrize("how", ["plain", "unit", "whitened"])
def test_rows_may_be_plain_unit_or_whitened(tmp_path, how):
    """A model says of the fitted rows what the fit said, however they were seen; whitened, a column with most of the variance decides
    nothing."""
    z, kinds = stretched()
    fit(z, tmp_path / "run", "kmeans", encoder="precomputed", rows=how)
    labels, p = outcome(tmp_path / "run")
    assert np.array_equal(load(tmp_path / "run").predict(z), labels) and np.allclose(p.sum(1), 1, atol=1e-5)
    if how == "whitened":
        assert metrics.accuracy(kinds, labels) > metrics.accuracy(kinds, _plain(z, tmp_path)) + 0.2


def _plain(z: np.ndarray, tmp_path) -> np.ndarray:
    fit(z, tmp_path / "plain", "kmeans", encoder="precomputed")
    return outcome(tmp_path / "plain")[0]


def test_directions_are_seen_from_the_mean(tmp_path):
    """Behind a common offset all rows point one way from the origin; lengths tell nothing."""
    rng = np.random.default_rng(0)
    kinds = np.arange(150) % 3
    z = (np.eye(3, 12)[kinds] - np.eye(3, 12).mean(0) + rng.normal(size=(150, 12)) * 0.1) * rng.uniform(0.2, 5, (150, 1)) + 50
    fit(z.astype(np.float32), tmp_path / "unit", "kmeans", clusters=3, encoder="precomputed", rows="unit")
    assert metrics.accuracy(kinds, outcome(tmp_path / "unit")[0]) > 0.9


def test_rows_of_another_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="rows=long: there are plain, unit, whitened"):
        fit(stretched()[0], tmp_path / "run", "kmeans", encoder="precomputed", rows="long")
