"""The packed picture sets that benchmarks read, from $COTERIE_BENCH_DATA or the folder shared/data beside the repository.

A grey set keeps its pictures as one array. A colour set keeps them as tiles of large JPEG sheets, row by row.
Shapes: N images, H and W pixels.
"""

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def folder() -> Path:
    return Path(os.environ.get("COTERIE_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")


def load_packed(name: str, split: str = "train") -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images (N, H, W) or (N, H, W, 3), labels (N,), class names. SystemExit, saying where it was looked for, when the set is not there."""
    path = folder() / f"{name}.npz"
    if not path.exists():
        raise SystemExit(f"no {path.name} in {path.parent}; COTERIE_BENCH_DATA names the folder that holds it")
    with np.load(path, allow_pickle=False) as packed:
        labels, names = packed[f"{split}_labels"].astype(np.int64), [str(name) for name in packed["class_names"]]
        if f"{split}_images" in packed:
            return packed[f"{split}_images"], labels, names
        (high, wide), columns = packed["tile"], packed["grid"][1]
        sheets = np.split(packed[f"{split}_bytes"], packed[f"{split}_offsets"][1:-1])
    images = np.empty((len(labels), high, wide, 3), np.uint8)
    start = 0
    for sheet in sheets:
        with Image.open(io.BytesIO(sheet.tobytes())) as file:
            pixels = np.asarray(file.convert("RGB"))
        tiles = pixels.reshape(-1, high, columns, wide, 3).transpose(0, 2, 1, 3, 4).reshape(-1, high, wide, 3)
        tiles = tiles[: len(labels) - start]  # the last sheet ends in black
        images[start : start + len(tiles)] = tiles
        start += len(tiles)
    return images, labels, names
