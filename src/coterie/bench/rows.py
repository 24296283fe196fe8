"""The rows of a table: a csv file that grows by one row a run, written by programs alone."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.run import disk


class Rows:
    """The csv file at `path`, and its rows as `all`, texts by column. The first row fixes the columns.

    A row that a kill cut short is dropped when the file is opened; it is made again then. Raises InputError where the file is no table.
    """

    def __init__(self, path: Path):
        self.path = path
        self.columns: list[str] = []
        self.all: list[dict[str, str]] = []
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            disk.write(path, whole.encode())
        reader = csv.DictReader(io.StringIO(whole, newline=""))
        self.all, self.columns = list(reader), list(reader.fieldnames or [])
        if any(None in row or None in row.values() for row in self.all):
            raise InputError(f"{path} is no table of ours: a row has other columns than the first; move it away")

    def has(self, key: dict[str, Any]) -> bool:
        """Whether there is a row with these values."""
        wanted = {name: str(value) for name, value in key.items()}.items()
        return any(wanted <= row.items() for row in self.all)

    def append(self, row: dict[str, Any]) -> None:
        """One more row, on the disk when this returns. Raises InputError where its columns are not those of the table."""
        if not self.columns:
            self.columns = list(row)
        if set(self.columns) != set(row):
            raise InputError(f"{self.path} has the columns {', '.join(self.columns)}, this row {', '.join(row)}; move the old table away")
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        if not self.all:
            writer.writeheader()
        writer.writerow(row)
        with self.path.open("w" if not self.all else "a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        self.all.append({name: str(value) for name, value in row.items()})
