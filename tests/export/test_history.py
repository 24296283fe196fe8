"""The history of a fit as a csv file, and as TensorBoard's events."""

import csv
import json

import pytest

from coterie.errors import InputError
from coterie.export import export

ROWS = [
    {"stage": "pretext", "epoch": 0, "total": 2, "seconds": 1.5, "loss": 5.0, "images_per_second": 900.0},
    {"stage": "note", "text": "something, worth knowing"},
    {"stage": "pretext", "epoch": 1, "total": 2, "seconds": 1.25, "loss": 4.5},
    {"stage": "clustering", "epoch": 0, "total": 1, "seconds": 0.5, "loss": -2.0, "sizes": [3, 4], "head": 1},
]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "run"


def test_a_line_an_epoch(run, tmp_path):
    dest = tmp_path / "history.csv"
    assert export(run, "history", dest).n_images == 3
    with dest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["stage"], row["epoch"], row["loss"]) for row in rows] == [
        ("0", "pretext", "0", "5.0"), ("1", "pretext", "1", "4.5"), ("2", "clustering", "0", "-2.0"),
    ]  # fmt: skip
    assert rows[1]["images_per_second"] == "" and json.loads(rows[2]["sizes"]) == [3, 4]


def test_what_is_there_stays(run, tmp_path):
    dest = tmp_path / "history.csv"
    export(run, "history", dest)
    export(run, "history", dest)
    dest.write_text("mine")
    with pytest.raises(InputError, match="is there already and differs"):
        export(run, "history", dest)
    assert dest.read_text() == "mine"
    with pytest.raises(InputError, match="history.txt: wanted a name ending in .csv, or a folder"):
        export(run, "history", tmp_path / "history.txt")
    with pytest.raises(InputError, match="history.jsonl"):
        export(tmp_path, "history", tmp_path / "other.csv")


def test_events_of_each_number(run, tmp_path):
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        with pytest.raises(InputError, match="pip install tensorboard"):
            export(run, "history", tmp_path / "events")
        return
    assert export(run, "history", tmp_path / "events").n_images == 3
    found = EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("pretext/loss")] == [(0, 5.0), (1, 4.5)]
    assert "clustering/head" in found.Tags()["scalars"] and not any("sizes" in tag for tag in found.Tags()["scalars"])
    with pytest.raises(InputError, match="is not empty"):
        export(run, "history", tmp_path / "events")
