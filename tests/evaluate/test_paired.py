"""The paired bootstrap over images and seeds, against draws one by one; and how often its intervals hold the truth."""

from itertools import permutations

import numpy as np
import pytest

from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.evaluate.metrics import right
from coterie.evaluate.paired import paired


def test_right_is_the_best_way_of_pairing_clusters_with_classes():
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(0, 4, 50), rng.integers(0, 6, 50)
    ways = [np.array([way.index(cluster) if cluster in way else -1 for cluster in clusters]) for way in permutations(range(6), 4)]
    most = max((way == labels).sum() for way in ways)
    assert right(labels, clusters).sum() == most and metrics.accuracy(labels, clusters) == most / 50
    assert any(np.array_equal(right(labels, clusters), way == labels) for way in ways)
    assert right(labels, (labels + 1) % 4).all(), "whatever clusters are called"


def test_as_draws_one_by_one():
    rng = np.random.default_rng(1)
    one, other = rng.random((3, 150)) < 0.8, rng.random((3, 150)) < 0.7
    found = paired(one, other, draws=4000)
    assert found["difference"] == pytest.approx(one.mean() - other.mean())
    slow = []
    for _ in range(4000):
        seeds, images = rng.integers(0, 3, 3), rng.integers(0, 150, 150)
        slow.append(one[seeds][:, images].mean() - other[seeds][:, images].mean())
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.01)


def test_what_is_hard_for_both_counts_for_neither():
    """Two methods that differ in one image of a hundred: their own intervals overlap widely, that of the pair is narrow."""
    rng = np.random.default_rng(2)
    other = (rng.random(2000) < 0.6)[None]
    one = other.copy()
    one[0, np.flatnonzero(~other[0])[:20]] = True
    found = paired(one, other)
    assert found["difference"] == pytest.approx(0.01) and 0 < found["low"] < 0.01 < found["high"] < 0.02
    assert paired(one, one) == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert paired(other, one)["difference"] == -found["difference"]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        easy = rng.random(300)
        one, other = (rng.random(300) < easy * 0.9)[None], (rng.random(300) < easy * 0.8)[None]
        found = paired(one, other, seed=trial, draws=300)
        held += found["low"] <= 0.05 <= found["high"]
    assert 0.9 <= held / 200 <= 0.99


def test_repeats_itself_and_refuses_what_makes_no_pair():
    rng = np.random.default_rng(3)
    one, other = rng.random((2, 50)) < 0.5, rng.random((2, 50)) < 0.5
    assert paired(one, other, seed=4) == paired(one, other, seed=4) != paired(one, other, seed=5)
    for bad in (other[:1], other[:, :9], other[0], np.zeros((2, 0))):
        with pytest.raises(InputError, match="wanted two tables"):
            paired(one, bad)
    with pytest.raises(InputError, match="share = 1"):
        paired(one, other, share=1.0)
