"""Pictures that are one array -> Images: numpy, torch, .npy, .npz. They need no store. N images, H x W pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from coterie.errors import InputError
from coterie.images import decode
from coterie.images.collection import Images, Problem, fingerprint
from coterie.run import machine

DEFAULT_SIZE = 96  # working size where the pictures do not have one of their own
CHUNK = 512  # images converted at a time


def from_array(array: np.ndarray | torch.Tensor, name: str, kind: str, size: int | None, n_classes: int | None = None) -> Images:
    """Images from an array (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W): uint8, integers in 0..255, bool, or floats in [0, 1].

    `size` None keeps H x W; else the centre square is resized to it, bilinear, antialiased. A plain uint8 array is shared, not copied.
    InputError, with the name, for another shape, dtype or range.
    """
    rows = _rows(as_numpy(array, name), name)
    height, width = rows.shape[1:3]
    native = size is None or height == width == size
    shared = native and rows.dtype == np.uint8 and rows.ndim == 4 and rows.flags.writeable and rows.flags.c_contiguous
    if shared:
        small = isinstance(rows, np.memmap) and rows.nbytes <= machine.memory() // 4
        pixels = torch.from_numpy(np.array(rows) if small else rows)
    else:
        pixels = torch.empty((len(rows), *((height, width) if size is None else (size, size)), 3), dtype=torch.uint8)
    digests = []
    for start in range(0, len(rows), CHUNK):
        chunk = as_uint8(rows[start : start + CHUNK], name)
        digests += [digest_of(row) for row in chunk]
        if not shared:
            pixels[start : start + CHUNK] = _resized(torch.from_numpy(np.require(chunk, requirements="W")), None if native else size)
    return images_of(pixels, digests, name, kind, n_classes, None if native else ArrayOriginals(rows, name))


@dataclass(frozen=True)
class ArrayOriginals:
    """The native pictures behind resized ones, for thumbnails."""

    rows: np.ndarray
    name: str

    def __call__(self, item: int, size: int, digest: str) -> Image.Image:
        return decode.fit_inside(Image.fromarray(as_uint8(self.rows[item : item + 1], self.name)[0]), size)


def as_numpy(array: np.ndarray | torch.Tensor, name: str) -> np.ndarray:
    """A tensor as an array; of a type that numpy lacks, such as bfloat16, as float32. InputError for one that has no plain values."""
    if isinstance(array, np.ndarray):
        return array
    try:
        plain = array.detach().cpu().resolve_conj().resolve_neg()
        return (plain.float() if plain.dtype.is_floating_point and plain.dtype.itemsize < 4 else plain).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # sparse, quantised, without storage
        raise InputError(f"{name} is a tensor of {array.dtype}, {array.layout}; give a dense one of plain numbers") from error


def images_of(
    pixels: torch.Tensor,
    digests: list[str],
    name: str,
    kind: str,
    n_classes: int | None,
    original: Any,
    items: list[int] | None = None,
    problems: Sequence[Problem] = (),
    passed: list[str] | None = None,
) -> Images:
    """Images whose rows are in memory; a path is the position in the source, `#3`."""
    items = list(range(len(digests))) if items is None else items
    paths = [f"#{item}" for item in items]
    sizes = [0] * len(items)  # the digest covers the shape, too
    told = fingerprint(paths, sizes, digests)
    return Images(pixels, paths, digests, sizes, items, name, kind, told, list(problems), {}, n_classes, original, passed=passed)


def _rows(array: np.ndarray, name: str) -> np.ndarray:
    """As `channels_last`, for what must be several pictures: a single one is refused, whose rows or columns would be taken for pictures."""
    shape = array.shape
    if array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4) and shape[1] != shape[2]):
        raise InputError(
            f"{name} has shape {shape}, that of one picture; give array[None] for a set of one, or (N, H, W) or (N, H, W, 3) for several"
        )
    rows = channels_last(array, name)
    if len(rows) == 0:
        raise InputError(f"{name} holds no pictures: its shape is {shape}")
    return rows


def channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """The array as (N, H, W) or (N, H, W, 3), any dtype. InputError for a shape that pictures do not have."""
    shape = array.shape
    if array.ndim == 4 and shape[3] == 1:
        array = array[..., 0]
    elif array.ndim == 4 and shape[3] != 3 and shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1) if shape[1] == 3 else array[:, 0]
    if array.ndim == 4 and 4 in (array.shape[3], array.shape[1]):
        raise InputError(f"{name} has shape {shape}; of pictures with transparency give the colours alone, array[..., :3], or PIL images")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or 0 in array.shape[1:]:
        raise InputError(f"{name} has shape {shape}; pictures have the shape (N, H, W) or (N, H, W, 3)")
    return array


def as_uint8(chunk: np.ndarray, name: str) -> np.ndarray:
    """Values as uint8 (n, H, W, 3)."""
    if chunk.dtype == np.bool_:
        chunk = chunk * np.uint8(255)
    elif chunk.dtype.kind == "f":
        if not np.isfinite(chunk).all():
            raise InputError(f"{name} holds NaN or infinite values; pictures are floats in [0, 1] or uint8")
        if chunk.min() < 0 or chunk.max() > 1:
            raise InputError(f"{name} holds values from {chunk.min():g} to {chunk.max():g}; scale floats to [0, 1], or give uint8")
        chunk = np.rint(chunk * 255).astype(np.uint8)
    elif chunk.dtype.kind not in "ui" or (chunk.dtype != np.uint8 and (chunk.min() < 0 or chunk.max() > 255)):
        raise InputError(f"{name} has dtype {chunk.dtype} or values outside 0..255; give uint8, or floats in [0, 1]")
    chunk = chunk.astype(np.uint8, copy=False)
    return np.ascontiguousarray(chunk if chunk.ndim == 4 else np.repeat(chunk[..., None], 3, axis=3))


def _resized(rows: torch.Tensor, size: int | None) -> torch.Tensor:
    """Centre squares of uint8 (n, H, W, 3) at size x size, rounded back to uint8; as they are when `size` is None."""
    if size is None:
        return rows
    height, width = rows.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = rows[:, top : top + side, left : left + side].permute(0, 3, 1, 2).float()
    return F.interpolate(square, (size, size), mode="bilinear", antialias=True).round_().clamp_(0, 255).byte().permute(0, 2, 3, 1)


def digest_of(row: np.ndarray) -> str:
    return hashlib.blake2b(repr(row.shape).encode() + row.tobytes(), digest_size=16).hexdigest()
