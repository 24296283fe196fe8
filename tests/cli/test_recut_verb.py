"""`coterie recut` on the terminal."""

import json

import numpy as np
import pytest

from coterie import fitting
from coterie.run.devices import Devices


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    np.save(folder / "pictures.npy", drawn(48, 16))
    settings = {"restarts": 1, "image_size": 16}
    images, plan = fitting.plan(folder / "pictures.npy", "kmeans", clusters=4, preset="quick", settings=settings)
    fitting.fit(images, plan, folder / "run", devices=Devices("cpu", "fp32", 1))
    return folder / "run"


def test_it_says_what_became_of_each_cluster(coterie, finished):
    status, out, err = coterie("recut", finished, "--merge", "3,1", "--split", "2", "-o", "new")
    assert status == 0 and not err
    assert "4 clusters of" in out and "are 4 in new" in out and "1 and 3 are 1 now; 2 is 2 and 3 now; 0 keeps its number" in out
    assert "verdict: " in out and "next: coterie report new" in out


def test_json(coterie, finished):
    words = ("--clusters", 7, "--merge", "0,1", "--split", "3:3")
    status, out, _ = coterie("recut", finished, *words, "-o", "new", "--json")
    told = json.loads(out)
    assert status == 0 and told["n_clusters"] == 7 and told["n_clusters_before"] == 4 and len(told["sizes"]) == 7
    assert told["became"]["0"] == told["became"]["1"] and len(told["became"]["3"]) >= 3 and told["moved"] >= 0
    assert {"run", "of", "merges", "splits", "seconds", "health", "verdict", "n_images", "method"} <= set(told)


@pytest.mark.parametrize("option", [("--merge", "0,1", "--merge", "1,2"), ("--merge", "0,1,2"), ("--merge", " 2, 1 , 0")])
def test_three_numbers_or_two_pairs(coterie, finished, option):
    status, out, _ = coterie("recut", finished, *option, "-o", "new", "--json")
    assert status == 0 and json.loads(out)["became"] == {"0": [0], "1": [0], "2": [0], "3": [1]}


MISTAKES = {
    "nothing asked": ((), ["--clusters", "--merge", "--split"]),
    "no number": (("--clusters", "many"), ["--clusters"]),
    "zero": (("--clusters", "0"), ["--clusters 0"]),
    "too many": (("--clusters", "99"), ["--clusters 99", "48"]),
    "merge of words": (("--merge", "a,b"), ["--merge a,b", "3,7"]),
    "merge of one": (("--merge", "3"), ["--merge 3"]),
    "merge with itself": (("--merge", "3,3"), ["--merge 3,3"]),
    "an empty merge": (("--merge", ""), ["--merge"]),
    "unknown": (("--merge", "3,9"), ["no cluster 9"]),
    "split of words": (("--split", "x"), ["--split x", "5:3"]),
    "split of too much": (("--split", "1:2:3"), ["--split 1:2:3"]),
    "split into one": (("--split", "1:1"), ["--split 1:1"]),
    "split below": (("--split", "-1"), ["no cluster -1"]),
    "by other signs": (("--split", "²"), ["--split"]),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_one_line(coterie, finished, tmp_path, what):
    words, says = MISTAKES[what]
    status, out, err = coterie("recut", finished, *words, "-o", "new")
    lines = [line for line in err.splitlines() if line.startswith("coterie: error: ")]
    assert status == 2 and out == "" and len(lines) == 1 and "Traceback" not in err
    assert all(word.lower() in lines[0].lower() for word in says), lines
    assert not any(tmp_path.iterdir())
