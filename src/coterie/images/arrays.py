"""Pictures that are arrays or objects in memory -> Images: numpy, torch, .npy, .npz, lists of images, torch and HF datasets.

They need no store. N images, H x W pixels.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from coterie.errors import InputError
from coterie.images import decode, deep
from coterie.images.collection import Images, Problem, fingerprint
from coterie.run import machine

DEFAULT_SIZE = 96  # working size where the pictures do not have one of their own
CHUNK = 512  # images converted at a time
_NAMES = ("images", "x", "train_images", "x_train", "data", "arr_0")


def load_array(path: Path, name: str) -> np.ndarray:
    """The array of an .npy file, mapped, or the one of an .npz that holds images. InputError when there is none; never unpickles."""
    try:
        loaded = np.load(path, mmap_mode="c" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return loaded[_image_key(loaded, name)]
    except InputError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{name} is not a whole array file of plain numbers ({error}); save it again with numpy.save") from error


def from_array(array: np.ndarray | torch.Tensor, name: str, kind: str, size: int | None, n_classes: int | None = None) -> Images:
    """Images from an array (N, H, W), (N, H, W, 1), (N, H, W, 3) or (N, 3, H, W): uint8, integers in 0..255, bool, or floats in [0, 1].

    `size` None keeps H x W; else the centre square is resized to it, bilinear, antialiased. A plain uint8 array is shared, not copied.
    InputError, with the name, for another shape, dtype or range.
    """
    rows = _channels_last(array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array, name)
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
        chunk = _uint8(rows[start : start + CHUNK], name)
        digests += [_digest(row) for row in chunk]
        if not shared:
            pixels[start : start + CHUNK] = _resized(torch.from_numpy(chunk), None if native else size)
    return _images(pixels, digests, name, kind, n_classes, None if native else ArrayOriginals(rows, name))


def from_pictures(
    pictures: Any,
    name: str,
    kind: str,
    size: int | None,
    max_pixels: int,
    n_classes: int | None = None,
    wanted: deep.Wanted = deep.NOTHING,
) -> Images:
    """Images from anything indexable that gives PIL images, arrays or tensors, alone, first in a tuple, or as `image` in a dict.

    `size` None keeps the size that all have in common, else takes 96. A picture that cannot be decoded is a problem. Pictures are taken
    once: a dataset's random transforms are frozen. Those of more than 8 bits by the levels `wanted`, else by their own (deep.py).
    InputError when nothing is left.
    """
    if not len(pictures):
        raise InputError(f"{name} holds no pictures")
    with decode.strict_pillow(max_pixels):
        if size is None:
            first = as_image(pictures[0], name)
            try:
                return _collected(pictures, name, kind, None, (first.height, first.width), max_pixels, n_classes, wanted)
            except _SizesDiffer:
                size = DEFAULT_SIZE
        return _collected(pictures, name, kind, size, (size, size), max_pixels, n_classes, wanted)


def as_image(value: Any, name: str) -> Image.Image:
    """One picture of a dataset as a PIL image; a tensor is (3, H, W), (H, W, 3) or (H, W), as in `from_array`."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, dict):
        key = next((key for key in ("image", "img", "pixels") if key in value), None)
        if key is None:
            raise InputError(f"{name} has no entry `image`; it has {', '.join(map(str, value))}")
        value = value[key]
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        value = value[0] if value.ndim == 3 and value.shape[0] == 1 else value
        return Image.fromarray(_uint8(np.ascontiguousarray(_channels_last(value[None], name)), name)[0])
    raise InputError(f"{name} gives {type(value).__name__} where a picture is expected: a PIL image, an array or a tensor")


@dataclass(frozen=True)
class ArrayOriginals:
    """The native pictures behind resized ones, for thumbnails."""

    rows: np.ndarray
    name: str

    def __call__(self, item: int, size: int, digest: str) -> Image.Image:
        return decode.fit_inside(Image.fromarray(_uint8(self.rows[item : item + 1], self.name)[0]), size)


