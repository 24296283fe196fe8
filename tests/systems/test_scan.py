"""SCAN as a whole on tiny drawn pictures: it finds the kinds, repeats itself, sees no label, and survives."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from coterie import fitting
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.methods import scan
from coterie.run import checkpoint
from coterie.run.files import read_json, read_json_lines

from .runs import Killed, bits, die_after, fit, made_once, outcome, rows

pytestmark = pytest.mark.systems


@pytest.fixture(scope="module")
def whole(tmp_path_factory, drawn):
    return made_once(tmp_path_factory, drawn(), "scan")


def save(pictures: np.ndarray, folder: Path, names: list[str]) -> Path:
    for picture, name in zip(pictures, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name)
    return folder


def test_finds_the_kinds(drawn, whole):
    accuracies = [metrics.accuracy(np.arange(120) % 4, outcome(whole(seed))[0]) for seed in range(3)]
    assert np.mean(accuracies) > 0.85 and min(accuracies) > 0.7, accuracies


def test_what_a_run_holds(whole):
    folder = whole(0)
    labels, p = outcome(folder)
    assert p.shape == (120, 4) and np.allclose(p.sum(1), 1, atol=1e-5) and np.array_equal(p.argmax(1), labels)
    assert not (folder / "work").exists()
    stages = [stage for stage, _ in rows(folder)]
    assert stages == ["pretext"] * 4 + ["clustering"] * 3 + ["self-labelling"]
    assert all(np.isfinite(row["loss"]) for row in read_json_lines(folder / "history.jsonl") if "loss" in row)
    shown = fitting.show(folder)
    assert shown["state"] == "finished" and sum(shown["sizes"]) == 120


def test_same_seed_same_bits_other_seed_other_bits(drawn, whole, tmp_path):
    fit(drawn(), tmp_path / "again", seed=0)
    assert bits(tmp_path / "again") == bits(whole(0))
    assert len({bits(whole(seed)) for seed in range(3)}) == 3


def test_what_the_process_did_before_counts_for_nothing(drawn, whole, tmp_path):
    torch.manual_seed(99), torch.randn(1000)
    fit(drawn(), tmp_path / "run", seed=0)
    assert bits(tmp_path / "run") == bits(whole(0))


# ---- no label is seen


def test_sub_folders_change_no_bit(drawn, tmp_path):
    """Pictures sorted into folders by kind, and the same pictures in the same order under names that tell nothing."""
    order = np.argsort(np.arange(80) % 4, kind="stable")
    pictures = drawn(80)[order]
    told = [f"kind {i // 20}/{i:03d}.png" for i in range(80)]
    plain = [f"{i:03d}.png" for i in range(80)]
    wrong = [f"{i:03d} of kind {(i * 7) % 4}/x.png" for i in range(80)]
    for name, names in (("told", told), ("plain", plain), ("wrong", wrong)):
        source = save(pictures, tmp_path / "pictures" / name, names)
        images, plan = fitting.plan(
            source, "scan", clusters=4, preset="quick", settings={"image_size": 16, "pretext_epochs": 1}, cache=tmp_path / "cache"
        )
        fitted = scan.fit(images, plan.config, _run(tmp_path / "runs" / name))
        np.save(tmp_path / f"{name}.npy", fitted.p_NK.numpy())
    results = [np.load(tmp_path / f"{name}.npy") for name in ("told", "plain", "wrong")]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def _run(folder: Path):
    from coterie.run import Run
    from coterie.run.devices import Devices

    return Run(folder, devices=Devices("cpu", "fp32", 1))


# ---- interruptions


@pytest.mark.parametrize("after", [1, 4, 5, 7, 8], ids=lambda n: f"after line {n}")
def test_killed_and_continued_same_bits(drawn, whole, tmp_path, monkeypatch, after):
    """Lines 1 to 4 are the pretext's, 5 to 7 the clustering's, 8 is self-labelling's."""
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(), tmp_path / "run", seed=0)
    assert len(rows(tmp_path / "run")) == after and not fitting.is_finished(tmp_path / "run")
    assert "unfinished" in fitting.show(tmp_path / "run")["state"]
    torch.manual_seed(1)
    fit(drawn(), tmp_path / "run", seed=0)
    assert bits(tmp_path / "run") == bits(whole(0))


def test_killed_while_the_results_are_written(drawn, whole, tmp_path, monkeypatch):
    def die(*_):
        raise Killed

    for function in ("write_table", "write_problems"):
        with monkeypatch.context() as patch:
            patch.setattr(f"coterie.fitting.assignments.{function}", die)
            with pytest.raises(Killed):
                fit(drawn(), tmp_path / "run", seed=0)
        assert not fitting.is_finished(tmp_path / "run")
    fit(drawn(), tmp_path / "run", seed=0)
    assert bits(tmp_path / "run") == bits(whole(0))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_sigkill_in_another_process(drawn, whole, tmp_path):
    np.save(tmp_path / "pictures.npy", drawn())
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nimport numpy as np\nsys.path.insert(0, sys.argv[1])\n"
        "from systems import runs\nlog = runs.Run.log\n"
        "def dying(self, **scalars):\n    log(self, **scalars)\n"
        "    if self._stage == 'clustering' and self._epoch == 1:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "runs.Run.log = dying\nruns.fit(np.load(sys.argv[2]), Path(sys.argv[3]), seed=0)"
    )
    arguments = [str(Path(__file__).parents[1]), str(tmp_path / "pictures.npy"), str(tmp_path / "run")]
    died = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    fit(drawn(), tmp_path / "run", seed=0)
    assert bits(tmp_path / "run") == bits(whole(0))


