"""Several seeds and what they agree on, as one run: killed and continued, counted once, refused where it cannot be."""

import shutil

import numpy as np
import pytest

from coterie import KMeans, fitting, load
from coterie.errors import InputError
from coterie.export import export
from coterie.fitting import planning
from coterie.fitting.recut import recut
from coterie.run import cached, manifest
from coterie.run.devices import Devices
from coterie.run.files import read_assignments, read_json, read_json_lines

from .runs import TINY, Killed, bits, die_after, outcome

pytestmark = pytest.mark.systems
DEVICES = Devices("cpu", "fp32", 1)
QUICK = {"kmeans": {"restarts": 2}, "scan": {"pretext_epochs": 1, "cluster_epochs": 1, "selflabel_epochs": 0}}


def fit(source, folder, method="kmeans", seeds=3, clusters=4, seed=0, cache=None, **settings):
    settings = TINY[method] | QUICK[method] | settings
    images, plan = planning.plan(source, method, clusters=clusters, preset="quick", settings=settings, seed=seed, seeds=seeds)
    return fitting.fit(images, plan, folder, devices=DEVICES, cache=cache)


def stability(folder) -> np.ndarray:
    return read_assignments(folder)["stability"].to_numpy()


@pytest.fixture(scope="module")
def whole(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds") / "run"
    return fit(drawn(60), folder), folder


def test_a_run_like_any_other(whole, drawn, tmp_path):
    told, run = whole
    assert told["seeds"] == 3 and 0 < told["seeds_alike"] <= 1 and "3 seeds are" in told["verdict"] and sum(told["sizes"]) == 60
    assert not (run / "work").exists() and read_json(run / "config.json")["seeds"] == 3
    manifest.check_run(run)
    assert set(np.round(stability(run) * 3).astype(int)) <= {1, 2, 3}
    lines = read_json_lines(run / "history.jsonl")
    nearest = read_json(run / "environment.json")["evidence"]["fits_nearest"]
    assert lines[-1]["text"] == f"consensus of 3 seeds; seed {nearest} is nearest, and its model is kept for new pictures"
    export(run, "csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith("p_3,stability")
    assert load(run).labels_.shape == (60,) and fit(drawn(60), run) == told, "a finished run is left alone"


def test_it_is_what_single_fits_agree_on(whole, drawn, tmp_path):
    """Each under its seed alone; new pictures are sorted as by the nearest, under its numbers."""
    _, run = whole
    nearest = read_json(run / "environment.json")["evidence"]["fits_nearest"]
    fit(drawn(60), tmp_path / "one", seeds=1, seed=nearest)
    one, labels = outcome(tmp_path / "one")[0], outcome(run)[0]
    assert (one == labels).mean() >= 0.75 and np.array_equal(load(run).predict(drawn(60)), one)
    assert (one == labels)[stability(run) > 0.99].all()


@pytest.mark.parametrize("after", [1, 3, 4])
def test_killed_and_continued_same_bits(whole, drawn, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        die_after(patch, after)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "cut")
    seed = (after - 1) // 2  # each has two restarts
    assert f"seed {seed}, {seed + 1} of 3" in fitting.show(tmp_path / "cut")["state"]
    fit(drawn(60), tmp_path / "cut")
    assert bits(tmp_path / "cut") == bits(whole[1]) and np.array_equal(stability(tmp_path / "cut"), stability(whole[1]))


def test_killed_while_it_is_written_and_a_damaged_seed(whole, drawn, tmp_path, monkeypatch):
    def dying(folder):
        if folder == tmp_path / "cut":
            raise Killed
        seal(folder)

    seal = manifest.seal
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "seal", dying)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "cut")
    (tmp_path / "cut" / "work" / "seed-1" / "model.safetensors").write_bytes(b"damaged")
    fit(drawn(60), tmp_path / "cut")
    assert bits(tmp_path / "cut") == bits(whole[1]) and np.array_equal(stability(tmp_path / "cut"), stability(whole[1]))


def test_scan_and_a_pretext_for_each(drawn, tmp_path, monkeypatch):
    fit(drawn(60), tmp_path / "whole", "scan", seeds=2)
    with monkeypatch.context() as patch:
        die_after(patch, 3)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "cut", "scan", seeds=2)
    fit(drawn(60), tmp_path / "cut", "scan", seeds=2)
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")


