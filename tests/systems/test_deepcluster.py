"""DeepCluster as a whole on tiny drawn pictures, both versions: it finds the kinds, repeats itself, survives, and every option runs."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from coterie import fitting
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.images import open_images
from coterie.methods import deepcluster
from coterie.networks.backbones import alexnet
from coterie.run import Run, checkpoint
from coterie.run.devices import Devices
from coterie.run.files import read_json, read_json_lines

from .runs import Killed, bits, die_after, fit, made_once, outcome, rows

pytestmark = pytest.mark.systems
V2 = {"variant": "v2", "views": "crops", "n_heads": 2}
VARIANTS = {"v1": {}, "v2": V2}
SHORT = {"epochs": 2, "restarts": 1, "draws": 1.0, "pseudo_clusters": 8}
both = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn):
    """(variant, seed) -> the folder of an uninterrupted fit."""
    made = {variant: made_once(tmp_path_factory, drawn(), "deepcluster", **settings) for variant, settings in VARIANTS.items()}
    return lambda variant, seed: made[variant](seed)


BRIEF = {"draws": 1.0, "restarts": 2}  # where it does not matter how good a fit is


@pytest.fixture(scope="module")
def brief(tmp_path_factory, drawn):
    made = {variant: made_once(tmp_path_factory, drawn(60), "deepcluster", **settings | BRIEF) for variant, settings in VARIANTS.items()}
    return lambda variant, seed: made[variant](seed)


def told(folder) -> list[dict]:
    return [row for row in read_json_lines(folder / "history.jsonl") if row["stage"] == deepcluster.STAGE]


@both
def test_finds_the_kinds(whole, variant):
    accuracies = [metrics.accuracy(np.arange(120) % 4, outcome(whole(variant, seed))[0]) for seed in range(3)]
    assert np.mean(accuracies) > 0.75 and min(accuracies) > 0.6, accuracies


@both
def test_its_stages_and_what_they_tell(whole, variant):
    folder = whole(variant, 0)
    assert [stage for stage, _ in rows(folder)] == [deepcluster.STAGE] * 4
    lines = told(folder)
    assert "nmi" not in lines[0] and all(0 <= row["nmi"] <= 1 and 0 <= row["changed"] < 1 for row in lines[1:])
    for row in lines:
        sizes = np.array(row["sizes"])
        assert len(sizes) == row["clusters"] == 12 and row["empty"] == (sizes == 0).sum()
        assert sizes.max() == row["largest"] and sizes[sizes > 0].min() == row["smallest"]
        assert variant == "v2" or sizes.sum() == 120
    trace = load_file(folder / "trace.safetensors")
    assert trace["deep clustering-00003"].shape == (1, 120) and trace["deep clustering-00003"].max() < 4, "the user's clusters, not its own"


@both
def test_same_seed_same_bits_other_seed_other_bits(drawn, brief, tmp_path, variant):
    torch.manual_seed(99), torch.randn(1000)
    fit(drawn(60), tmp_path / "again", method="deepcluster", seed=0, **VARIANTS[variant] | BRIEF)
    assert bits(tmp_path / "again") == bits(brief(variant, 0)) != bits(brief(variant, 1))


@both
@pytest.mark.parametrize("after", [2, 4], ids=lambda n: f"after line {n}")
def test_killed_and_continued_same_bits(drawn, brief, tmp_path, monkeypatch, variant, after):
    """Lines 1 to 4 are the clustering's; the partition comes after."""
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "run", method="deepcluster", seed=0, **VARIANTS[variant] | BRIEF)
    torch.manual_seed(1)
    fit(drawn(60), tmp_path / "run", method="deepcluster", seed=0, **VARIANTS[variant] | BRIEF)
    assert bits(tmp_path / "run") == bits(brief(variant, 0))


@both
@pytest.mark.parametrize("final, head", [("diffusion", "Centroids"), ("k-means", "UnitCentroids")])
def test_new_pictures_and_the_fitted_ones(drawn, whole, tmp_path, variant, final, head):
    """Whitened features have unit length already; the directions of others are the head's own business."""
    run = whole(variant, 0)
    if final == "k-means":
        run = tmp_path / "run"
        fit(drawn(), run, method="deepcluster", final=final, **VARIANTS[variant] | SHORT)
    _, z, p = fitting.predict(run, drawn(), Devices("cpu", "fp32", 1))
    labels, fitted = outcome(run)
    assert np.array_equal(p.argmax(1), labels) and np.allclose(p, fitted, atol=1e-4)
    assert np.allclose(z.norm(dim=1), 1, atol=0.05) == (final == "diffusion")
    assert checkpoint.load(run / "model.safetensors")["head"] == head


