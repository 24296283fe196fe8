"""`coterie refine` and `coterie ask` on the terminal."""

import json

import numpy as np
import pytest

from coterie import fitting
from coterie.fitting.recut import recut
from coterie.run import edits
from coterie.run.devices import Devices


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    np.save(folder / "pictures.npy", drawn(48, 16))
    images, plan = fitting.plan(folder / "pictures.npy", "kmeans", clusters=4, preset="quick", settings={"restarts": 1, "image_size": 16})
    fitting.fit(images, plan, folder / "run", devices=Devices("cpu", "fp32", 1))
    return folder / "run"


def test_asked_answered_learned(coterie, finished, tmp_path):
    recut(finished, tmp_path / "run", 4)
    status, out, _ = coterie("ask", "run", "--n", 3, "--json")
    asked = json.loads(out)["pictures"]
    assert status == 0 and len(asked) == 3
    status, out, _ = coterie("ask", "run", "--n", 3)
    assert status == 0 and len(out.splitlines()) == 3 and f"{asked[0]['id']:>8}  cluster {asked[0]['cluster']}" in out
    edits.append(tmp_path / "run", {"act": "rename", "cluster": asked[0]["cluster"], "name": "signs"})
    edits.append(tmp_path / "run", {"act": "confirm", "ids": [asked[0]["id"]]})
    status, out, err = coterie("refine", "run", "-o", "new")
    assert status == 0 and not err and "run as it was corrected is 4 clusters in new" in out
    assert "1 picture of known kind" in out and "went elsewhere" in out and "next: coterie report new" in out
    status, out, _ = coterie("refine", "run", "-o", "other", "--json")
    told = json.loads(out)
    assert status == 0 and told["anchors"] == 1 and told["kept"] == 1.0 and len(told["sizes"]) == 4
    assert {"became", "moved", "moves", "contradictions", "unheard", "verdict", "seconds", "health"} <= set(told)


MISTAKES = {
    "no edits": (("refine", "RUN", "-o", "new"), ["no corrections", "coterie review"]),
    "no run": (("refine", "nowhere", "-o", "new"), ["no run folder nowhere"]),
    "itself": (("refine", "RUN", "-o", "RUN"), ["not empty"]),
    "nothing asked": (("ask", "RUN", "--n", "0"), ["--n 0"]),
    "ask no run": (("ask", "nowhere"), ["no run folder nowhere"]),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line(coterie, finished, what):
    words, says = MISTAKES[what]
    status, out, err = coterie(*(finished if word == "RUN" else word for word in words))
    lines = [line for line in err.splitlines() if line.startswith("coterie: error: ")]
    assert status == 2 and out == "" and len(lines) == 1 and "Traceback" not in err
    assert all(word in lines[0] for word in says), lines
