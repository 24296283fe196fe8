"""Pictures inside a .zip or a .parquet file, whatever state it is in.

Hostile bytes make zipfile and pyarrow raise almost any class, as they do Pillow (decode.py); so around their calls, and only there, every
Exception means that the file, or the part of it being read, is broken.
"""

import bisect
import os
import threading
import zipfile
from pathlib import Path
from typing import Any

from coterie.errors import InputError, words
from coterie.images import kinds
from coterie.images.decode import Unreadable

ROWS_PER_BYTE = 8  # of a table of pictures; a header that promises more is damaged, and would fill the memory with rows


def members(path: Path, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files in a zip by name; of two with one name, the later. InputError when it is not whole."""
    try:
        with zipfile.ZipFile(path) as opened:
            return {info.filename: info for info in opened.infolist() if not info.is_dir()}
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}); check its permissions, or make it again") from error
    except Exception as error:  # see above
        raise InputError(f"{name} is not a whole zip file ({words(error)}); make it again or name its folder") from error


def told_by_content(path: Path, found: list[zipfile.ZipInfo]) -> list[str]:
    """The names of those members that begin as pictures do; one that cannot be read is none."""
    told = []
    with zipfile.ZipFile(path) as opened:
        for member in found:
            try:
                with opened.open(member) as file:
                    told += [member.filename] * kinds.told_by(file.read(kinds.HEAD))
            except Exception:  # see above
                continue
    return told


def rows(path: Path, name: str) -> tuple[list[str], list[int]]:
    """The column of a parquet file that holds pictures, as a path of names, and where each row group starts (and the last one ends).

    It is `image`, `img` or `bytes`, or the only one of bytes: plain, or a struct with a field `bytes` (as Hugging Face has them); large,
    view and dictionary types too. InputError when the file is not whole or has no such column.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as opened:
            columns = [(column.name, column.type) for column in opened.schema_arrow]
            counts = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            whole = opened.metadata.num_rows == sum(counts) and min(counts, default=0) >= 0
    except Exception as error:  # see above
        raise InputError(f"{name} is not a whole parquet file ({words(error)}); make it again") from error
    if not whole or sum(counts) > ROWS_PER_BYTE * path.stat().st_size:
        raise InputError(f"{name} is not a whole parquet file (its header counts {sum(counts):,} rows); make it again")
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    return _image_column(columns, name), starts


class Archive:
    """Reads members of a zip, opened once per process: a forked child would share the file position."""

    def __init__(self, path: Path, names: list[str]):
        self.path, self.names = path, names
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, i: int) -> bytes:
        try:
            with self._lock:
                if self._zip is None or self._pid != os.getpid():
                    self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
            return self._zip.read(self.names[i])
        except Exception as error:  # see above
            raise Unreadable(f"cannot be unpacked ({words(error)})") from error


class Rows:
    """Reads rows of a parquet file; keeps the row group last used, as rows are read nearly in order."""

    def __init__(self, path: Path, column: list[str], starts: list[int]):
        self.path, self.column, self.starts = path, column, starts
        self._group: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": (-1, None)}

    def __call__(self, i: int) -> bytes:
        group = bisect.bisect_right(self.starts, i) - 1
        held, values = self._group
        if held != group:
            values = self._read(group)
            self._group = group, values
        if isinstance(values, Unreadable):
            raise values
        try:
            value = values[i - self.starts[group]].as_py()
        except Exception as error:  # see above
            raise Unreadable(f"cannot be read ({words(error)})") from error
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data and isinstance(value, dict) and value.get("path"):
            raise Unreadable(f"no bytes, only the path {value['path']}; write the table with its pictures embedded, or give a .txt list")
        return data or b""

    def _read(self, group: int) -> Any:
        """The column of a row group, or why there is none: it is not tried again for each of its rows."""
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as opened:
                table = opened.read_row_group(group, columns=self.column[:1])
            if len(table) == self.starts[group + 1] - self.starts[group]:
                return table.column(0)
            return Unreadable("cannot be read (rows are missing)")
        except Exception as error:  # see above
            return Unreadable(f"cannot be read ({words(error)})")


def _image_column(columns: list[tuple[str, Any]], name: str) -> list[str]:
    import pyarrow.types as types

    def binary(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        views = getattr(types, "is_binary_view", lambda kind: False)  # from pyarrow 16 on
        return any(told(kind) for told in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, views))

    def holds(kind: Any) -> list[str] | None:
        """What to add to a column's name to reach the bytes in it; None where there are none."""
        at = kind.get_field_index("bytes") if types.is_struct(kind) else -1
        if at >= 0 and (binary(kind.field(at).type) or types.is_null(kind.field(at).type)):  # null: pictures that were not embedded
            return ["bytes"]
        return [] if binary(kind) else None

    found = {title: [title, *rest] for title, kind in columns if (rest := holds(kind)) is not None}
    known: list[str] = [title for title in ("image", "img", "bytes") if title in found]
    chosen = known[:1] or list(found)
    if len(chosen) != 1:
        held = ", ".join(f"{title} ({kind})" for title, kind in columns[:20])
        raise InputError(
            f"{name} has no column `image` with the bytes of pictures; its columns are {held}; store the files' bytes in `image`"
        )
    return found[chosen[0]]
