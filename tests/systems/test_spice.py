"""SPICE as a whole on tiny drawn pictures: it finds the kinds, repeats itself, survives, and every option of its ablations runs."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from coterie.clustering.kmeans import pca_whiten
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.methods import spice
from coterie.run import checkpoint
from coterie.run.files import read_json_lines

from .runs import Killed, bits, die_after, fit, made_once, outcome, rows

pytestmark = pytest.mark.systems
SHORT = {"pretext_epochs": 1, "head_epochs": 1, "head_steps": 1, "joint_epochs": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn):
    return made_once(tmp_path_factory, drawn(), "spice")


BRIEF = {"n_heads": 3, "head_repeats": 2}  # where it does not matter how good a fit is


@pytest.fixture(scope="module")
def brief(tmp_path_factory, drawn):
    return made_once(tmp_path_factory, drawn(60), "spice", **BRIEF)


def notes(folder) -> list[str]:
    return [row["text"] for row in read_json_lines(folder / "history.jsonl") if row["stage"] == "note"]


def test_finds_the_kinds(whole):
    accuracies = [metrics.accuracy(np.arange(120) % 4, outcome(whole(seed))[0]) for seed in range(3)]
    assert np.mean(accuracies) > 0.8 and min(accuracies) > 0.6, accuracies


def test_its_stages_and_what_they_tell(whole):
    told = read_json_lines(whole(0) / "history.jsonl")
    stages = [row["stage"] for row in told if row["stage"] != "note"]
    assert stages == ["pretext"] * 4 + ["prototypes"] * 3 + ["joint"] * 2
    heads = [row for row in told if row["stage"] == "prototypes"]
    assert all(len(row["scores"]) == 10 and min(row["scores"]) > row["score"] - 1e-4 for row in heads)
    assert any("images are reliable" in note for note in notes(whole(0)))
    assert load_file(whole(0) / "trace.safetensors")["prototypes-00002"].shape == (10, 120)


def test_same_seed_same_bits_other_seed_other_bits(drawn, brief, tmp_path):
    fit(drawn(60), tmp_path / "again", method="spice", seed=0, **BRIEF)
    assert bits(tmp_path / "again") == bits(brief(0))
    assert len({bits(brief(seed)) for seed in range(2)}) == 2


@pytest.mark.parametrize("after", [4, 5, 7, 8, 9], ids=lambda n: f"after line {n}")
def test_killed_and_continued_same_bits(drawn, brief, tmp_path, monkeypatch, after):
    """Lines 1 to 4 are the pretext's, 5 to 7 the prototypes', 8 and 9 the joint stage's."""
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "run", method="spice", seed=0, **BRIEF)
    torch.manual_seed(1)
    fit(drawn(60), tmp_path / "run", method="spice", seed=0, **BRIEF)
    assert bits(tmp_path / "run") == bits(brief(0))


@pytest.mark.parametrize(
    "option",
    [
        {"overlap": False},
        {"core_share": 0.3, "core_share_end": 0.9, "head_epochs": 3},
        {"double_softmax": False},
        {"double_softmax": False, "temperature": 0.2},
        {"entropy_above": 0},
        {"label_view": "strong", "train_view": "weak"},
        {"n_heads": 1},
        {"n_heads": 1, "train_encoder": True},
        {"train_encoder": True},
        {"select_reliable": False},
        {"reliable_balance": True, "reliable_bar": 0.5},
        {"joint_init": "random", "joint_encoder": "wrn-28-2"},
        {"pretext": "moco", "augment": "moco"},
        {"augment": "glyphs"},
    ],
    ids=str,
)
def test_every_ablation_of_the_paper_is_an_option(drawn, tmp_path, option):
    done = fit(drawn(40), tmp_path / "run", method="spice", **SHORT | option)
    assert sum(done["sizes"]) == 40


def test_the_encoder_stays_frozen_in_the_second_stage(drawn, tmp_path):
    """Its weights and its batch-norm statistics are those of the pretext, whatever the heads did; and not so when it is to learn."""
    fits = {
        "none": {"head_epochs": 0},
        "heads": {"head_epochs": 3},
        "encoder": {"head_epochs": 1, "train_encoder": True, "encoder_rate": 1e-2},
    }
    states = {}
    for name, settings in fits.items():
        fit(drawn(40), tmp_path / name, method="spice", **SHORT | {"joint_epochs": 0} | settings)
        states[name] = checkpoint.load(tmp_path / name / "model.safetensors")["encoder_state"]
    assert any("running_mean" in key for key in states["none"])
    assert all(torch.equal(states["none"][key], states["heads"][key]) for key in states["none"])
    assert not all(torch.equal(states["none"][key], states["encoder"][key]) for key in states["none"])