@pytest.mark.parametrize(
    "option",
    [
        {"clustering": "power-iteration"},
        {"even": False},
        {"draws": 0.5},
        {"components": 8},
        {"views": "pretext"},
        {"optimizer": "adamw", "rate": 1e-3, "schedule": "cosine"},
        {"encoder": "small-sobel"},
        {"pretext_epochs": 1},
        {"pretext": "rotation", "pretext_epochs": 1},
        {"augment": "glyphs", "view_size": 12},
        {"epochs": 0},
        {"epochs": 0, "encoder": "pixels-sobel"},
        {"pseudo_clusters": 40},
        V2 | {"n_heads": 1},
        V2 | {"small_views": 2},
        V2 | {"views": "", "augment": "moco"},
        V2 | {"epochs": 3, "batch": 7},
    ],
    ids=str,
)
def test_every_option_runs(drawn, tmp_path, option):
    done = fit(drawn(40), tmp_path / "run", method="deepcluster", **SHORT | option)
    assert sum(done["sizes"]) == 40


def test_alexnet_behind_the_sobel_filters(drawn, tmp_path, monkeypatch):
    """The published network, narrow: its features are those before the last ReLU, its classifier sees them through it."""
    monkeypatch.setattr(alexnet, "WIDTH", 64)  # 4,096 take half a minute; that width: tests/networks/test_encoder.py
    settings = {"encoder": "alexnet-sobel", "image_size": 64, "epochs": 1, "batch": 8, "draws": 0.5, "pseudo_clusters": 2}
    settings["final"] = "k-means"
    done = fit(drawn(16), tmp_path / "run", method="deepcluster", clusters=2, **settings)
    features = load_file(tmp_path / "run" / "features.safetensors")["features"]
    assert sum(done["sizes"]) == 16 and features.shape == (16, 64) and features.min() < 0


def test_nothing_is_trained_in_the_random_rows(drawn, tmp_path):
    run = Run(tmp_path / "run", devices=Devices("cpu", "fp32", 1))
    images = open_images(drawn(20), size=16)
    config = deepcluster.Config(n_clusters=4, image_size=16, epochs=0, restarts=2, whiten=False)
    fitted = deepcluster.fit(images, config, run)
    fresh = deepcluster.pretext.train(images, config, Run(tmp_path / "fresh", devices=Devices("cpu", "fp32", 1)))
    assert all(torch.equal(value, fresh.state_dict()[key]) for key, value in fitted.encoder.state_dict().items())


# ---- small, empty and collapsed


@both
@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4), (30, 30)])
def test_a_handful_of_pictures(drawn, tmp_path, variant, n, k):
    done = fit(
        drawn(n),
        tmp_path / "run",
        method="deepcluster",
        clusters=k,
        **VARIANTS[variant] | {"epochs": 2, "restarts": 1, "pseudo_clusters": 0},
    )
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


@both
def test_pictures_all_alike_are_a_collapse_that_is_told(tmp_path, variant):
    pictures = np.full((40, 16, 16, 3), 77, np.uint8)
    settings = VARIANTS[variant] | SHORT | {"components": 4}
    done = fit(pictures, tmp_path / "run", method="deepcluster", **settings)
    if variant == "v1":  # one distinct row: all pseudo-clusters but one are empty, and nothing is drawn from them
        assert [(row["empty"], row["largest"]) for row in told(tmp_path / "run")] == [(7, 40)] * 2
    assert any("collapse" in warning for warning in done["health"]) and sum(done["sizes"]) == 40


def test_grey_pictures(drawn, tmp_path):
    done = fit(drawn(40)[..., 0], tmp_path / "run", method="deepcluster", **SHORT)
    assert sum(done["sizes"]) == 40


@both
def test_time_budget_ends_cleanly(drawn, tmp_path, variant):
    done = fit(drawn(40), tmp_path / "run", method="deepcluster", budget=1.0, **VARIANTS[variant] | SHORT | {"epochs": 5000})
    assert sum(done["sizes"]) == 40 and 1 <= len(told(tmp_path / "run")) < 5000
    notes = [row["text"] for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "note"]
    assert any("time budget" in note for note in notes)


# ---- version 2: who was not seen is not clustered, and is not learned


def bank_of(n: int = 60, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(2, n, 8, generator=torch.Generator().manual_seed(seed)), dim=2)


