"""TEMI and TURTLE as a whole: they find the kinds in features that are given or learned, repeat themselves, and survive."""

import numpy as np
import pytest
import torch

from coterie import load
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.methods import method
from coterie.run.files import read_json_lines

from .runs import Killed, bits, die_after, fit, outcome, rows

pytestmark = [pytest.mark.systems, pytest.mark.parametrize("name", ["temi", "turtle"])]
STAGE = {"temi": "information", "turtle": "labelling"}


def planted(seed: int, n: int = 160, k: int = 8, width: int = 40, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around k means, four of which stand in pairs nearer to each other, far from the origin as features behind a ReLU are."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(k, width)) * 2
    middles[1], middles[3] = middles[0] + rng.normal(size=width) * 0.6, middles[2] + rng.normal(size=width) * 0.6
    kinds = np.arange(n) % k
    return (middles[kinds] + rng.normal(size=(n, width)) * noise * 0.5 + 5).astype(np.float32), kinds


def test_finds_planted_kinds(name, tmp_path):
    for seed in range(3):
        z, kinds = planted(seed)
        fit(z, tmp_path / str(seed), name, clusters=8, seed=seed, encoder="precomputed")
        assert metrics.accuracy(kinds, outcome(tmp_path / str(seed))[0]) > 0.95


def test_the_papers_random_start_is_there_and_starts_elsewhere(name, tmp_path):
    z, kinds = planted(0)
    more = {"start": "random", "epochs": 20, "n_heads": 6}
    fit(z, tmp_path / "random", name, clusters=8, encoder="precomputed", **more)
    assert metrics.accuracy(kinds, outcome(tmp_path / "random")[0]) > 0.4
    with pytest.raises(InputError, match="start=middle: there are both, spectral, random"):
        fit(z, tmp_path / "other", name, clusters=8, encoder="precomputed", start="middle")


def test_two_spaces_find_what_neither_shows(name, tmp_path):
    """Each encoder sees two of four kinds as one; side by side all are there, and new rows go where the fitted ones did."""
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % 4
    one, two = (np.eye(2, 6)[kinds // 2] * 5, np.eye(2, 9)[kinds % 2] * 500)
    z = np.hstack([one + rng.normal(size=one.shape), two + 100 * rng.normal(size=two.shape)]).astype(np.float32)
    fit(z, tmp_path / "run", name, clusters=4, encoder="precomputed", spaces="6,9")
    labels, _ = outcome(tmp_path / "run")
    assert metrics.accuracy(kinds, labels) > 0.9
    assert np.array_equal(load(tmp_path / "run").predict(z), labels)
    for bad in ("6,8", "15,", "x", "0,15"):
        with pytest.raises(InputError, match="spaces=.*15 columns"):
            fit(z, tmp_path / f"bad {bad}", name, clusters=4, encoder="precomputed", spaces=bad)


def test_after_a_pretext_the_kinds_of_pictures(name, drawn, tmp_path):
    accuracies = []
    for seed in range(3):
        fit(drawn(), tmp_path / str(seed), name, seed=seed)
        accuracies.append(metrics.accuracy(np.arange(120) % 4, outcome(tmp_path / str(seed))[0]))
    assert np.mean(accuracies) > 0.8 and min(accuracies) > 0.6, accuracies
    lines = [row for row in read_json_lines(tmp_path / "0" / "history.jsonl") if row["stage"] == STAGE[name]]
    assert all(len(row["sizes"]) == 4 and np.isfinite(row["loss"]) for row in lines)
    assert rows(tmp_path / "0")[-len(lines) :] == [(STAGE[name], epoch) for epoch in range(3)]


@pytest.mark.parametrize("after", [1, 21, 22])
def test_killed_and_continued_same_bits(name, tmp_path, monkeypatch, after):
    z, _ = planted(0)
    settings = {"clusters": 8, "encoder": "precomputed"}
    fit(z, tmp_path / "whole", name, **settings)
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(z, tmp_path / "cut", name, **settings)
    torch.manual_seed(1)
    fit(z, tmp_path / "cut", name, **settings)
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")
    fit(z, tmp_path / "other", name, seed=1, **settings)
    assert bits(tmp_path / "other") != bits(tmp_path / "whole")


def test_the_order_of_kinds_is_not_seen(name, tmp_path):
    """Rows sorted by kind, and the same rows shuffled: the same kinds, whatever the order tells."""
    z, kinds = planted(1)
    order = np.argsort(kinds, kind="stable")
    for where, which in (("sorted", order), ("shuffled", np.random.default_rng(0).permutation(len(z)))):
        fit(z[which], tmp_path / where, name, clusters=8, encoder="precomputed")
        assert metrics.accuracy(kinds[which], outcome(tmp_path / where)[0]) > 0.95


@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4), (7, 7)])
def test_a_handful_of_rows(name, tmp_path, n, k):
    done = fit(planted(0, n=n)[0], tmp_path / "run", name, clusters=k, encoder="precomputed")
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


@pytest.mark.parametrize("how", ["all alike", "constant columns", "copies"])
def test_rows_that_tell_nothing(name, tmp_path, how):
    z = planted(0, n=40)[0]
    z = {"all alike": np.ones_like(z), "constant columns": z * (np.arange(40) < 3), "copies": np.repeat(z[:4], 10, 0)}[how]
    done = fit(z.astype(np.float32), tmp_path / "run", name, clusters=4, encoder="precomputed")
    assert sum(done["sizes"]) == 40 and np.isfinite(outcome(tmp_path / "run")[1]).all()


def test_summary_and_page_name_it(name):
    from coterie.methods import SUMMARIES
    from coterie.report.page import METHODS

    assert METHODS[name] == name.upper() and "Adaloglou" in SUMMARIES["temi"] and method(name).fit


def test_options_of_the_papers(name, tmp_path):
    z, kinds = planted(2)
    other = {"temi": {"choice": "loss", "weighted": False}, "turtle": {"warm_start": False}}[name]
    fit(z, tmp_path / "run", name, clusters=8, encoder="precomputed", **other)
    assert metrics.accuracy(kinds, outcome(tmp_path / "run")[0]) > 0.9
