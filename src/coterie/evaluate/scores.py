"""evaluation.csv of a run: what its encoder is worth, a row a number, and the memory of an evaluation that was killed."""

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.run.files import EVALUATION, read_rows, write_kept

COLUMNS = ("protocol", "set", "block", "metric", "value", "of")
Key = tuple[str, str, str]  # protocol, set, block


class Scores:
    """The numbers in `folder`: {metric: value} of each (protocol, set, block).

    Column `of` is a hash of all that the numbers of a row follow from: with the same one they are not computed again. Rows stand in the
    order in which they were found; numbers found anew take the place of the old ones.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda text: None):
        self.path = folder / EVALUATION
        self._found: dict[Key, tuple[str, dict[str, float]]] = {}
        self._asked: list[Key] = []
        try:
            rows = read_rows(self.path) if self.path.exists() else []
            for row in rows:
                of, metrics = self._found.setdefault((row["protocol"], row["set"], row["block"]), (row["of"], {}))
                metrics[row["metric"]] = float(row["value"])
        except (InputError, KeyError, TypeError, ValueError):
            self._found = {}
            say(f"{self.path} is damaged; it is made anew")

    def once(
        self, protocol: str, on: str, block: str, follows: dict[str, Any], compute: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        """The numbers of a block: those of the file where they follow from the same, else `compute()`, written down at once.

        follows: all that the numbers depend on, as json: fingerprints of pictures, weights and labels, and the settings.
        """
        of = fingerprint(follows)
        self._asked.append((protocol, on, block))
        if self.known(protocol, on, block, follows) is None:
            self._found[protocol, on, block] = of, compute()
            write_kept(self.path, self._write)
        return self._found[protocol, on, block][1]

    def known(self, protocol: str, on: str, block: str, follows: dict[str, Any]) -> dict[str, float] | None:
        """The numbers where they are there already."""
        of, metrics = self._found.get((protocol, on, block), ("", {}))
        return metrics if of == fingerprint(follows) else None

    def rows(self, asked: bool = False) -> list[dict[str, Any]]:
        """All of them, or those that `once` was asked for, as metrics.json has them under "evaluation"."""
        return [
            {"protocol": protocol, "set": on, "block": block, "metric": metric, "value": value}
            for protocol, on, block in (self._asked if asked else self._found)
            for metric, value in self._found[protocol, on, block][1].items()
        ]

    def _write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(COLUMNS)
            for key, (of, metrics) in self._found.items():
                rows.writerows([*key, metric, repr(float(value)), of] for metric, value in metrics.items())


def fingerprint(follows: Any) -> str:
    """16 hex digits of a json value."""
    return hashlib.blake2b(json.dumps(follows, sort_keys=True).encode(), digest_size=8).hexdigest()
