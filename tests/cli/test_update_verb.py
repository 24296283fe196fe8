"""`coterie update` on the terminal."""

import json

import numpy as np
import pytest

from coterie import fitting
from coterie.run.devices import Devices


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """`a.npy` with two patterns, a run on it, and `b.npy` with three."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    patterns = rng.integers(30, 200, (3, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    old = np.stack([patterns[i % 2] + rng.integers(0, 40, (16, 16, 3)) for i in range(40)]).astype(np.uint8)
    new = np.stack([patterns[i % 3] + rng.integers(0, 40, (16, 16, 3)) for i in range(36)]).astype(np.uint8)
    np.save(folder / "a.npy", old)
    np.save(folder / "b.npy", np.concatenate([new, old[:3]]))
    images, plan = fitting.plan(folder / "a.npy", "kmeans", clusters=2, preset="quick", settings={"restarts": 1, "image_size": 16})
    fitting.fit(images, plan, folder / "run", devices=Devices("cpu", "fp32", 1))
    return folder


@pytest.fixture
def coterie(coterie):
    """As everywhere here, on one core."""
    return lambda *words: coterie(*words, "--device", "cpu", "--threads", "1")


def test_it_says_what_it_did(coterie, finished):
    status, out, err = coterie("update", finished / "run", finished / "b.npy", "-o", "new")
    assert status == 0 and not err
    assert "76 images in 2 clusters in new" in out and "36 pictures of" in out and "3 were in the run already" in out
    assert "12 look like a kind of their own" in out and "--new-kinds makes it a cluster" in out and "next: coterie report new" in out
    assert "health: of the pictures in no cluster 12 look like new kinds" in out


def test_json(coterie, finished):
    status, out, _ = coterie("update", finished / "run", finished / "b.npy", "-o", "new", "--new-kinds", "--json")
    told = json.loads(out)
    assert status == 0 and told["n_clusters"] == 3 and told["n_clusters_before"] == 2 and told["sizes"][2] == 12
    assert {"run", "of", "n_images", "n_added", "n_already", "n_set_aside", "n_novel", "false_alarms", "moved", "seconds"} <= set(told)
    assert told["kinds"][0]["cluster"] == 2 and len(told["kinds"][0]["ids"]) == 12


MISTAKES = {
    "no run": (("nowhere", "b.npy", "-o", "new"), "there is no run folder"),
    "no source": (("run", "c.npy", "-o", "new"), "does not exist"),
    "into itself": (("run", "b.npy", "-o", "run"), "is not empty"),
    "a rate that is none": (("run", "b.npy", "-o", "new", "--false-alarms", "2"), "--false-alarms 2"),
    "another kind of source": (("run", "digits", "-o", "new"), "another kind (named)"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line(coterie, finished, monkeypatch, tmp_path, what):
    words, says = MISTAKES[what]
    monkeypatch.chdir(finished)
    status, out, err = coterie("update", *words[:3], finished / words[3] if words[3] == "run" else tmp_path / words[3], *words[4:])
    lines = [line for line in err.splitlines() if line.startswith("coterie: error: ")]
    assert status == 2 and out == "" and len(lines) == 1 and says in lines[0] and "Traceback" not in err
    assert not any(tmp_path.iterdir())
