"""The result as a table: csv or parquet."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from coterie.errors import InputError
from coterie.export.pictures import Exported, same_file
from coterie.export.result import Result
from coterie.run import lines as lines_of
from coterie.run.files import probabilities, write_atomically

TABLES = ("csv", "parquet")
COLUMNS = ("id", "path", "cluster", "confidence", "p")


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


def rows(paths: list[str], p_NK: NDArray[np.float32], clusters_N: NDArray[Any], **more_N: NDArray[Any]) -> pa.Table:
    """The columns id, path, cluster, confidence, p of the contract, and after them `more_N` by name."""
    n, k = p_NK.shape
    return pa.table(
        {
            "id": pa.array(np.arange(n), pa.int64()),
            "path": pa.array(paths, pa.string()),
            "cluster": pa.array(clusters_N, pa.int32()),
            "confidence": pa.array(p_NK.max(1), pa.float32()),
            "p": pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * k, pa.array(p_NK.reshape(-1), pa.float32())),
            **{name: pa.array(column_N) for name, column_N in more_N.items()},
        }
    )


def write_table(table: pa.Table, path: Path) -> None:
    """`table` as .parquet or .csv (there p becomes a column per cluster), atomically. Raises InputError for any other ending."""
    lines_of.check_table_name(path)
    write_atomically(path, lambda new: pq.write_table(table, new) if path.suffix == ".parquet" else write_csv(table, new))


def write_csv(table: pa.Table, path: Path) -> None:
    """The columns of `table` as `run.lines` has them, p as one for each cluster."""
    k, more = probabilities(table.slice(0, 1)).shape[1], [name for name in table.column_names if name not in COLUMNS]

    def lines() -> Iterator[lines_of.Row]:
        for batch in table.to_batches(max_chunksize=10_000):
            columns = batch.to_pydict()
            for i, name, cluster, confidence, p, *others in zip(*(columns[column] for column in (*COLUMNS, *more))):
                yield i, name, cluster, confidence, p, others

    lines_of.write(path, k, more, lines())
