"""How a fit went, epoch by epoch, for programs that draw curves: history.jsonl as a csv file, or as TensorBoard's events.

A line of the csv is an epoch of a stage: `step` (over all stages), `stage`, `epoch`, then whatever any stage has logged, "" where this one
has not. Lists (sizes, scores of heads) are json in the csv, and left out of the events. Notes are left out of both.
"""

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.export.pictures import Exported, write_once
from coterie.run.files import read_history

FIRST = ("step", "stage", "epoch")


def write(run: Path, dest: Path) -> Exported:
    """`dest`: a file ending in .csv, or a folder for TensorBoard's events. Returns the number of epochs.

    InputError: no history, a file there that differs, another ending, or a folder where the package tensorboard is not installed.
    """
    epochs = [row for row in read_history(run) if row["stage"] != "note"]
    rows = [{"step": step, **row} for step, row in enumerate(epochs)]
    if dest.suffix == ".csv" and not dest.is_dir():
        write_once(dest, _table(rows).encode())
    elif dest.suffix:
        raise InputError(f"{dest}: wanted a name ending in .csv, or a folder for TensorBoard's events")
    else:
        _events(rows, dest)
    return Exported(len(rows), [])


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys([*FIRST, *(name for row in rows for name in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def _events(rows: list[dict[str, Any]], folder: Path) -> None:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise InputError(f"{folder}: events need TensorBoard's package: pip install tensorboard; a .csv does not") from error
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; TensorBoard would show what lies there as well: choose another folder")
    writer = EventFileWriter(str(folder))
    for row in rows:
        values = [
            Summary.Value(tag=f"{row['stage']}/{name}", simple_value=value)
            for name, value in row.items()
            if name not in (*FIRST, "total") and isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        writer.add_event(Event(step=row["epoch"], wall_time=time.time(), summary=Summary(value=values)))
    writer.close()