def test_a_finished_run_is_left_alone_and_another_fit_refused(drawn, tmp_path):
    short = {"pretext_epochs": 1, "cluster_epochs": 1, "cluster_steps": 1, "selflabel_epochs": 0}
    fit(drawn(40), tmp_path / "run", **short)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()}
    fit(drawn(40), tmp_path / "run", **short)
    for change, word in (
        ({"clusters": 3}, "n_clusters: 4, now 3"),
        ({"seed": 1}, "seed: 0, now 1"),
        ({"pretext_rate": 1}, "pretext_rate"),
    ):
        with pytest.raises(InputError, match=word):
            fit(drawn(40), tmp_path / "run", **short | change)
    with pytest.raises(InputError, match="the pictures"):
        fit(drawn(40, seed=1), tmp_path / "run", **short)
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "run").iterdir()}


def test_time_budget_ends_cleanly(drawn, tmp_path):
    done = fit(drawn(40), tmp_path / "run", budget=1.0, pretext_epochs=5000, cluster_epochs=5000, selflabel_epochs=5000)
    stages = {stage for stage, _ in rows(tmp_path / "run")}
    assert sum(done["sizes"]) == 40 and fitting.is_finished(tmp_path / "run") and stages == {"pretext", "clustering", "self-labelling"}
    assert len(rows(tmp_path / "run")) < 5000
    notes = [row["text"] for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "note"]
    assert any("time budget" in note for note in notes)


# ---- other inputs


def blobs(n: int = 90, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (np.eye(3, 8)[np.arange(n) % 3] * 4 + rng.normal(size=(n, 8))).astype(np.float32)


def test_precomputed_features_are_clustered(tmp_path):
    from coterie.estimators import SCAN

    model = SCAN(3, encoder="precomputed", settings={"cluster_epochs": 5, "n_heads": 2}, threads=1).fit(blobs())
    assert metrics.accuracy(np.arange(90) % 3, model.labels_) > 0.95
    assert {row["stage"] for row in model.history_ if row["stage"] != "note"} == {"clustering"}, "no stage that trains an encoder"
    new = model.predict(blobs(30, seed=1))
    assert metrics.accuracy(np.arange(30) % 3, new) > 0.9
    assert np.array_equal(model.predict(blobs()), model.labels_)


def test_heads_of_wide_frozen_features_learn_on_their_main_axes(tmp_path):
    """As good as on all columns, with a head on the features themselves; narrow features keep every column."""
    from coterie.estimators import SCAN
    from coterie.networks.model import load
    from coterie.run.devices import Devices

    wide = np.hstack([blobs() + 3, np.random.default_rng(1).normal(size=(90, 40)) * 0.3]).astype(np.float32)
    settings = {"cluster_epochs": 5, "n_heads": 2, "components": 12}
    for z, kind in ((wide, "UnitHeads"), (blobs(), "Heads")):
        model = SCAN(3, encoder="precomputed", settings=settings, threads=1, run=str(tmp_path / kind)).fit(z)
        assert metrics.accuracy(np.arange(90) % 3, model.labels_) > 0.95 and np.array_equal(model.predict(z), model.labels_)
        assert type(load(tmp_path / kind, Devices("cpu", "fp32", 1)).head).__name__ == kind


def test_precomputed_features_cannot_train_an_encoder(tmp_path):
    with pytest.raises(InputError, match="precomputed.*pretext=frozen"):
        fit(blobs(), tmp_path / "run", clusters=3, encoder="precomputed", pretext="simclr")


def test_frozen_without_weights_is_refused(drawn, tmp_path):
    with pytest.raises(InputError, match="frozen.*--weights"):
        fit(drawn(40), tmp_path / "run", pretext="frozen")


def test_a_collapse_is_told(drawn, tmp_path, monkeypatch):
    cluster = scan.cluster

    def collapsing(*given):
        head = cluster(*given)
        with torch.no_grad():
            head.bias[0, 2] += 1000
        return head

    monkeypatch.setattr(scan, "cluster", collapsing)
    done = fit(drawn(60), tmp_path / "run", selflabel_epochs=0, pretext_epochs=1)
    assert any(warning.startswith("collapse: one of 4 clusters holds 100%") for warning in done["health"])
    assert any("k-means on its features did better" in warning for warning in done["health"]) and 0 not in done["sizes"]
    assert read_json(tmp_path / "run" / "environment.json")["health"] == done["health"]


def test_few_and_repeated_pictures_are_told(drawn, tmp_path):
    pictures = drawn(40)
    done = fit(np.concatenate([pictures, pictures[:10]]), tmp_path / "run", method="kmeans")
    assert any("only 50 images" in warning for warning in done["health"])
    assert any("10 of 50 images are exact copies" in warning for warning in done["health"])


@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4)])
def test_a_handful_of_pictures(drawn, tmp_path, n, k):
    done = fit(drawn(n), tmp_path / "run", clusters=k, pretext_epochs=1, cluster_epochs=1, cluster_steps=2)
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