@dataclass(frozen=True)
class PictureOriginals:
    """As ArrayOriginals, for datasets and lists."""

    pictures: Any
    name: str
    levels: deep.Levels

    def __call__(self, item: int, size: int, digest: str) -> Image.Image:
        return decode.fit_inside(as_image(self.pictures[item], self.name), size, self.levels)


class _SizesDiffer(Exception):
    pass


def _collected(
    pictures: Any,
    name: str,
    kind: str,
    size: int | None,
    shape: tuple[int, int],
    max_pixels: int,
    n_classes: int | None,
    wanted: deep.Wanted,
) -> Images:
    pixels = torch.empty((len(pictures), *shape, 3), dtype=torch.uint8)
    digests: list[str] = []
    items: list[int] = []
    numbers: dict[int, deep.Deep] = {}  # by row
    problems = []
    for i in range(len(pictures)):
        image = as_image(pictures[i], name)
        if size is None and (image.height, image.width) != shape:
            raise _SizesDiffer
        try:
            if image.width * image.height > max_pixels:
                raise decode.Unreadable(f"{image.width} x {image.height} pixels, above the limit max_pixels={max_pixels}")
            image.load()
        except (decode.Unreadable, OSError, SyntaxError) as error:  # a PIL image may be a file not read yet
            problems.append(Problem(f"#{i}", str(error)))
            continue
        whole = decode.fit_square(image, None)
        digests.append(_digest(whole.values if isinstance(whole, deep.Deep) else np.asarray(whole)))
        picture = whole if size is None else decode.fit_square(image, size)
        if isinstance(picture, deep.Deep):
            numbers[len(items)] = picture
        else:
            pixels[len(items)] = torch.from_numpy(np.array(picture))
        items.append(i)
    if not items:
        raise InputError(f"{name}: none of its {len(pictures)} pictures can be read; the first: {problems[0].reason}")
    ranges = [picture.range for picture in numbers.values()]
    levels = deep.levels(ranges, wanted)
    for row, picture in numbers.items():
        pixels[row] = torch.from_numpy(np.array(decode.developed(picture, levels)))
    images = _images(pixels[: len(items)], digests, name, kind, n_classes, PictureOriginals(pictures, name, levels), items, problems)
    return replace(images, levels=levels, notes=deep.told(ranges, levels, wanted), doubts=deep.doubts(ranges, levels))


def _images(
    pixels: torch.Tensor,
    digests: list[str],
    name: str,
    kind: str,
    n_classes: int | None,
    original: Any,
    items: list[int] | None = None,
    problems: Sequence[Problem] = (),
) -> Images:
    items = list(range(len(digests))) if items is None else items
    paths = [f"#{item}" for item in items]
    sizes = [0] * len(items)  # the digest covers the shape, too
    told = fingerprint(paths, sizes, digests)
    return Images(pixels, paths, digests, sizes, items, name, kind, told, list(problems), {}, n_classes, original)


def _channels_last(array: np.ndarray, name: str) -> np.ndarray:
    """The array as (N, H, W) or (N, H, W, 3), any dtype."""
    shape = array.shape
    if array.ndim == 4 and shape[3] == 1:
        array = array[..., 0]
    elif array.ndim == 4 and shape[3] != 3 and shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or 0 in array.shape[1:]:
        raise InputError(f"{name} has shape {shape}; pictures have the shape (N, H, W) or (N, H, W, 3)")
    if len(array) == 0:
        raise InputError(f"{name} holds no pictures: its shape is {shape}")
    return array


def _uint8(chunk: np.ndarray, name: str) -> np.ndarray:
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


def _digest(row: np.ndarray) -> str:
    return hashlib.blake2b(repr(row.shape).encode() + row.tobytes(), digest_size=16).hexdigest()


def _image_key(loaded: Any, name: str) -> str:
    arrays = {key.lower(): key for key in loaded.files}
    known = [arrays[key] for key in _NAMES if key in arrays]
    if known or len(arrays) == 1:
        return known[0] if known else next(iter(arrays.values()))
    alike = [key for key in loaded.files if loaded[key].ndim in (3, 4)]
    if len(alike) == 1:
        return alike[0]
    raise InputError(f"{name} holds {', '.join(loaded.files) or 'nothing'}; save its images as `images`")
