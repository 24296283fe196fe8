"""The tables of a run folder: one row an image, and what was set aside or left out."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from coterie.fitting.assignments import problems_of, table, write_problems
from coterie.images import open_images
from coterie.images.collection import Problem


def test_a_row_has_the_most_probable_cluster_and_its_probability():
    rows = table(["a", "b", "c"], torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25], [0.0, 0.25, 0.75]]))
    assert rows.column_names == ["id", "path", "cluster", "confidence", "p"]
    assert rows["id"].to_pylist() == [0, 1, 2] and rows["path"].to_pylist() == ["a", "b", "c"]
    assert rows["cluster"].to_pylist() == [1, 0, 2] and rows["confidence"].to_pylist() == pytest.approx([0.7, 0.5, 0.75])
    assert rows["p"].to_pylist()[1:] == [[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]]


def test_problems_and_skipped_files_are_told(tmp_path):
    images = open_images(np.zeros((3, 8, 8, 3), np.uint8))
    problems = [Problem("a, b.png", 'cut "short"'), Problem("c.png", "encrypted")]
    write_problems(tmp_path, problems_of(replace(images, problems=problems, skipped={"video": 3, "raw": 1})))
    with (tmp_path / "problems.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [["path", "reason"], ["a, b.png", 'cut "short"'], ["c.png", "encrypted"]]
    assert [path for path, _ in rows[3:]] == ["(3 files)", "(1 files)"]
    assert [reason.startswith(f"skipped: {kind}") for (_, reason), kind in zip(rows[3:], ("video", "raw"))] == [True, True]
