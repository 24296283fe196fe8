"""Picture sets packed into one .npz file with their labels, as benchmarks use them.

A grey set keeps its pictures as one array, `{split}_images` (N, H, W). A colour set keeps them as tiles of large JPEG sheets, row by row:
`{split}_bytes` (all sheets), `{split}_offsets` (where each begins, and the end), `tile` (h, w), `grid` (rows, columns of a full sheet).
Both have `{split}_labels` (N,) and `class_names`. Labels are for evaluation only. Shapes: N images, H and W pixels.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coterie.errors import InputError


def load_sheets(path: Path, split: str = "train", labels: str = "labels") -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images (N, H, W) or (N, H, W, 3) uint8, labels (N,) int64 and class names of one part of a packed set.

    labels: which of them, "labels" or "coarse_labels" (CIFAR-100). Raises InputError, with the file's name, where it is no such set.
    """
    try:
        with np.load(path, allow_pickle=False) as packed:
            names = packed["coarse_names" if labels == "coarse_labels" else "class_names"]
            truth = packed[f"{split}_{labels}"].astype(np.int64)
            if f"{split}_images" in packed:
                return packed[f"{split}_images"], truth, [str(name) for name in names]
            (high, wide), columns = packed["tile"], packed["grid"][1]
            sheets = np.split(packed[f"{split}_bytes"], packed[f"{split}_offsets"][1:-1])
            return _untiled(sheets, len(truth), int(high), int(wide), int(columns)), truth, [str(name) for name in names]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no packed set with a part {split} ({' '.join(str(error).split())}); see docs/benchmarks") from error


def _untiled(sheets: list[NDArray[np.uint8]], n: int, high: int, wide: int, columns: int) -> NDArray[np.uint8]:
    """The tiles of all sheets in a row; the last sheet ends in black."""
    images, start = np.empty((n, high, wide, 3), np.uint8), 0
    for sheet in sheets:
        with Image.open(io.BytesIO(sheet.tobytes())) as file:
            pixels = np.asarray(file.convert("RGB"))
        tiles = pixels.reshape(-1, high, columns, wide, 3).transpose(0, 2, 1, 3, 4).reshape(-1, high, wide, 3)[: n - start]
        images[start : start + len(tiles)] = tiles
        start += len(tiles)
    return images
