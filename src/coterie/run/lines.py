"""A result as lines of csv: the columns of the contract, cells that no spreadsheet runs as a formula. No library is needed."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from coterie.errors import InputError

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula
Row = tuple[int, str, int, float, Sequence[float], Sequence[Any]]  # id, path, cluster, confidence, p, and what there is besides


def check_table_name(path: Path) -> None:
    """Raises InputError unless the name of a result ends in .parquet or .csv."""
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"-o {path}: wanted a name ending in .parquet or .csv")


def write(path: Path, k: int, more: Sequence[str], rows: Iterable[Row]) -> None:
    """Columns id, path, cluster, confidence (in 0 to 1), p_0 .. p_{k-1}, and `more`; UTF-8, a line each.

    A text that starts with = + - @, tab or return gets a leading ', so that no spreadsheet runs it as a formula.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer, quoting = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        writer.writerow(["id", "path", "cluster", "confidence", *(f"p_{i}" for i in range(k)), *more])
        for i, name, cluster, confidence, p, others in rows:
            row = [i, _harmless(name), cluster, f"{confidence:.7g}", *(f"{value:.7g}" for value in p), *map(_plain, others)]
            (quoting if "\r" in name else writer).writerow(row)  # before Python 3.13 a lone return would end the row


def _plain(value: Any) -> str:
    """A text, a truth or a number."""
    if isinstance(value, str):
        return _harmless(value)
    return str(value).lower() if isinstance(value, bool) else f"{value:.7g}"


def _harmless(cell: str) -> str:
    return "'" + cell if cell.lstrip("'").startswith(FORMULA) else cell  # also before ' of its own, so that one name stays one name


def path_of(cell: str) -> str:
    """The path that a cell of a csv file stands for."""
    return cell[1:] if cell.startswith("'") and _harmless(cell) != cell else cell
