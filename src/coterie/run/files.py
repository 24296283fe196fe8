"""The files of a run folder as plain data. Whatever is missing or damaged is an InputError that names the file and says what to do.

Every verb reads through `_read`: first the file is compared with the run's manifest, then its types and ranges are checked.
N images, K clusters, D feature dimensions.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from coterie.run import manifest
from coterie.run.disk import write_atomically
from coterie.run.manifest import damaged, expected

__all__ = [  # two of them only to be found here, where a report may look
    "damaged", "expected", "probabilities", "read_assignments", "read_config", "read_features", "read_hierarchy", "read_history",
    "read_json", "read_json_lines", "read_rows", "read_table", "read_tensors", "read_trace", "write_atomically", "write_kept",
]  # fmt: skip

COLUMNS = ("id", "path", "cluster", "confidence", "p")
EVALUATION = "evaluation.csv"  # what protocols found the features to be worth
STABILITY = "stability"  # a column more of a consensus of several fits
CONFIG = {"method": str, "preset": str, "seed": int, "source": dict, "settings": dict}
SOURCE = {"kind": str, "name": str, "fingerprint": str, "n_images": int}
COUNTED = {"k": int, "low": int, "high": int, "why": str, "scores": dict}
ABOVE_ONE = 1.001  # rounding may carry a probability a little above 1
Content = TypeVar("Content")


def read_json(path: Path, **kinds: type) -> dict[str, Any]:
    """The object in a json file, whose entries named in `kinds` are there and of that type."""
    content = _read(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(content, dict):
        raise damaged(path, "is damaged: not a json object")
    _check_kinds(path, content, kinds)
    return content


def read_config(run: Path) -> dict[str, Any]:
    """config.json, with all that other verbs need of it."""
    path = run / "config.json"
    made = read_json(path, **CONFIG)
    _check_kinds(path, made["source"], SOURCE)
    _check_kinds(path, made["settings"], {"n_clusters": int, "encoder": str})
    _check_kinds(path, made, {"seeds": int} if "seeds" in made else {})
    if "parts" in made["source"] or "updates" in made:  # pictures were added
        _check_kinds(path, made, {"updates": list})
        _check_kinds(path, made["source"], {"parts": list})
        for one in made["updates"]:
            _check_kinds(path, one if isinstance(one, dict) else {}, {"told": str})
        for one in made["source"]["parts"]:
            _check_kinds(path, one if isinstance(one, dict) else {}, SOURCE | {"prefix": str})
    if "clusters" in made:  # what was counted
        _check_kinds(path, made, {"clusters": dict})
        _check_kinds(path, made["clusters"], {"asked": str} | (COUNTED if "k" in made["clusters"] else {}))
    return made


def read_hierarchy(run: Path, k: int) -> dict[str, Any]:
    """hierarchy.json of a run of `k` clusters: k - 1 `merges` ({a, b, overlap, alike}), `splits` ({cluster, sizes, apart, gain})."""
    path = run / "hierarchy.json"
    told = read_json(path, merges=list, splits=list)
    merges = all(isinstance(one, dict) and _numbers(one, ("a", "b"), ("overlap", "alike")) for one in told["merges"])
    splits = all(isinstance(one, dict) and _numbers(one, ("cluster",), ("apart", "gain")) for one in told["splits"])
    if not merges or not splits or len(told["merges"]) != max(0, k - 1):
        raise damaged(path, "is damaged: a merge or a split lacks a number")
    gone: set[int] = set()
    for one in told["merges"]:
        if not 0 <= one["a"] < one["b"] < k or {one["a"], one["b"]} & gone:
            raise damaged(path, f"is damaged: it merges clusters {one['a']} and {one['b']}")
        gone.add(one["b"])
    for one in told["splits"]:
        sizes = one.get("sizes")
        pair = isinstance(sizes, list) and len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
        if not 0 <= one["cluster"] < k or not pair:
            raise damaged(path, f"is damaged: it splits cluster {one['cluster']}")
    return told


def _numbers(row: dict[str, Any], whole: tuple[str, ...], other: tuple[str, ...]) -> bool:
    finite = all(isinstance(row.get(name), int | float) and np.isfinite(row[name]) for name in other)
    return finite and all(type(row.get(name)) is int for name in whole)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One object per line; blank lines are passed over."""
    lines = _read(path, lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()])
    if not all(isinstance(line, dict) for line in lines):
        raise damaged(path, "is damaged: a line is not a json object")
    return lines