def test_no_reliable_image_is_told_and_stage_two_returned(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(spice, "reliable", lambda z, p, *_: torch.full((len(p),), -1))
    done = fit(drawn(40), tmp_path / "run", method="spice", **SHORT)
    assert any("no image is reliable" in warning for warning in done["health"])
    assert "joint" not in {stage for stage, _ in rows(tmp_path / "run")}


def test_a_cluster_without_reliable_images_is_told(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(spice, "reliable", lambda z, p, *_: torch.where(p.argmax(1) == 1, -1, p.argmax(1)))
    done = fit(drawn(40), tmp_path / "run", method="spice", **SHORT)
    assert any("no image of cluster 1 is reliable" in warning for warning in done["health"])
    assert ("joint", 0) in rows(tmp_path / "run")


def test_a_joint_stage_that_loses_the_neighbours_is_undone(drawn, tmp_path, monkeypatch):
    settings = SHORT | {"pretext_epochs": 8, "head_epochs": 3, "head_steps": 4}
    fit(drawn(), tmp_path / "before", method="spice", **settings | {"joint_epochs": 0})
    monkeypatch.setattr(spice, "reliable", lambda z, p, *_: torch.arange(len(p)) % 3)
    fit(drawn(), tmp_path / "run", method="spice", **settings | {"joint_epochs": 6, "average_epochs": 0.01})
    assert any("joint stage is undone" in note for note in notes(tmp_path / "run")), notes(tmp_path / "run")
    assert np.array_equal(outcome(tmp_path / "run")[0], outcome(tmp_path / "before")[0])


@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4)])
def test_a_handful_of_pictures(drawn, tmp_path, n, k):
    done = fit(drawn(n), tmp_path / "run", method="spice", clusters=k, **SHORT)
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


def test_more_than_a_hundred_clusters_ask_for_the_entropy_term(tmp_path):
    """105 clusters of few rows: heads that must use all of them leave fewer empty."""
    rows_ND = np.random.default_rng(0).normal(size=(420, 16)).astype(np.float32)
    settings = {"encoder": "precomputed", "head_epochs": 4, "n_heads": 2, "head_batch": 420}
    empty = {
        above: fit(rows_ND, tmp_path / str(above), method="spice", clusters=105, entropy_above=above, **settings)["sizes"].count(0)
        for above in (100, 1000)
    }
    assert empty[100] <= empty[1000], empty


def test_precomputed_features_are_clustered_by_the_heads_alone(tmp_path):
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    rows_ND = (np.eye(3, 8)[kinds] * 4 + rng.normal(size=(90, 8))).astype(np.float32)
    fit(rows_ND, tmp_path / "run", method="spice", clusters=3, encoder="precomputed", head_epochs=5)
    assert metrics.accuracy(kinds, outcome(tmp_path / "run")[0]) > 0.95
    assert {stage for stage, _ in rows(tmp_path / "run")} == {"prototypes"}


def test_heads_of_wide_features_learn_narrow_ones(tmp_path, monkeypatch):
    """The 1,280 dimensions of a large network: ten heads that wide would take half an hour for a few hundred rows."""
    rng = np.random.default_rng(0)
    kinds = np.arange(90) % 3
    rows_ND = (4 * rng.normal(size=(3, 1280))[kinds] + rng.normal(size=(90, 1280))).astype(np.float32)
    made, widened = [], spice.narrow.widened
    monkeypatch.setattr(spice.narrow, "widened", lambda head, axes_Dd: made.append((head, widened(head, axes_Dd))) or made[-1][1])
    fit(rows_ND, tmp_path / "run", method="spice", clusters=3, encoder="precomputed", head_epochs=10)
    ((head, whole),) = made
    assert (head.hidden.weight.shape[2], whole.hidden.weight.shape[2]) == (90, 1280)
    assert metrics.accuracy(kinds, whole(torch.from_numpy(rows_ND))[0].argmax(1).numpy()) == 1
    assert metrics.accuracy(kinds, outcome(tmp_path / "run")[0]) == 1


@pytest.mark.parametrize("option", [{"label_view": "blurred"}, {"joint_init": "zero"}, {"joint_encoder": "wrn-28-2"}], ids=str)
def test_an_unknown_word_is_refused(drawn, tmp_path, option):
    with pytest.raises(InputError, match="label_view|joint_init"):
        fit(drawn(20), tmp_path / "run", method="spice", **SHORT | option)


def test_prototypes_are_compared_among_whitened_features():
    z_ND = torch.randn(200, 9, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 10)) + 3
    for components, n_clusters, width in ((4, 2, 4), (4, 3, 6), (32, 2, 9)):
        config = spice.Config(n_clusters=n_clusters, components=components)
        torch.testing.assert_close(spice.comparable(z_ND, config), pca_whiten(z_ND, width))
        assert spice.comparable(z_ND[:25], config).shape == (25, 2), "one component for ten images, and two at least"
    for as_they_are in ({"components": 0}, {"encoder": "precomputed"}):
        assert spice.comparable(z_ND, spice.Config(**as_they_are)) is z_ND
    assert spice.comparable(z_ND[:1], spice.Config()).shape == (1, 9)
