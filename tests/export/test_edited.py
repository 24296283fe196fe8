"""Corrections are in every export, unless they are left out."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.report.fake_run import blobs, drawings, fake_run

from coterie.export import export, read_result
from coterie.export.result import names
from coterie.run.edits import append

LABELS = np.array([0] * 4 + [1] * 4 + [2] * 4 + [3] * 2)


@pytest.fixture
def run(tmp_path):
    """Clusters 1 and 2 are one and called `=cats / dogs`, the first picture was moved to it, 3 is no kind, picture 1 a kind of its own."""
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(drawings(LABELS, 20)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i:02d}.png")
    features, p = blobs(LABELS, 4)
    paths = [f"{i:02d}.png" for i in range(len(LABELS))]
    source = {"kind": "folder", "path": str(tmp_path / "photos")}
    run = fake_run(tmp_path / "run", paths, drawings(LABELS, 20), LABELS, p, features, source=source)
    append(run, {"act": "merge", "clusters": [1, 2], "into": 2})
    append(run, {"act": "rename", "cluster": 2, "name": "=cats / dogs"})
    append(run, {"act": "move", "ids": [0], "cluster": 2})
    append(run, {"act": "move", "ids": [1], "cluster": 4})
    append(run, {"act": "not_a_kind", "cluster": 3})
    return run


AFTER = [2, 4, 0, 0] + [2] * 8 + [-1] * 2


def test_the_result(run):
    result = read_result(run)
    assert result.cluster_N.tolist() == AFTER and result.held == [0, 2, 4]
    assert result.names == {0: "cluster_00", 2: "=cats / dogs", 4: "cluster_04"} and result.name(-1) == "unsure"
    said = read_result(run, edits=False)
    assert said.cluster_N.tolist() == LABELS.tolist() and said.edits is None and said.table.column_names[-1] == "p"


def test_tables(run, tmp_path):
    export(run, "csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["cluster"]) for row in rows] == AFTER
    assert rows[0]["name"] == "'=cats / dogs", "no formula"
    assert rows[0]["confirmed"] == "true" and rows[2]["confirmed"] == "false" and rows[-1]["name"] == "unsure"
    export(run, "parquet", tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet")["name"].to_pylist()[:3] == ["=cats / dogs", "cluster_04", "cluster_00"]
    export(run, "parquet", tmp_path / "without.parquet", edits=False)
    assert pq.read_table(tmp_path / "without.parquet").equals(pq.read_table(run / "assignments.parquet"))


def test_folders(run, tmp_path):
    export(run, "folders", tmp_path / "out")
    assert {path.name: len(list(path.iterdir())) for path in (tmp_path / "out").iterdir()} == {
        "cluster_00": 2, "=cats _ dogs": 9, "cluster_04": 1, "unsure": 2,
    }  # fmt: skip
    export(run, "folders", tmp_path / "without", edits=False)
    assert {path.name: len(list(path.iterdir())) for path in (tmp_path / "without").iterdir()} == {
        "cluster_00": 4, "cluster_01": 4, "cluster_02": 4, "cluster_03": 2,
    }  # fmt: skip


def test_sets(run, tmp_path):
    export(run, "coco", tmp_path / "coco")
    told = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert [row["name"] for row in told["categories"]] == ["cluster_00", "=cats / dogs", "cluster_04"] and len(told["annotations"]) == 12
    export(run, "fiftyone", tmp_path / "51")
    assert json.loads((tmp_path / "51" / "labels.json").read_text())["labels"]["00"]["label"] == 1
    export(run, "label-studio", tmp_path / "ls")
    assert 'value="=cats / dogs"' in (tmp_path / "ls" / "labels.xml").read_text()
    done = export(run, "imagefolder", tmp_path / "if")
    assert done.n_images == 12 and len(list((tmp_path / "if" / "val" / "=cats _ dogs").iterdir())) == 2


@pytest.mark.parametrize(
    "given, clusters, wanted",
    [
        ({}, [0, 1], ["cluster_00", "cluster_01"]),
        ({0: "cluster_01"}, [0, 1], ["cluster_01", "cluster_01_"]),
        ({0: "Unsure"}, [0], ["cluster_00_Unsure"]),
        ({7: "x"}, [7, 1000], ["x", "cluster_1000"]),
    ],
)
def test_no_two_clusters_have_one_name(given, clusters, wanted):
    assert list(names(given, clusters).values()) == wanted


@pytest.mark.parametrize("name, folder", [("..", "cluster_00"), ("a/../b", "a_.._b"), (" x. ", "x"), ("é" * 90, "é" * 50), ("a:b", "a_b")])
def test_a_name_cannot_leave_its_folder(run, tmp_path, name, folder):
    append(run, {"act": "rename", "cluster": 0, "name": name})
    export(run, "folders", tmp_path / "out")
    assert (tmp_path / "out" / folder).is_dir() and len(list((tmp_path / "out").iterdir())) == 4


def test_names_that_look_alike_as_folders_stay_apart(run, tmp_path):
    append(run, {"act": "rename", "cluster": 0, "name": "=cats : dogs"})
    export(run, "folders", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"=cats _ dogs", "=cats _ dogs_2", "cluster_04", "unsure"}
