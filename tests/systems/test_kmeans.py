"""The k-means baseline as a whole."""

import numpy as np
import pytest
from sklearn.cluster import KMeans as Reference

from coterie import fitting
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
