"""`coterie predict --watch`: what it says, and how often it looks."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.cli import shown
from coterie.errors import printable

if TYPE_CHECKING:
    from coterie.fitting.watching import Watch

PAUSE = 0.5  # seconds from one look at the folder to the next; a file is sorted when two looks find it the same


def stay(watch: "Watch", output: Path, as_json: bool) -> None:
    """Sorts what arrives until Ctrl-C, with a line for each picture on stdout."""
    print(f"watching; {watch.count:,} pictures have a row in {output}; Ctrl-C ends it", file=sys.stderr)
    try:
        while True:
            for rows, problems in watch.look():
                for row in rows.drop_columns(["id", "p"]).to_pylist():
                    print(json.dumps(row) if as_json else _line(row), flush=True)
                shown.say_aside(problems)
            time.sleep(PAUSE)
    except KeyboardInterrupt:
        print(f"\n{watch.count:,} pictures have a row in {output}; the same command goes on", file=sys.stderr)


def _line(row: dict) -> str:
    novel = ", fits nowhere" if row["novel"] else ""
    return f"{printable(row['path'])}: cluster {row['cluster']} ({row['confidence']:.2f}{novel})"