def test_kinds_are_counted_once(drawn, tmp_path):
    told = fit(drawn(60), tmp_path / "run", clusters="auto")
    fit(drawn(60), tmp_path / "one", seeds=1, clusters="auto")
    made, one = (read_json(tmp_path / name / "config.json") for name in ("run", "one"))
    assert made["clusters"] == one["clusters"] and made["clusters"]["k"] == told["n_clusters"] == made["settings"]["n_clusters"]
    assert fit(drawn(60), tmp_path / "run", clusters="auto") == told


def test_features_of_a_frozen_encoder_are_computed_once(drawn, tmp_path):
    fit(drawn(60), tmp_path / "scan", "scan", seeds=1)
    frozen = {"encoder": "small", "weights": str(tmp_path / "scan"), "pretext": "frozen"}
    fit(drawn(60), tmp_path / "run", cache=tmp_path / "cache", **frozen)
    (entry,) = [entry for entry in cached.entries(tmp_path / "cache") if entry.kind == cached.FEATURES]
    assert entry.n == 60 and np.isfinite(outcome(tmp_path / "run")[1]).all()


def test_a_time_budget_is_shared(drawn, tmp_path):
    settings = TINY["scan"] | QUICK["scan"] | {"pretext_epochs": 1000}
    images, plan = planning.plan(drawn(60), "scan", clusters=4, preset="quick", settings=settings, seeds=2)
    done = fitting.fit(images, plan, tmp_path / "run", devices=DEVICES, time_budget=6.0)
    assert done["seeds"] == 2 and done["seconds"] < 60


@pytest.mark.parametrize("seeds", [0, -1, 101])
def test_no_number_of_seeds(seeds, drawn):
    with pytest.raises(InputError, match=f"--seeds {seeds}: wanted 1 to 100"):
        planning.plan(drawn(60), "kmeans", clusters=4, seeds=seeds)


def test_other_seeds_are_another_run(whole, drawn, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    with pytest.raises(InputError, match="seeds: 3, now 4"):
        fit(drawn(60), tmp_path / "run", seeds=4)
    images, plan = planning.plan(drawn(60), base=read_json(tmp_path / "run" / "config.json"))
    assert plan.seeds == 3, "--config repeats them"


def test_settings_that_never_began_may_be_corrected(drawn, tmp_path):
    """A mistake that shows only in the first fit leaves nothing that another command would have to keep to."""
    images, plan = planning.plan(drawn(60), "kmeans", clusters=4, preset="quick", settings=TINY["kmeans"], seeds=2)
    broken = planning.replace(plan, config=planning.replace(plan.config, encoder="nosuchnet"))
    with pytest.raises(InputError):
        fitting.fit(images, broken, tmp_path / "run", devices=DEVICES)
    assert fitting.fit(images, plan, tmp_path / "run", devices=DEVICES)["seeds"] == 2


def test_in_python(whole, drawn):
    settings = TINY["kmeans"] | QUICK["kmeans"]
    model = KMeans(4, preset="quick", settings=settings, seeds=3, device="cpu", precision="fp32", threads=1).fit(drawn(60))
    assert np.array_equal(model.stability_, stability(whole[1])) and np.array_equal(model.labels_, outcome(whole[1])[0])
    assert load(whole[1]).get_params()["seeds"] == 3 and np.array_equal(load(whole[1]).stability_, model.stability_)
    assert model.set_params(seeds=1).fit(drawn(60)).stability_ is None
    with pytest.raises(InputError, match="seeds='3'"):
        model.set_params(seeds="3").fit(drawn(60))


def test_what_is_left_out_and_several_seeds_are_not_mixed(drawn):
    with pytest.raises(InputError, match="--unsure .*--seeds"):
        fitting.plan(drawn(40), "kmeans", clusters=4, preset="quick", settings={"unsure": 0.1}, seeds=2)


def test_a_recut_of_several_seeds_still_says_how_alike_they_were(whole, tmp_path):
    told, run = whole
    recut(run, tmp_path / "fewer", clusters=3)
    assert fitting.summary(tmp_path / "fewer")["seeds_alike"] == told["seeds_alike"]
