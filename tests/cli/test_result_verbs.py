"""export, compare, show and help on the terminal, and completion for shells."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from coterie import fitting
from coterie.cli.shown import MOST_ASIDE, say_aside
from coterie.run.devices import Devices
from coterie.run.edits import append


@pytest.fixture(scope="module")
def runs(drawn, tmp_path_factory):
    """Two runs of 24 pictures: one, in 3 clusters; two, in 4."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "photos").mkdir()
    for i, picture in enumerate(drawn(24, 16)):
        Image.fromarray(picture).save(folder / "photos" / f"{i:02d}.png")
    for name, clusters in (("one", 3), ("two", 4)):
        settings = {"restarts": 1, "image_size": 16}
        images, plan = fitting.plan(folder / "photos", "kmeans", clusters=clusters, preset="quick", settings=settings)
        fitting.fit(images, plan, folder / name, devices=Devices("cpu", "fp32", 1))
    append(folder / "one", {"act": "rename", "cluster": 0, "name": "firsts"})
    return folder


def test_export(coterie, runs, tmp_path):
    status, out, _ = coterie("export", runs / "one", "--to", "imagefolder", "set", "--val", "0.25", "--seed", "3", "--json")
    assert status == 0 and json.loads(out)["n_images"] == 24 and (tmp_path / "set" / "val" / "firsts").is_dir()
    assert coterie("export", runs / "one", "--to", "folders", "said", "--without-edits")[0] == 0
    assert sorted(path.name for path in (tmp_path / "said").iterdir()) == ["cluster_00", "cluster_01", "cluster_02"]
    status, out, err = coterie("export", runs / "one", "--to", "imagefolder", "set", "--val", "2")
    assert status == 2 and err.startswith("coterie: error: --val 2") and out == ""


def test_many_set_aside_for_one_reason_are_counted(capsys):
    say_aside([(f"{i}.png", "is in no cluster") for i in range(MOST_ASIDE + 7)] + [("x.png", "other")])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MOST_ASIDE + 2 and lines[-1] == "set aside: 7 more: is in no cluster" and "set aside: x.png: other" in lines


def test_compare(coterie, runs, tmp_path):
    status, out, _ = coterie("compare", runs / "one", runs / "two", "-o", "page.html")
    assert status == 0 and "24 pictures in both" in out and "ARI" in out and "written to page.html" in out and "\u202f" not in out
    assert "firsts \u2192" in out or "(that is firsts)" in out or "firsts" not in out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    status, out, _ = coterie("compare", runs / "one", runs / "two", runs / "one", "--json")
    told = json.loads(out)
    assert status == 0 and [row["n_clusters"] for row in told["runs"]] == [3, 4, 3] and told["runs"][0]["corrections"] == 1
    by = {(pair["a"], pair["b"]): pair for pair in told["pairs"]}
    assert set(by) == {(0, 1), (0, 2), (1, 2)} and by[0, 2]["ari"] == 1 and by[0, 2]["moves"] == [] and by[0, 2]["stay"] == 1
    assert by[0, 1]["n_moved"] == sum(move["n"] for move in by[0, 1]["moves"]) > 0 and by[0, 1]["moves"][0]["paths"]


@pytest.mark.parametrize("words, says", [(["one"], "two runs or more"), (["one", "norun"], "norun"), (["one", "photos"], "photos")])
def test_what_cannot_be_compared(coterie, runs, words, says):
    status, out, err = coterie("compare", *(runs / word for word in words))
    assert status == 2 and out == "" and err.count("\n") == 1 and says in err


def test_show_is_for_people(coterie, runs):
    status, out, _ = coterie("show", runs / "one")
    lines = out.splitlines()
    assert (
        status == 0 and "24 pictures of photos, 3 clusters" in lines[0] and any(line.startswith("state      finished in") for line in lines)
    )
    assert any(line.startswith("edits      1 correction, 1 cluster with a name") for line in lines) and "\u202f" not in out
    assert not any("{" in line or "[" in line for line in lines) and lines[-1].startswith("next: ")
    assert coterie("fit", runs / "photos", "--clusters", 2, "-o", "begun", "--method", "kmeans", "--plan")[0] == 0
    assert "sizes" in json.loads(coterie("show", runs / "one", "--json")[1])


def test_help(coterie):
    status, out, _ = coterie("help")
    assert status == 0 and out == coterie("--help")[1] and "compare" in out
    status, out, _ = coterie("help", "export")
    assert status == 0 and out == coterie("export", "--help")[1] and "--without-edits" in out
    assert json.loads(coterie("help", "fit", "--json")[1])["verb"] == "fit"
    status, out, err = coterie("help", "exprt")
    assert status == 2 and out == "" and "exprt" in err and "export" in err


def completing(**words):
    """What a shell gets that asks the program; with its own variables."""
    code = "import coterie.cli; coterie.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "shell, has", [("bash", "complete -o default"), ("zsh", "#compdef coterie"), ("fish", "complete --command coterie")]
)
def test_what_a_shell_is_taught(shell, has):
    assert has in completing(_COTERIE_COMPLETE=f"source_{shell}")


def test_verbs_and_options_are_completed():
    words = completing(_COTERIE_COMPLETE="complete_bash", COMP_WORDS="coterie e", COMP_CWORD="1").split()
    assert {"export", "evaluate", "encoders", "edits"} == set(words)
    words = completing(_COTERIE_COMPLETE="complete_bash", COMP_WORDS="coterie export --wi", COMP_CWORD="2").split()
    assert "--without-edits" in words
