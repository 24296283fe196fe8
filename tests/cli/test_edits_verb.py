"""`coterie edits` on the terminal."""

import json

import numpy as np
import pytest

from coterie import fitting
from coterie.run import edits
from coterie.run.devices import Devices


@pytest.fixture(scope="module")
def finished(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    np.save(folder / "pictures.npy", drawn(48, 16))
    settings = {"restarts": 1, "image_size": 16}
    images, plan = fitting.plan(folder / "pictures.npy", "kmeans", clusters=4, preset="quick", settings=settings)
    fitting.fit(images, plan, folder / "run", devices=Devices("cpu", "fp32", 1))
    return folder / "run"


@pytest.fixture
def run(finished):
    yield finished
    for path in finished.glob("edits*"):
        path.unlink()


def test_nothing_corrected(coterie, run):
    status, out, err = coterie("edits", run)
    assert status == 0 and not err and f"nothing was corrected in {run}" in out
    assert not (run / edits.FILE).exists(), "looking writes nothing"
    assert "names" not in json.loads(coterie("show", run, "--json")[1])


def test_acts_are_done_and_told(coterie, run):
    status, out, _ = coterie("edits", run, "--rename", "1=grey [b]seals", "--merge", "2,3", "--move", "0,1=unsure", "--not-a-kind", "0")
    assert status == 0
    assert "cluster 1 is called grey [b]seals" in out and "clusters 2 and 3 are" in out and "2 pictures unsure" in out
    assert "cluster 0 is not a kind" in out and "(not a kind)" in out
    told = json.loads(coterie("edits", run, "--json")[1])
    assert told["n_acts"] == 4 and [act["act"] for act in told["acts"]] == ["rename", "merge", "move", "not_a_kind"]
    assert sum(kind["size"] for kind in told["clusters"]) + told["n_unsure"] == 48 and told["n_unsure"] == 2 and len(told["clusters"]) == 3
    shown = json.loads(coterie("show", run, "--json")[1])
    assert shown["edits"] == 4 and shown["names"] == {"1": "grey [b]seals"}
    assert "grey [b]seals" in coterie("show", run)[1]


def test_undo_and_redo(coterie, run):
    coterie("edits", run, "--rename", "1=seals", "--rename", "2=cats")
    status, out, _ = coterie("edits", run, "--undo")
    assert status == 0 and "taken back" in out and json.loads(coterie("edits", run, "--json")[1])["n_acts"] == 3
    assert [act["name"] for act in json.loads(coterie("edits", run, "--redo", "--json")[1])["acts"]] == ["seals", "cats"]
    status, out, err = coterie("edits", run, "--redo")
    assert status == 2 and "nothing to redo" in err


def test_a_split_is_that_of_the_hierarchy(coterie, run):
    before = edits.said(run)
    first = json.loads((run / "hierarchy.json").read_text())["splits"][0]
    told = json.loads(coterie("edits", run, "--split", first["cluster"], "--json")[1])
    split = told["acts"][0]
    assert [len(part) for part in split["parts"]] == first["sizes"] and split["into"] == [first["cluster"], 4]
    assert sorted(sum(split["parts"], [])) == (before.cluster_N == first["cluster"]).nonzero()[0].tolist()
    again = json.loads(coterie("edits", run, "--undo", "--json")[1])
    assert again["n_moved"] == 0
    assert len(json.loads(coterie("edits", run, "--split", f"{first['cluster']}:3", "--json")[1])["acts"][0]["parts"]) == 3


def test_the_run_is_what_the_method_said(coterie, run):
    kept = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    coterie("edits", run, "--merge", "0,1,2,3", "--rename", "0=all")
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert json.loads(coterie("show", run, "--json")[1])["state"] == "finished"


@pytest.mark.parametrize(
    "words, why",
    [
        (("--rename", "1"), "wanted something like"),
        (("--rename", "x=cats"), "x is no number"),
        (("--merge", "1"), "two different"),
        (("--merge", "1,9"), "no cluster 9"),
        (("--split", "9"), "no cluster 9"),
        (("--split", "1:1"), "2 to 20 parts"),
        (("--split", "1:"), None),
        (("--move", "5"), "wanted something like"),
        (("--move", "99=1"), "0 to 47"),
        (("--move", "²=1"), "no number"),
        (("--undo",), "nothing to undo"),
    ],
)
def test_what_cannot_be_is_one_line(coterie, run, words, why):
    status, out, err = coterie("edits", run, *words)
    if why is None:
        assert status == 0
        return
    assert status == 2 and err.startswith("coterie: error: ") and err.count("\n") == 1 and why in err
    assert not edits.read(run).acts


def test_damage_is_said_and_set_aside(coterie, run):
    coterie("edits", run, "--rename", "1=seals", "--rename", "2=cats")
    lines = (run / edits.FILE).read_bytes().splitlines(keepends=True)
    (run / edits.FILE).write_bytes(b"".join([*lines[:2], lines[2].replace(b"cats", b"dogs")]))
    for words in (("edits", run), ("show", run), ("edits", run, "--undo")):
        status, _, err = coterie(*words)
        assert status == 2 and "line 3 does not have its checksum" in err and "--set-aside" in err
    status, out, _ = coterie("edits", run, "--set-aside")
    assert status == 0 and "1 acts go on" in out
    assert json.loads(coterie("edits", run, "--json")[1])["n_acts"] == 1
    assert coterie("edits", run, "--set-aside")[1].strip().endswith("as they should be")


def test_no_run(coterie, tmp_path):
    status, _, err = coterie("edits", tmp_path / "nothing")
    assert status == 2 and "there is no run folder" in err


def test_a_recut_says_that_corrections_stay(coterie, run):
    coterie("edits", run, "--rename", "1=seals")
    status, _, err = coterie("recut", run, "--clusters", 3, "-o", "new")
    assert status == 0 and f"what was corrected in {run} stays there" in err
    assert not (run.parent / "new" / edits.FILE).exists()
