"""What `export` writes comes back as labels, whatever the pictures are called."""

import numpy as np
import pyarrow as pa
import torch

from coterie.evaluate.labels import labels_of
from coterie.export import write_csv
from coterie.fitting import assignments

NAMES = [
    "=1+1.png",
    "+a.png",
    "-b.png",
    "@c.png",
    "'=d.png",
    "''-e.png",
    "'f.png",
    "g,h.png",
    'i"j.png',
    "k\nl.png",
    " m .png",
    "ä/ü.png",
    "-",
    "'",
]


def table() -> pa.Table:
    p_NK = torch.eye(3)[torch.arange(len(NAMES)) % 3]
    return assignments.table(NAMES, p_NK)


def test_an_export_comes_back(tmp_path):
    write_csv(table(), tmp_path / "sorted.csv")
    found = labels_of({"kind": "folder", "name": "x"}, NAMES[::-1], str(tmp_path / "sorted.csv"))
    assert found.names == ["0", "1", "2"] and np.array_equal(found.values, (np.arange(len(NAMES)) % 3)[::-1])
    assert not getattr(found, "notes", ())


def test_an_export_whose_clusters_a_person_named(tmp_path):
    write_csv(table(), tmp_path / "sorted.csv")
    text = (tmp_path / "sorted.csv").read_text(encoding="utf-8").replace("cluster", "label", 1)
    (tmp_path / "named.csv").write_bytes(text.encode("utf-8-sig"))  # as a spreadsheet saves it
    found = labels_of({"kind": "folder", "name": "x"}, NAMES, str(tmp_path / "named.csv"))
    assert np.array_equal(found.values, np.arange(len(NAMES)) % 3)


def test_no_two_names_become_one(tmp_path):
    write_csv(table(), tmp_path / "sorted.csv")
    lines = (tmp_path / "sorted.csv").read_text(encoding="utf-8").splitlines()
    assert len(set(lines)) == len(lines)
