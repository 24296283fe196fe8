"""PCP as a whole on tiny drawn pictures: it finds the kinds, repeats itself, survives, and every option of its tables runs."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from coterie import fitting
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.evaluate.labels import Labels
from coterie.evaluate.protocol import curves, purities
from coterie.methods import pcp
from coterie.report.data import read
from coterie.report.page import page
from coterie.run.devices import Devices
from coterie.run.files import read_json_lines

from .runs import Killed, bits, die_after, fit, made_once, outcome, rows

pytestmark = pytest.mark.systems
SHORT = {"epochs": 4, "batch": 16, "final": "k-means"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn):
    return made_once(tmp_path_factory, drawn(), "pcp")


@pytest.fixture(scope="module")
def brief(tmp_path_factory, drawn):
    """Of half the pictures, where it does not matter how good a fit is."""
    return made_once(tmp_path_factory, drawn(60), "pcp")


def told(folder) -> list[dict]:
    return [row for row in read_json_lines(folder / "history.jsonl") if row["stage"] == "purification"]


def test_finds_the_kinds(whole):
    accuracies = [metrics.accuracy(np.arange(120) % 4, outcome(whole(seed))[0]) for seed in range(3)]
    assert np.mean(accuracies) > 0.75 and min(accuracies) > 0.5, accuracies


def test_clusters_grow_and_past_ones_vote(whole):
    lines = told(whole(0))
    counts = [row["clusters"] for row in lines]
    assert counts[0] == 120 and counts == sorted(counts, reverse=True) and counts[-1] == 4
    assert lines[0]["kept"] == 0, "each image on its own"
    assert all(abs(row["reliable"] - row["removed"] + row["added"] - row["kept"]) < 0.02 for row in lines), "lone ones that go apart"
    half = len(lines) // 2
    assert not any(row["removed"] + row["added"] for row in lines[: half + 1]), "no vote before there is anything to vote with"
    assert sum(row["removed"] + row["added"] for seed in range(3) for row in told(whole(seed))[half + 1 :]) > 0


def test_same_seed_same_bits_other_seed_other_bits(drawn, brief, tmp_path):
    fit(drawn(60), tmp_path / "again", method="pcp", seed=0)
    assert bits(tmp_path / "again") == bits(brief(0))
    assert len({bits(brief(seed)) for seed in range(2)}) == 2


@pytest.mark.parametrize("after", [1, 6, 7, 8], ids=lambda n: f"after line {n}")
def test_killed_and_continued_same_bits(drawn, brief, tmp_path, monkeypatch, after):
    """Past clusterings are remembered from line 5 on, and vote from line 7 on."""
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "run", method="pcp", seed=0)
    torch.manual_seed(1)
    fit(drawn(60), tmp_path / "run", method="pcp", seed=0)
    assert bits(tmp_path / "run") == bits(brief(0))


def test_rounds_go_on_with_few_clusters_and_show_where_they_looked(drawn, tmp_path, monkeypatch):
    settings = SHORT | {"rounds": 3, "epochs": 4}
    with monkeypatch.context() as patch:
        die_after(patch, 10)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "run", method="pcp", **settings)
    fit(drawn(60), tmp_path / "run", method="pcp", **settings)
    assert [row["clusters"] for row in told(tmp_path / "run")][4:] == [4] * 8
    found = read(tmp_path / "run")
    assert found.rounds and all(maps.shape[0] == 3 for maps in found.rounds.values()) and set(found.rounds) == set(found.attention)
    assert "after round 3" in page(found)
    fit(drawn(60), tmp_path / "whole", method="pcp", **settings)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
    pictures = [load_file(tmp_path / name / "pictures.safetensors")["attention_rounds"] for name in ("run", "whole")]
    assert np.array_equal(*pictures)


@pytest.mark.parametrize(
    "option",
    [
        {"progressive": False, "keep_share": 1.0, "vote": False, "warm_up": 0.0},
        {"keep_share": 1.0, "vote": False},
        {"vote": False},
        {"vote_signed": False, "vote_drop": 1.5, "vote_add": 1.0},
        {"bank_start": "noise"},
        {"cluster_view": "augmented"},
        {"log_outside": False},
        {"warm_up": 1.0},
        {"floor": 1000},
        {"floor": 1, "vote_window": 1, "vote_from": 0.0},
        {"projection": 8},
        {"final": "diffusion", "final_neighbors": 3, "final_steps": 2},
        {"pretext": "spreading", "pretext_epochs": 1},
    ],
    ids=str,
)
def test_every_row_of_the_tables_is_an_option(drawn, tmp_path, option):
    done = fit(drawn(24), tmp_path / "run", method="pcp", **SHORT | {"epochs": 3} | option)
    assert sum(done["sizes"]) == 24
    assert all(np.isfinite(row["loss"]) for row in told(tmp_path / "run"))


@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4)])
def test_a_handful_of_pictures(drawn, tmp_path, n, k):
    done = fit(drawn(n), tmp_path / "run", method="pcp", clusters=k, epochs=3)
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


def test_grey_pictures_and_copies(drawn, tmp_path):
    """Ten pictures, five times each: fewer distinct rows than clusters at the start."""
    done = fit(np.tile(drawn(10)[..., 0], (5, 1, 1)), tmp_path / "run", method="pcp", **SHORT)
    assert sum(done["sizes"]) == 50


def test_predicts_what_it_fitted(drawn, whole):
    _, _, p = fitting.predict(whole(0), drawn(), Devices("cpu", "fp32", 1))
    assert np.array_equal(p.argmax(1).numpy(), outcome(whole(0))[0])


def test_a_time_budget_ends_it_in_time(drawn, tmp_path, monkeypatch):
    """The schedule goes by the clock, which stands at the end of the last round here."""
    rates = []
    monkeypatch.setattr(pcp, "set_rate", lambda optimizer, rate: rates.append(rate))
    done = fit(drawn(), tmp_path / "run", method="pcp", budget=0.01, epochs=1000, rounds=3)
    assert sum(done["sizes"]) == 120 and len(told(tmp_path / "run")) == 1
    assert told(tmp_path / "run")[0]["clusters"] == 4 and rates == [pytest.approx(0.03 / 100)]


def test_purity_is_of_the_clusters_that_keep_something(whole):
    """By hand: cluster 0 holds three of a kind and one other, which is not kept; cluster 1 keeps nobody."""
    truth = Labels(np.array([0, 0, 0, 1, 1, 0, -1]), ["a", "b"])
    trace = {"purified-00002": torch.tensor([[0, 0, 0, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0, 1]]), "purified-00003": torch.zeros(2, 7)}
    assert purities(truth, trace) == [[2, 0.75, 1.0]] and curves(truth, trace) == {}
    found = load_file(whole(0) / "trace.safetensors")
    every = purities(Labels(np.arange(120) % 4, list("abcd")), {name: torch.from_numpy(rows) for name, rows in found.items()})
    assert every and all(0 <= share <= 1 for row in every for share in row[1:])


def test_features_are_refused(tmp_path):
    with pytest.raises(InputError, match="precomputed"):
        fit(np.eye(20, dtype=np.float32), tmp_path / "run", method="pcp", encoder="precomputed")


@pytest.mark.parametrize("option", [{"bank_start": "zero"}, {"final": "best"}, {"keep_share": 2.0}], ids=str)
def test_an_unknown_word_is_refused(drawn, tmp_path, option):
    with pytest.raises(InputError, match="bank_start|final|share"):
        fit(drawn(20), tmp_path / "run", method="pcp", **SHORT | {"epochs": 1} | option)


def test_voting_happens_in_every_preset():
    from coterie.fitting import config, presets

    for preset in presets.KINDS:
        for n in (200, 5_000, 60_000):
            for gpu in (False, True):
                made = config.change(pcp.Config(), presets.settings("pcp", preset, n, gpu))
                remembered = [epoch for epoch in range(made.epochs) if epoch / made.epochs >= made.vote_from]
                assert len(remembered) > pcp.ballot(made).window, f"{preset}, {n} images"


def test_shares_of_a_round_are_the_same_in_each(drawn, tmp_path, monkeypatch):
    """The rate falls at the same epochs of the fifth round as of the first, whatever the fractions round to."""
    rates = []
    monkeypatch.setattr(pcp, "set_rate", lambda optimizer, rate: rates.append(rate))
    fit(drawn(8), tmp_path / "run", method="pcp", **SHORT | {"epochs": 5, "rounds": 5})
    assert len(rates) == 25 and rates == rates[:5] * 5 and len(set(rates)) == 3


def test_bounds_shrink_with_the_window():
    votes = pcp.ballot(pcp.Config(epochs=8))
    assert votes.window == 2 and votes.add_from == pytest.approx(3.0 * (1 + 0.8 + 0.64) / sum(0.8**k for k in range(16)))
    published = pcp.ballot(pcp.Config(epochs=200))
    assert (published.window, published.add_from, published.drop_below) == (15, 3.0, 0.0)


@pytest.mark.parametrize("method, stages", [("ir", 1), ("is", 1), ("and", 3), ("idfd", 1)])
def test_the_instance_level_systems(drawn, tmp_path, monkeypatch, method, stages):
    more = {"anchor_rounds": 3, "anchor_neighbors": 2} if method == "and" else {}
    fit(drawn(), tmp_path / "whole", method=method, **more)
    assert metrics.accuracy(np.arange(120) % 4, outcome(tmp_path / "whole")[0]) > 0.4
    assert len({stage for stage, _ in rows(tmp_path / "whole")}) == stages and len(rows(tmp_path / "whole")) == 6
    with monkeypatch.context() as patch:
        die_after(patch, 4)
        with pytest.raises(Killed):
            fit(drawn(), tmp_path / "cut", method=method, **more)
    fit(drawn(), tmp_path / "cut", method=method, **more)
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")
    with pytest.raises(InputError, match="precomputed"):
        fit(np.eye(20, dtype=np.float32), tmp_path / "features", method=method, encoder="precomputed")


def test_instance_discrimination_against_drawn_images(drawn, tmp_path):
    """The constant of the softmax is estimated once, and is part of the state."""
    fit(drawn(60), tmp_path / "run", method="ir", negatives=16)
    losses = [row["loss"] for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "pretext"]
    assert losses[-1] < losses[0]


def test_the_papers_sum_of_logs_is_not_shortened_in_silence(drawn, tmp_path):
    """Its gradient grows with the size of the clusters: what the bound cuts is counted, and said when it is most of them."""
    settings = SHORT | {"epochs": 6, "warm_up": 0.0, "vote": False, "progressive": False, "floor": 4, "keep_share": 1.0, "rate": 1e-5}
    done = {}
    for name, more in {"sum": {"log_outside": False}, "free": {"log_outside": False, "clip": 0}, "code": {}}.items():
        done[name] = fit(drawn(60), tmp_path / name, method="pcp", **settings | more)
    shares = {name: [row.get("clipped", 0.0) for row in told(tmp_path / name)] for name in done}
    assert min(shares["sum"]) > 0.5 and shares["free"] == shares["code"] == [0.0] * 6
    assert {name: any("clip=" in line for line in one["health"]) for name, one in done.items()} == {
        "sum": True,
        "free": False,
        "code": False,
    }