def read_history(run: Path) -> list[dict[str, Any]]:
    """history.jsonl: each line has its `stage`, and each that is no note its `epoch`, and perhaps the `total` of them."""
    path = run / "history.jsonl"
    rows = read_json_lines(path)
    for row in rows:
        numbers = [] if row.get("stage") == "note" else [row.get("epoch", 0), row.get("total", 1)]
        if not isinstance(row.get("stage"), str) or not all(type(number) is int for number in numbers):
            raise damaged(path, "is damaged: a line lacks its stage or its epoch")
    return rows


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file, each by column name."""

    def rows() -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return _read(path, rows)


def read_table(path: Path, *columns: str) -> pa.Table:
    """A parquet file that has at least these columns, whose content is what its types say."""

    def table() -> pa.Table:
        try:
            found = pq.ParquetFile(path).read()
        except (KeyError, IndexError, TypeError, OverflowError) as error:  # a header whose numbers lead nowhere
            raise ValueError(f"no table: {error}") from None
        found.validate(full=True)  # offsets that point outside, texts that are none
        return found

    found = _read(path, table)
    missing = [name for name in columns if name not in found.column_names]
    if missing:
        raise damaged(path, f"is damaged: it lacks the column {missing[0]}")
    return found


def read_assignments(run: Path) -> pa.Table:
    """The five columns of assignments.parquet: ids 0..N-1, paths, clusters -1..K-1, confidences and the K probabilities of each row in
    0..1; and the stability in 0..1 where several fits were made; nothing missing."""
    path = run / manifest.TABLE
    table = read_table(path, *COLUMNS)
    columns = [*COLUMNS, *(name for name in table.column_names if name == STABILITY)]
    table = table.select(columns)
    wanted = (pa.types.is_integer, _is_text, pa.types.is_integer, pa.types.is_floating, _is_list_of_floats, pa.types.is_floating)
    for name, kind in zip(columns, wanted):
        if len(table) and (not kind(table.schema.field(name).type) or table[name].null_count):
            raise damaged(path, f"is damaged: column {name} holds {table.schema.field(name).type}, or gaps")
    clusters_N, confidence_N = table["cluster"].to_numpy(), table["confidence"].to_numpy()
    try:
        p_NK = probabilities(table)
    except ValueError as error:
        raise damaged(path, f"is damaged: {error}") from None
    if not np.array_equal(table["id"].to_numpy(), np.arange(len(table))):
        raise damaged(path, "is damaged: its ids are not 0..n-1")
    if not _within(clusters_N, -1, p_NK.shape[1] - 1):
        raise damaged(path, f"is damaged: a cluster lies outside 0..{p_NK.shape[1] - 1}")
    if not _within(p_NK, 0, ABOVE_ONE) or not _within(confidence_N, 0, ABOVE_ONE):
        raise damaged(path, "is damaged: a probability or confidence lies outside 0..1")
    if STABILITY in columns and not _within(table[STABILITY].to_numpy(), 0, ABOVE_ONE):
        raise damaged(path, "is damaged: a stability lies outside 0..1")
    return table


def read_tensors(path: Path, *names: str) -> dict[str, np.ndarray]:
    """A safetensors file that has at least these tensors."""

    def tensors() -> dict[str, np.ndarray]:
        try:
            return load_file(path)
        except (KeyError, TypeError, AttributeError) as error:  # a type of numbers that numpy does not know
            raise ValueError(f"it holds {error}") from None

    found = _read(path, tensors)
    missing = [name for name in names if name not in found]
    if missing:
        raise damaged(path, f"is damaged: it lacks the tensor {missing[0]}")
    return found


def read_features(run: Path, n: int) -> np.ndarray:
    """Unit features (N, D) float16 or float32 of the `n` images of a run."""
    path = run / "features.safetensors"
    features_ND = read_tensors(path, "features")["features"]
    if features_ND.ndim != 2 or len(features_ND) != n or features_ND.dtype.kind != "f":
        raise damaged(path, f"is damaged: {features_ND.dtype} {features_ND.shape} features for {n} images")
    if not np.isfinite(features_ND).all():
        raise damaged(path, "is damaged: features that are not finite")
    return features_ND


def read_trace(run: Path, n: int, *names: str) -> dict[str, np.ndarray]:
    """trace.safetensors: numbers of clusters, whole and in 0..n, last axis N, of the `n` images of a run; -1 for those added later."""
    path = run / "trace.safetensors"
    found = read_tensors(path, *names)
    for name, labels in found.items():
        if labels.ndim < 1 or labels.shape[-1] != n or labels.dtype.kind not in "iu" or not _within(labels, -1, n):
            raise damaged(path, f"is damaged: {name} is no clustering of {n} images")
    return found


def probabilities(table: pa.Table) -> np.ndarray:
    """The list column `p` as float32 (N, K); ValueError when its rows differ in length."""
    column = table["p"].combine_chunks()
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), np.float32)
    n = len(column)
    if n and (len(flat) % n or set(np.unique(np.diff(column.offsets.to_numpy()))) != {len(flat) // n}):
        raise ValueError("the rows of column p differ in length")
    return flat.reshape(n, len(flat) // n if n else 0)


def write_kept(path: Path, write: Callable[[Path], object]) -> None:
    """A file that a verb adds to a finished run: written atomically, and entered in its manifest."""
    write_atomically(path, write)
    manifest.record(path)


def _read(path: Path, read: Callable[[], Content]) -> Content:
    """The one door: compared with the manifest, then read."""
    manifest.check(path)
    try:
        return read()
    except (OSError, ValueError, RecursionError, csv.Error, SafetensorError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())  # one line, whatever the library says
        raise damaged(path, f"is damaged or cannot be read: {reason}") from None


def _check_kinds(path: Path, content: dict[str, Any], kinds: dict[str, type]) -> None:
    for name, kind in kinds.items():
        if name not in content:
            raise damaged(path, f"is damaged: it lacks {name}")
        if not isinstance(content[name], kind):
            raise damaged(path, f"is damaged: its {name} is {type(content[name]).__name__}, not {kind.__name__}")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list_of_floats(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)


def _within(numbers: np.ndarray, low: float, high: float) -> bool:
    """Whether all lie in low..high; NaN does not."""
    return not numbers.size or bool(numbers.min() >= low and numbers.max() <= high)
