"""history.jsonl: a line for each epoch and note, written as it happens."""

import json
from pathlib import Path
from typing import Any

from coterie.run import checkpoint


class History:
    """`rows` in memory on every rank, and in the file where `writes` (the first one)."""

    def __init__(self, file: Path, writes: bool):
        self.rows: list[dict[str, Any]] = []
        self._file, self._writes = file, writes

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if self._writes:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def rewrite(self, rows: list[dict[str, Any]]) -> None:
        """The file as these rows alone: what a continued run does again is taken out."""
        self.rows[:] = rows
        if self._writes and (rows or self._file.exists()):
            checkpoint.write(self._file, "".join(json.dumps(row) + "\n" for row in rows).encode())
