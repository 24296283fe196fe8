"""Deep pictures: more than 8 bits a channel. Where white lies is seldom in such a file, 12-bit values in 16 bits say so no more than floats
do; it is a matter of the set. So they stay numbers until all pictures of the set have been seen, and are then scaled alike.

S working size, C channels: grey (1), grey and opacity (2), red, green, blue (3), and opacity (4); opacity is 0 to 255.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

KINDS = {"integer16": "16-bit integers", "integer32": "32-bit integers", "float": "floats"}  # a set has a white for each
MISSING = 1e30  # a float this large stands for "no value" and is black
BOTH = "coterie both bytes"
_OTHER_END = {"16B": "16L", "16L": "16B", "16N": "16L" if sys.byteorder == "big" else "16B"}

Levels = Mapping[str, tuple[float, float]]  # of each kind of numbers: the value of black and the value of white


class Range(NamedTuple):
    """The numbers of one whole picture: their kind, one of KINDS; smallest and largest; `flipped`: its file says that 0 is white."""

    kind: str
    low: float
    high: float
    channels: int
    flipped: bool


class Deep(NamedTuple):
    """A picture still in its own numbers: float32 (S, S, C)."""

    values: np.ndarray
    range: Range


class Wanted(NamedTuple):
    """What decides black and white in place of the set: a value of white, 0.0 for none; the levels of another set, by kind."""

    white: float = 0.0
    levels: Levels | None = None


NOTHING = Wanted()


def is_grey(image: Image.Image) -> bool:
    """Whether a loaded image is deep grey."""
    return image.mode == "F" or image.mode.startswith("I")


def is_coloured(image: Image.Image) -> bool:
    """Whether an opened image, not loaded yet, has 16 bits in each of several channels, of which Pillow keeps the upper 8."""
    tiles = image.tile if image.format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA") else []  # type: ignore[attr-defined]
    return bool(tiles) and all(tile[0] in ("zip", "raw", "libtiff") and _deep_colours(_raw(tile)) for tile in tiles)


def swap(image: Image.Image) -> None:
    """Make such an image give the lower bytes when it is loaded; of grey with opacity, both bytes of both."""
    tiles = []
    for tile in image.tile:  # type: ignore[attr-defined]
        family, _, depth = _raw(tile).partition(";")
        raw = f"{family};{_OTHER_END[depth]}"
        if family == "LA":  # two bytes each, the upper first: read as four channels
            raw, image.info[BOTH] = "RGBA", True
        tiles.append((*tile[:3], (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw))
    image.tile = [type(old)(*new) if hasattr(old, "_fields") else new for old, new in zip(image.tile, tiles)]  # type: ignore[attr-defined]


def whole(image: Image.Image, lower: Image.Image | None, fit: Callable[[Image.Image], Image.Image]) -> Deep:
    """A loaded image, with the lower bytes of a coloured one, as numbers; `fit` shrinks and turns one channel, mode F."""
    if lower is None:
        flipped = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0
        channels, opacity = [_finite(np.asarray(image).astype(np.float32))], None
        kind = "float" if image.mode == "F" else "integer16" if image.mode != "I" or image.format == "PPM" else "integer32"
    else:
        flipped, kind = False, "integer16"
        pairs = _pairs(image, lower)
        channels = [np.asarray(upper).astype(np.float32) * 256 + np.asarray(low) for upper, low in pairs]
        opacity = np.asarray(image.getchannel("A")).astype(np.float32) if image.mode == "RGBA" else None
    low, high = min(float(one.min()) for one in channels), max(float(one.max()) for one in channels)
    if opacity is None or opacity.min() == 255:
        small = [np.asarray(fit(Image.fromarray(one))) for one in channels]
    else:  # colours weigh by their opacity, as Pillow resizes them
        clear = np.asarray(fit(Image.fromarray(opacity)))
        small = [np.asarray(fit(Image.fromarray(one * opacity))) / np.maximum(clear, 1e-6) for one in channels] + [clear]
    values = np.stack(small, axis=-1)
    return Deep(values, Range(kind, low, high, values.shape[-1], flipped))


def levels(ranges: Iterable[Range], wanted: Wanted = NOTHING) -> dict[str, tuple[float, float]]:
    """Black and white for each kind of numbers in a set: those `wanted`, else 0 and the white that is, else from the set.

    From the set: black is 0, or its smallest value where that is negative. White of integers is the largest value of the fewest bits that
    hold the set's largest (4095 for 12 bits); of floats 1.0 where the largest is within a tenth of it above or half of it below, else the
    largest.
    """
    found: dict[str, tuple[float, float]] = {}
    for kind, low, high, _, _ in ranges:
        before = found.get(kind, (0.0, 0.0))
        found[kind] = min(before[0], low), max(before[1], high)
    for kind, (low, high) in found.items():
        if wanted.levels is not None and kind in wanted.levels:
            black, white = wanted.levels[kind]
            found[kind] = float(black), float(white)
        elif wanted.white:
            found[kind] = 0.0, float(wanted.white)
        elif kind != "float":
            found[kind] = low, float((1 << int(max(high, 1)).bit_length()) - 1)
        else:
            found[kind] = low, 1.0 if 0.5 <= high <= 1.1 else high
    return found


def shallow(deep: Deep, levels: Levels) -> Image.Image:
    """The picture between black and white as L, LA, RGB or RGBA, rounded."""
    black, white = levels[deep.range.kind]
    count = deep.range.channels - 1 + deep.range.channels % 2  # colours; opacity makes the number even
    parts = (deep.values - black) * (255 / max(white - black, 1e-12))
    if deep.range.flipped:
        parts = 255 - parts
    parts[..., count:] = deep.values[..., count:]
    bytes_ = np.clip(np.rint(parts), 0, 255).astype(np.uint8)
    return Image.fromarray(bytes_[..., 0] if deep.range.channels == 1 else bytes_)


def told(ranges: Sequence[Range], levels: Levels, wanted: Wanted = NOTHING) -> list[str]:
    """What a person should know about it, a sentence for each kind of numbers."""
    sentences = []
    for kind, (black, top) in levels.items():
        highs = sorted(one.high for one in ranges if one.kind == kind)
        source = f"the largest value is {highs[-1]:g}"
        if wanted.levels is not None and kind in wanted.levels:
            source = "as in the fitted set"
        elif wanted.white:
            source = "as --set white says"
        have = "1 picture has" if len(highs) == 1 else f"{len(highs):,} pictures have"
        text = f"{have} more than 8 bits ({KINDS[kind]}): {black:g} is taken as black and {top:g} as white ({source})"
        sentences.append(text if source.startswith("as ") else f"{text}; --set white=VALUE takes another")
    return sentences


def doubts(ranges: Sequence[Range], levels: Levels) -> list[str]:
    """Where black and white do not suit the pictures."""
    found = []
    for kind, (black, white) in levels.items():
        highs = sorted(one.high for one in ranges if one.kind == kind)
        usual, text = highs[len(highs) // 2], ""
        if usual - black < (white - black) / 8:
            text = "reach only {usual:g} of {white:g}, which is white, and are dark"
        elif usual - black > 2 * (white - black):
            text = "reach {usual:g}, far above {white:g}, which is white, and are cut off there"
        if text:
            found.append(f"half of the pictures with more than 8 bits {text.format(usual=usual, white=white)}: try --set white={usual:g}")
    return found


def _raw(tile: tuple) -> str:
    """How the bytes of this part of a file lie, as RGB;16B."""
    return str(tile[3][0] if isinstance(tile[3], tuple) else tile[3])


def _deep_colours(raw: str) -> bool:
    family, _, depth = raw.partition(";")
    return depth in _OTHER_END and family in ("RGB", "RGBA", "RGBX", "LA")  # not RGBa, whose bytes Pillow divides by the opacity


def _pairs(image: Image.Image, lower: Image.Image) -> list[tuple[Image.Image, Image.Image]]:
    """Upper and lower byte of each colour channel."""
    if lower.info.get(BOTH):
        return [(lower.getchannel(0), lower.getchannel(1))]
    return [(image.getchannel(i), lower.getchannel(i)) for i in range(3)]


def _finite(values: np.ndarray) -> np.ndarray:
    values[~(np.abs(values) < MISSING)] = 0
    return values
