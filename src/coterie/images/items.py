"""items.parquet: what was passed to a fit, one row per item, those set aside included, so that results never shift against it.

Columns: id int64, the row of assignments.parquet, or -1 where the item could not be read; path; size int64 and digest, of its content, ""
where unknown. The digests let `export` see whether a picture is still the one that was fitted.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from coterie.run import manifest
from coterie.run.files import read_table

if TYPE_CHECKING:
    from coterie.images.collection import Images

FILE = "items.parquet"
COLUMNS = {"id": pa.int64(), "path": pa.string(), "size": pa.int64(), "digest": pa.string()}


def items_table(images: "Images") -> pa.Table:
    """The rows of items.parquet for these images and what was passed with them."""
    ids = images.ids_of_items
    paths = images.paths if images.passed is None else images.passed
    sizes, digests = [*images.sizes, 0], [*images.digests, ""]  # the last for id -1
    columns = [ids, paths, [sizes[i] for i in ids], [digests[i] for i in ids]]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, COLUMNS.values())], list(COLUMNS))


def read_items(run: Path, n: int) -> pa.Table | None:
    """The items of a finished run of `n` images; None for a run of a version that did not keep them. InputError when they cannot be its."""
    if not manifest.expected(run / FILE):
        return None
    table = read_table(run / FILE, *COLUMNS)
    right = table.select(list(COLUMNS)).schema.types == list(COLUMNS.values())
    ids = [i for i in table["id"].to_pylist() if i != -1] if right else []
    if not right or sorted(i for i in ids if i is not None) != list(range(n)) or any(table[name].null_count for name in COLUMNS):
        raise manifest.damaged(run / FILE, "is damaged: its rows are not those of the run's images")
    return table
