"""Every command of docs/tutorial.md, in order, on tiny pictures."""

import csv
import hashlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra coterie[review] is not installed")
pytest.importorskip("uvicorn", reason="the extra coterie[review] is not installed")

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
QUICK = "--method kmeans --encoder pixels --preset quick --set image_size=16 --set restarts=1 --threads 1"
NAMES = {"lotus", "panda", "sailboat", "pizza", "sunflower"}


def commands(text):
    """Those on lines of their own, and those in a sentence."""
    return [a or b for a, b in re.findall(r"^    (coterie .+)$|`(coterie [^`]+)`", text, re.M)]


def quick(command):
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "fit":
        words += shlex.split(QUICK) + ([] if "--clusters" in words else ["--clusters", "4"])
    if words[0] in ("predict", "update"):
        words += ["--device", "cpu", "--threads", "1"]
    return words


def save(folder, pictures):
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


def test_the_reader_sees_commands():
    assert commands("    coterie fit a\ntext `coterie show b`, coterie c\n`coterie`") == ["coterie fit a", "coterie show b"]


@pytest.mark.systems
def test_every_command_of_the_tutorial(coterie, tmp_path, drawn, monkeypatch):
    from coterie.review import serve

    save(tmp_path / "photos", drawn(48, 16))
    save(tmp_path / "new-photos", drawn(12, 16, seed=1))
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    monkeypatch.setattr(serve, "serve", lambda run, port, ready: ready("http://127.0.0.1:0/"))  # else it waits for Ctrl-C
    before = contents(tmp_path / "photos")
    found = commands(TUTORIAL.read_text(encoding="utf-8"))
    assert {command.split()[1] for command in found} >= {
        "fit", "report", "review", "edits", "ask", "refine", "export", "predict", "update", "show",
    }, "the tutorial leaves something out"  # fmt: skip
    for command in found:
        status, _, err = coterie(*quick(command))
        assert status == 0, f"{command}: {err}"
    assert contents(tmp_path / "photos") == before
    kinds = json.loads(coterie("edits", "runs/taught", "--json")[1])["clusters"]
    assert {kind["name"] for kind in kinds} == NAMES and sum(kind["confirmed"] for kind in kinds) > 0
    held = {kind["name"] for kind in kinds if kind["size"]}
    assert {path.name for path in Path("sorted").iterdir()} == held
    assert {row["name"] for row in csv.DictReader(io.StringIO(Path("sorted.csv").read_text(encoding="utf-8"), newline=""))} == held
    assert {one["name"] for one in json.loads(Path("coco/annotations.json").read_text())["categories"]} <= NAMES
    more = json.loads(coterie("edits", "runs/more", "--json")[1])
    assert {kind["name"] for kind in more["clusters"]} == NAMES, "corrections go on in what grew"
    assert sum(kind["size"] for kind in more["clusters"]) + more["n_unsure"] == 60