def test_images_that_were_not_seen_are_left_out(tmp_path):
    run, config = Run(tmp_path / "run", devices=Devices("cpu", "fp32", 1)), deepcluster.Config(n_clusters=2, pseudo_clusters=5)
    bank, seen = bank_of(), torch.arange(60) % 3 > 0
    labels, prototypes = deepcluster.cluster_bank(bank, seen, config, run, 0)
    assert labels.shape == (3, 60) and prototypes.shape == (3, 5, 8)
    assert torch.equal(labels >= 0, seen.expand(3, -1))
    torch.testing.assert_close(prototypes.norm(dim=2), torch.ones(3, 5))
    for head in range(3):  # cosine argmax, of the view whose turn it is
        assert torch.equal(labels[head, seen], (bank[head % 2, seen] @ prototypes[head].T).argmax(1))
    bank[:, ~seen] = bank_of(seed=1)[:, ~seen]
    again, _ = deepcluster.cluster_bank(bank, seen, config, run, 0)
    assert torch.equal(again, labels), "what lies in their rows does not matter"
    few, prototypes = deepcluster.cluster_bank(bank, torch.arange(60) < 3, config, run, 0)
    assert prototypes.shape == (3, 3, 8) and int((few >= 0).sum()) == 9, "never more prototypes than images"


def test_the_last_images_of_an_epoch_that_fill_no_batch_keep_their_old_rows(drawn, tmp_path, monkeypatch):
    """37 images in batches of 10: 7 are not seen, and the next epoch gives them no pseudo-label."""
    seen, cluster = [], deepcluster.cluster_bank
    monkeypatch.setattr(deepcluster, "cluster_bank", lambda bank, who, *more: (seen.append(who.clone()), cluster(bank, who, *more))[1])
    fit(drawn(37), tmp_path / "run", method="deepcluster", **V2 | SHORT | {"epochs": 3, "batch": 10})
    assert [int(who.sum()) for who in seen] == [37, 30, 30] and not torch.equal(seen[1], seen[2])
    assert [sum(row["sizes"]) for row in told(tmp_path / "run")] == [37, 30, 30]


# ---- how many pseudo-clusters


@pytest.mark.parametrize(
    "asked, n, k, want", [(0, 1000, 3, 30), (0, 1000, 10, 50), (0, 100, 10, 10), (0, 1_281_167, 1000, 10_000), (77, 100, 10, 77)]
)
def test_pseudo_clusters_scale(asked, n, k, want):
    assert deepcluster.pseudo_clusters(asked, k, n) == want


# ---- what is refused


@pytest.mark.parametrize(
    "option, says",
    [
        ({"variant": "v3"}, "variant=v3.*v1, v2"),
        ({"clustering": "ward"}, "clustering=ward.*k-means, power-iteration"),
        ({"views": "clean"}, "views=clean.*crops, pretext"),
        ({"schedule": "ramp"}, "schedule=ramp"),
        ({"optimizer": "lars"}, "optimizer=lars"),
        (V2 | {"clustering": "power-iteration"}, "no centroids.*variant=v1"),
        ({"pseudo_clusters": 21}, "pseudo_clusters=21.*20 images"),
        ({"pretext": "frozen"}, "frozen.*--weights"),
        ({"encoder": "pixels-sobel"}, "pixels-sobel has nothing.*kmeans.*epochs=0"),
    ],
    ids=str,
)
def test_what_cannot_work_is_named(drawn, tmp_path, option, says):
    with pytest.raises(InputError, match=says):
        fit(drawn(20), tmp_path / "run", method="deepcluster", **SHORT | option)


def test_one_picture_is_too_few(drawn, tmp_path):
    with pytest.raises(InputError, match="at least 2 images"):
        fit(drawn(1), tmp_path / "run", method="deepcluster", clusters=1)


def test_precomputed_features_have_no_encoder_to_train(tmp_path):
    rng = np.random.default_rng(0)
    rows_ND = (np.eye(3, 8)[np.arange(90) % 3] * 4 + rng.normal(size=(90, 8))).astype(np.float32)
    with pytest.raises(InputError, match="precomputed.*kmeans.*epochs=0"):
        fit(rows_ND, tmp_path / "run", method="deepcluster", clusters=3, encoder="precomputed")
    fit(rows_ND, tmp_path / "other", method="deepcluster", clusters=3, encoder="precomputed", epochs=0)
    assert metrics.accuracy(np.arange(90) % 3, outcome(tmp_path / "other")[0]) > 0.95
    assert read_json(tmp_path / "other" / "config.json")["method"] == "deepcluster"
