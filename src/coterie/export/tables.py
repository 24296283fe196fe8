"""The result as a table: csv or parquet."""

import csv
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coterie.errors import InputError
from coterie.export.pictures import Exported, same_file
from coterie.export.result import Result
from coterie.run.files import probabilities, write_atomically

TABLES = ("csv", "parquet")
COLUMNS = ("id", "path", "cluster", "confidence", "p")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula


def write(to: str, result: Result, dest: Path) -> Exported:
    """A row for each picture; `to`: csv or parquet."""
    if dest.is_dir():
        raise InputError(f"{dest} is a folder; name a file, such as {dest / ('clusters.' + to)}")

    def fill(new: Path) -> None:
        write_csv(result.table, new) if to == "csv" else pq.write_table(result.table, new)
        if os.path.lexists(dest) and not same_file(new, dest):
            raise InputError(f"{dest} is there already and differs; delete it or choose another name")

    write_atomically(dest, fill)
    return Exported(len(result.table), [])


def write_csv(table: pa.Table, path: Path) -> None:
    """Columns id, path, cluster, confidence, p_0 .. p_{K-1}, and what the table has besides; UTF-8, one line per image.

    A text that starts with = + - @, tab or return gets a leading ', so that no spreadsheet runs it as a formula.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer, quoting = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        k, more = probabilities(table.slice(0, 1)).shape[1], [name for name in table.column_names if name not in COLUMNS]
        writer.writerow([*COLUMNS[:-1], *(f"p_{i}" for i in range(k)), *more])
        for batch in table.to_batches(max_chunksize=10_000):
            rows = batch.to_pydict()
            for i, name, cluster, confidence, p, *others in zip(*(rows[column] for column in (*COLUMNS, *more))):
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
