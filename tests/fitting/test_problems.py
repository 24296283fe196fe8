"""problems.csv: what was set aside, picture by picture, and what was left out, counted by kind."""

import csv
from dataclasses import replace

import numpy as np

from coterie.fitting.assignments import _write_problems
from coterie.images import open_images
from coterie.images.collection import Problem


def test_problems_and_skipped_files_are_told(tmp_path):
    images = open_images(np.zeros((3, 8, 8, 3), np.uint8))
    problems = [Problem("a, b.png", 'cut "short"'), Problem("c.png", "encrypted")]
    _write_problems(tmp_path, replace(images, problems=problems, skipped={"video": 3, "raw": 1}))
    with (tmp_path / "problems.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[:3] == [["path", "reason"], ["a, b.png", 'cut "short"'], ["c.png", "encrypted"]]
    assert rows[3:] == [["(3 files)", "skipped: video"], ["(1 files)", "skipped: raw"]]
