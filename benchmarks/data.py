"""The packed picture sets that benchmarks read (coterie.images.sheets), from $COTERIE_BENCH_DATA or the folder shared/data beside the
repository. Shapes: N images, H and W pixels.
"""

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coterie.images.sheets import load_sheets


def folder() -> Path:
    return Path(os.environ.get("COTERIE_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")


def load_packed(name: str, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images (N, H, W) or (N, H, W, 3), labels (N,), class names. SystemExit, saying where it was looked for, when the set is not there."""
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise SystemExit(f"no {path.name} in {path.parent}; COTERIE_BENCH_DATA names the folder that holds it")
    return load_sheets(path, split)


def written(name: str, split: str, keep: Path, n: int | None = None) -> tuple[Path, Path]:
    """The pictures of a part of a set, or the first n, as an array file in `keep`, and their labels beside it as a table; made once."""
    stem = keep / f"{name}-{split}{f'-{n}' if n else ''}"
    pictures, table = stem.with_suffix(".npy"), stem.with_suffix(".csv")
    if not table.exists():
        keep.mkdir(parents=True, exist_ok=True)
        x, labels, names = load_packed(name, split)
        np.save(pictures, x[:n])
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((f"#{i}", names[label]) for i, label in enumerate(labels[:n]))])
    return pictures, table
