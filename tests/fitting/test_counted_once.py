"""`--set duplicates=once`: copies are not learned from, go where their picture goes, and are told."""

import json

import numpy as np
import pytest
import torch.nn.functional as F
from tests.systems.runs import TINY, Killed, bits, die_after, fit, outcome

from coterie import fitting
from coterie.errors import InputError
from coterie.evaluate.protocol import evaluate
from coterie.fitting.planning import config_of
from coterie.methods import METHODS
from coterie.report import page
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import read_features, read_json, read_trace


@pytest.fixture(scope="module")
def copied(drawn):
    """60 pictures, the copies of 8 of them behind those (a little brighter), and 12 exact ones of the first; of each the first like it."""
    one = drawn(60, 16, seed=3)
    brighter = (one[10:18].astype(int) + 4).clip(0, 255).astype(np.uint8)
    pictures = np.concatenate([one, brighter, one[:1].repeat(12, 0)])
    return pictures, np.r_[np.arange(60), np.arange(10, 18), np.zeros(12, int)]


def learned(monkeypatch):
    """Collects the number of images that methods are given."""
    seen = []
    before = Run.once

    def once(self, name, make, *inputs, **settings):
        seen.extend(len(one) for one in inputs if hasattr(one, "pixels") and name != "copies")
        return before(self, name, make, *inputs, **settings)

    monkeypatch.setattr(Run, "once", once)
    return seen


@pytest.mark.parametrize("method", ["kmeans", "scan", "pcp"])
def test_copies_go_where_their_picture_goes(copied, tmp_path, method, monkeypatch):
    pictures, of_N = copied
    seen = learned(monkeypatch)
    done = fit(pictures, tmp_path / "run", method, duplicates="once")
    labels_N, p_NK = outcome(tmp_path / "run")
    assert (labels_N == labels_N[of_N]).all() and (p_NK == p_NK[of_N]).all() and len(set(labels_N)) > 1
    assert done["n_near_duplicates"] == 20 and done["n_images"] == 80 and set(seen) <= {60}
    assert not any("copies" in warning or "duplicates" in warning for warning in done["health"])
    for labels in read_trace(tmp_path / "run", 80, "baseline-pixels").values():
        assert labels.shape[-1] == 80
    told = read_json(tmp_path / "run" / "environment.json")["duplicates"]
    assert told["once"] and told["groups"] == 9 and told["largest"][0] == [0, *range(68, 80)] and [10, 60] in told["largest"]
    assert config_of(tmp_path / "run")["settings"]["duplicates"] == "once"
    assert "60 of 80 pictures are learned from" in (tmp_path / "run" / "history.jsonl").read_text()
    assert "of each group one was learned from" in page.write(tmp_path / "run").read_text()
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"#{i},{of_N[i] % 4}\n" for i in range(80)))
    assert evaluate(tmp_path / "run", str(tmp_path / "labels.csv"), ["clusters"])["n_images"] == 80


def test_features_of_copies_are_their_own(copied, tmp_path):
    pictures, _ = copied
    fit(pictures, tmp_path / "run", "kmeans", duplicates="once")
    z_ND = read_features(tmp_path / "run", 80)
    assert (z_ND[68:] == z_ND[0]).all() and not (z_ND[60:68] == z_ND[10:18]).all(1).any()
    own_ND = fitting.predict(tmp_path / "run", pictures, Devices("cpu", "fp32", 1))[1]
    np.testing.assert_allclose(z_ND, F.normalize(own_ND).numpy(), atol=1e-3)


def test_as_if_the_copies_were_not_there(copied, tmp_path):
    pictures, _ = copied
    fit(pictures, tmp_path / "once", "scan", duplicates="once")
    fit(pictures[:60], tmp_path / "alone", "scan")
    fit(pictures, tmp_path / "all", "scan")
    assert (outcome(tmp_path / "once")[1][:60] == outcome(tmp_path / "alone")[1]).all()
    assert not (outcome(tmp_path / "once")[1] == outcome(tmp_path / "all")[1]).all()


def test_killed_and_continued(copied, tmp_path, monkeypatch):
    fit(copied[0], tmp_path / "whole", "scan", duplicates="once")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 6)
        fit(copied[0], tmp_path / "run", "scan", duplicates="once")
    fit(copied[0], tmp_path / "run", "scan", duplicates="once")
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_rows_that_are_the_same_count_once_too(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    rows[20:] = rows[:10]
    done = fit(rows, tmp_path / "run", "kmeans", encoder="precomputed", duplicates="once")
    labels_N, _ = outcome(tmp_path / "run")
    assert done["n_near_duplicates"] == 10 and (labels_N[20:] == labels_N[:10]).all()


def test_several_seeds_and_pictures_left_out(copied, tmp_path):
    pictures, of_N = copied
    images, plan = fitting.plan(pictures, "kmeans", clusters=4, settings=TINY["kmeans"] | {"duplicates": "once"}, seeds=2)
    done = fitting.fit(images, plan, tmp_path / "seeds", devices=Devices("cpu", "fp32", 1))
    assert done["n_near_duplicates"] == 20 and read_json(tmp_path / "seeds" / "environment.json")["duplicates"]["once"]
    done = fit(pictures, tmp_path / "unsure", "kmeans", duplicates="once", unsure=0.1)
    labels_N, _ = outcome(tmp_path / "unsure")
    assert done["n_unsure"] == (labels_N < 0).sum() > 0 and (labels_N == labels_N[of_N]).all()


def test_more_clusters_than_different_pictures(tmp_path, drawn):
    with pytest.raises(InputError, match=r"--clusters 4: .*there are 3 pictures"):
        fit(drawn(3, 16).repeat(5, 0), tmp_path / "run", "kmeans", duplicates="once")


def test_every_method_has_the_setting():
    for name in METHODS:
        images, plan = fitting.plan(np.zeros((3, 8, 8), np.uint8), name, clusters=1, settings={"duplicates": "once"})
        assert json.loads(json.dumps(plan.to_json()))["settings"]["duplicates"] == "once"
    with pytest.raises(InputError, match="duplicates=never: there are all, once"):
        fitting.plan(np.zeros((3, 8, 8), np.uint8), "scan", clusters=1, settings={"duplicates": "never"})