# ---- options of the clustering stage


def test_the_whole_network_may_learn_in_the_clustering_stage(drawn, tmp_path):
    """network_epochs: the loss of the whole set falls, the encoder moves, and a killed fit continues to the same bits."""
    start = {"cluster_epochs": 1, "cluster_steps": 2, "selflabel_epochs": 0, "augment": "glyphs"}
    start |= {"start": "random"}  # from the clusters of the graph nothing would be left to learn
    settings = start | {"network_epochs": 4, "network_batch": 20, "network_rate": 1e-3}
    fit(drawn(), tmp_path / "network", **settings)
    fit(drawn(), tmp_path / "heads", **start)
    assert metrics.accuracy(np.arange(120) % 4, outcome(tmp_path / "network")[0]) > 0.6
    scores = [row["score"] for row in read_json_lines(tmp_path / "network" / "history.jsonl") if "score" in row]
    assert scores == sorted(scores, reverse=True) and scores[-1] < scores[0], scores
    stems = [
        checkpoint.load(tmp_path / name / "model.safetensors")["encoder_state"]["backbone.stem.0.weight"] for name in ("network", "heads")
    ]
    assert not torch.equal(*stems)
    for after in (6, 7):
        with pytest.MonkeyPatch.context() as patch:
            die_after(patch, after)
            with pytest.raises(Killed):
                fit(drawn(), tmp_path / f"run{after}", **settings)
        fit(drawn(), tmp_path / f"run{after}", **settings)
        assert bits(tmp_path / f"run{after}") == bits(tmp_path / "network")


def test_a_prior_gives_the_sizes(tmp_path):
    """Three blobs of 120, 60 and 30 rows overlap, so that an even prior and the true one part them differently."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), (120, 60, 30))
    rows = (np.eye(3, 8)[kinds] * 2.5 + rng.normal(size=(210, 8))).astype(np.float32)
    settings = {"encoder": "precomputed", "cluster_epochs": 10, "n_heads": 4, "sizes": "even", "start": "random"}
    sizes = {
        prior: sorted(fit(rows, tmp_path / (prior or "even"), clusters=3, prior=prior, **settings)["sizes"]) for prior in ("", "120,60,30")
    }
    assert np.abs(np.array(sizes[""]) - 70).max() < 20, sizes
    assert np.abs(np.array(sizes["120,60,30"]) - (30, 60, 120)).max() < 20, sizes


@pytest.mark.parametrize("prior", ["1,2", "1,2,x,3", "1,2,3,0", "1,2,3,-1", "1,2,3,nan"])
def test_an_unfit_prior_is_refused(drawn, tmp_path, prior):
    with pytest.raises(InputError, match="prior=.*4 positive numbers"):
        fit(drawn(40), tmp_path / "run", prior=prior, pretext_epochs=1)


# ---- self-labelling


def test_self_labelling_that_loses_the_neighbours_stops_and_is_undone(drawn, tmp_path, monkeypatch):
    """A student that learns nonsense takes its teacher along; the stage ends early and the clustering is what is returned."""
    monkeypatch.setattr(scan, "confident", lambda p_BK, threshold: torch.arange(len(p_BK)) % 4)
    fit(drawn(), tmp_path / "run", selflabel_epochs=20, average_epochs=0.01, selflabel_rate=1e-2, pretext_epochs=8)
    fit(drawn(), tmp_path / "clustered", selflabel_epochs=0, pretext_epochs=8)
    labelling = [epoch for stage, epoch in rows(tmp_path / "run") if stage == "self-labelling"]
    assert 1 <= len(labelling) < 20
    notes = [row["text"] for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "note"]
    assert any("undone" in note for note in notes), notes
    assert np.array_equal(outcome(tmp_path / "run")[0], outcome(tmp_path / "clustered")[0])


def test_each_epoch_of_self_labelling_is_traced(whole, drawn):
    """One head, every image; what was not trained on yet in the last epoch still follows from it."""
    trace = load_file(whole(0) / "trace.safetensors")
    assert trace["self-labelling-00000"].shape == (1, 120)
    agreed = [row["agreement"] for row in read_json_lines(whole(0) / "history.jsonl") if row["stage"] == "self-labelling"]
    assert len(agreed) == 1 and -1 <= agreed[0] <= 1


def test_a_fit_that_failed_at_its_settings_does_not_hold_the_folder(drawn, tmp_path):
    with pytest.raises(InputError, match="not a readable safetensors file"):
        fit(drawn(40), tmp_path / "run", weights=str(tmp_path / "nowhere.safetensors"))
    assert fit(drawn(40), tmp_path / "run")["n_images"] == 40, "with the mistake mended, in the same folder"
    with pytest.raises(InputError, match="holds a fit with other settings"):
        fit(drawn(40), tmp_path / "run", n_heads=5)
