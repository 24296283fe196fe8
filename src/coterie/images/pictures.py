"""Pictures that are objects in memory -> Images: lists, torch and Hugging Face datasets. What is wrong with one is a problem of its own."""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from coterie.errors import InputError, printable, words
from coterie.images import decode, deep
from coterie.images.arrays import DEFAULT_SIZE, as_numpy, as_uint8, channels_last, digest_of, images_of
from coterie.images.collection import Images, Problem
from coterie.images.sources import paths_list

WHOLE = 1 << 20  # px of the longest side: a picture in its own size


def from_pictures(
    pictures: Any,
    name: str,
    kind: str,
    size: int | None,
    max_pixels: int,
    n_classes: int | None = None,
    wanted: deep.Wanted = deep.NOTHING,
) -> Images:
    """Images from anything indexable that gives PIL images, arrays, tensors, paths or bytes of files, alone, first in a tuple, or as
    `image` in a dict.

    `size` None keeps the size that all have in common, else takes 96. One that cannot be had or is no picture is a problem, under its
    index. Pictures are taken once: a dataset's random transforms are frozen. PIL images of more than 8 bits by the levels `wanted`, else by
    those of the set (deep.py). InputError when nothing is left, or when numbers are out of
    range, which is about all of them.
    """
    if not len(pictures):
        raise InputError(f"{name} holds no pictures")
    with decode.strict_pillow(max_pixels):
        try:
            return _collected(pictures, name, kind, size, max_pixels, n_classes, wanted)
        except _SizesDiffer:
            return _collected(pictures, name, kind, DEFAULT_SIZE, max_pixels, n_classes, wanted)


def as_image(value: Any, name: str, max_pixels: int) -> Image.Image:
    """One picture of a list or dataset as a PIL image; a tensor is (H, W), (1, 3 or 4, H, W) or (H, W, 1, 3 or 4). Raises Unreadable."""
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, dict):
        key = next((key for key in ("image", "img", "pixels") if key in value), None)
        if key is not None:
            value = value[key]
    if isinstance(value, dict):  # as Hugging Face keeps a file that it did not decode
        if not ({"bytes", "path"} & set(value)):
            raise decode.Unreadable(f"no entry `image`; it has {', '.join(map(str, value))}")
        value = value.get("bytes") or value.get("path")
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (str, os.PathLike)):
        value = paths_list([value], name).read(0, decode.most_bytes(max_pixels))
    if isinstance(value, bytes):
        return decode.thumbnail(value, WHOLE, max_pixels)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _from_values(as_numpy(value, name), name)
    raise decode.Unreadable(f"{type(value).__name__}, where a picture is expected: a PIL image, an array, a tensor or a path")


@dataclass(frozen=True)
class PictureOriginals:
    """The native pictures behind resized ones, for thumbnails."""

    pictures: Any
    name: str
    max_pixels: int
    levels: deep.Levels

    def __call__(self, item: int, size: int, digest: str) -> Image.Image:
        return decode.fit_inside(_loaded(self.pictures, item, self.name, self.max_pixels), size, self.levels)


class _SizesDiffer(Exception):
    pass


def _collected(
    pictures: Any, name: str, kind: str, size: int | None, max_pixels: int, n_classes: int | None, wanted: deep.Wanted
) -> Images:
    shape = None if size is None else (size, size)
    pixels = torch.empty(0)
    digests: list[str] = []
    items: list[int] = []
    numbers: dict[int, deep.Deep] = {}  # by row
    problems = []
    for i in range(len(pictures)):
        try:
            image = _loaded(pictures, i, name, max_pixels)
        except decode.Unreadable as problem:
            problems.append(Problem(f"#{i}", str(problem)))
            continue
        shape = shape or (image.height, image.width)
        if size is None and (image.height, image.width) != shape:
            raise _SizesDiffer
        if not items:
            pixels = torch.empty((len(pictures), *shape, 3), dtype=torch.uint8)
        whole = decode.fit_square(image, None)
        digests.append(digest_of(whole.values if isinstance(whole, deep.Deep) else np.asarray(whole)))
        picture = whole if size is None else decode.fit_square(image, size)
        if isinstance(picture, deep.Deep):
            numbers[len(items)] = picture
        else:
            pixels[len(items)] = torch.from_numpy(np.array(picture))
        items.append(i)
    if not items:
        raise InputError(f"{name}: none of its {len(pictures)} pictures can be read; the first: {printable(problems[0].reason)}")
    ranges = [picture.range for picture in numbers.values()]
    levels = deep.levels(ranges, wanted)
    for row, picture in numbers.items():
        pixels[row] = torch.from_numpy(np.array(decode.developed(picture, levels)))
    original, passed = PictureOriginals(pictures, name, max_pixels, levels), [f"#{i}" for i in range(len(pictures))]
    images = images_of(pixels[: len(items)], digests, name, kind, n_classes, original, items, problems, passed)
    return replace(images, levels=levels, notes=deep.told(ranges, levels, wanted), doubts=deep.doubts(ranges, levels))


def _loaded(pictures: Any, i: int, name: str, max_pixels: int) -> Image.Image:
    """Picture `i`, decoded. Raises Unreadable."""
    try:
        value = pictures[i]
    except InputError:
        raise
    except Exception as error:  # a dataset decodes a file here, and hostile bytes make Pillow raise almost any class (decode.py)
        raise decode.Unreadable(f"cannot be had: {words(error)}") from error
    image = as_image(value, name, max_pixels)
    if image.width * image.height > max_pixels:
        raise decode.Unreadable(f"{image.width} x {image.height} pixels, above the limit max_pixels={max_pixels}")
    try:
        image.load()
    except Exception as error:  # as above: a PIL image may be a file not read yet
        raise decode.Unreadable(f"damaged or cut short ({words(error)})") from error
    return image


def _from_values(value: np.ndarray, name: str) -> Image.Image:
    value = value[0] if value.ndim == 3 and value.shape[0] == 1 else value
    if value.ndim == 3 and value.shape[0] == 4 != value.shape[2]:
        value = value.transpose(1, 2, 0)
    if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 4:
        return Image.fromarray(np.ascontiguousarray(value), "RGBA")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise decode.Unreadable("NaN or infinite values")
    if value.ndim not in (2, 3) or 0 in value.shape or value.dtype.kind not in "buif":
        raise decode.Unreadable(f"an array of {value.dtype} and shape {value.shape}, where (H, W) or (H, W, 3) is expected")
    try:
        rows = channels_last(value[None], name)
    except InputError as error:
        raise decode.Unreadable(f"an array of shape {value.shape}, where (H, W) or (H, W, 3) is expected") from error
    return Image.fromarray(as_uint8(np.ascontiguousarray(rows), name)[0])
