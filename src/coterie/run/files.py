"""The files of a run folder as plain data. Whatever is missing or damaged is an InputError that names the file."""

import csv
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from coterie.errors import InputError

Content = TypeVar("Content")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a json file."""
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: not a json object")
    return content


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One object per line; blank lines are passed over."""
    lines = _read(path, lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
    if not all(isinstance(line, dict) for line in lines):
        raise InputError(f"{path} is damaged: a line is not a json object")
    return lines


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file, each by column name."""

    def rows() -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return _read(path, rows)


def read_table(path: Path, *columns: str) -> pa.Table:
    """A parquet file that has at least these columns."""
    table = _read(path, lambda: pq.ParquetFile(path).read())
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path} is damaged: it lacks the column {missing[0]}")
    return table


def read_tensors(path: Path, *names: str) -> dict[str, np.ndarray]:
    """A safetensors file that has at least these tensors."""
    tensors = _read(path, lambda: load_file(path))
    missing = [name for name in names if name not in tensors]
    if missing:
        raise InputError(f"{path} is damaged: it lacks the tensor {missing[0]}")
    return tensors


def probabilities(table: pa.Table) -> np.ndarray:
    """The list column `p` as float32 (N, K); ValueError when its rows differ in length."""
    column = table["p"].combine_chunks()
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    n = len(column)
    if n and (len(flat) % n or set(np.unique(np.diff(column.offsets.to_numpy()))) != {len(flat) // n}):
        raise ValueError("the rows of column p differ in length")
    return flat.reshape(n, len(flat) // n if n else 0)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new file beside `path`, then move it there: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.parent / f".coterie-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        write(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def _read(path: Path, read: Callable[[], Content]) -> Content:
    try:
        return read()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise InputError(f"there is no run folder {path.parent}") from None
        raise InputError(f"{path.parent} is not a finished run: it lacks {path.name}; continue its fit first") from None
    except (OSError, ValueError, csv.Error, SafetensorError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())  # one line, whatever the library says
        raise InputError(f"{path} is damaged or cannot be read: {reason}") from None
