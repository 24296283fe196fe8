"""Bytes of one picture file -> RGB pixels, or the reason why not. The only file that decodes pictures; Pillow does the work."""

import hashlib
import importlib.util
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

VERSION = 1  # raise it when the same file would give other pixels: stores of older versions are then not used

# What is read as a picture. Not EPS, WMF or PDF, which run other programs; not TGA or PCX, whose headers fit almost any file.
EXTENSIONS = frozenset("jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff ppm pgm pbm pnm".split())  # noqa: SIM905
EXTENSIONS |= frozenset("jp2 j2k jpx jpf sgi qoi ico heic heif hif avif".split())  # noqa: SIM905
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "SGI", "QOI", "ICO", "DIB"]

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pillow = threading.Lock()


class Unreadable(Exception):
    """A picture that cannot be used; the message is the reason in plain words."""


class NotNow(Unreadable):
    """One for which its bytes are not to blame: nothing to remember, as another time it may be read."""


@contextmanager
def strict_pillow(max_pixels: int) -> Iterator[None]:
    """Set Pillow's switches for strangers' files, and put them back after: our pixel limit, no half-read pictures, no warnings.

    One holder at a time: the switches belong to the process. Pillow refuses above twice MAX_IMAGE_PIXELS.
    """
    with _pillow, warnings.catch_warnings():
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.init()
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = -(-max_pixels // 2), False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before


def square(data: bytes, size: int, max_pixels: int) -> Image.Image:
    """The centre square of the picture in `data`, as an RGB image of size x size pixels, upright. Raises Unreadable."""
    return fit_square(_load(data, size, max_pixels), size)


def thumbnail(data: bytes, size: int, max_pixels: int) -> Image.Image:
    """The whole picture in `data`, RGB, upright, its longest side at most `size` pixels; never enlarged. Raises Unreadable."""
    return fit_inside(_load(data, size, max_pixels), size)


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Centre square of a loaded image, resized in one pass to RGB size x size, its EXIF orientation applied."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    small = _workable(image).resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side), reducing_gap=2.0)
    return _upright(_on_white(small), image)


def fit_inside(image: Image.Image, size: int) -> Image.Image:
    """A whole loaded image, shrunk to RGB with its longest side at most `size`, its EXIF orientation applied; never enlarged."""
    scale = min(1.0, size / max(image.size))
    inside = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return _upright(_on_white(_workable(image).resize(inside, Image.Resampling.BICUBIC, reducing_gap=2.0)), image)


def most_bytes(max_pixels: int) -> int:
    """The largest file worth reading: 16-bit RGBA without compression, and room for what else a file may carry."""
    return 8 * max_pixels + (64 << 20)


def digest(data: bytes) -> str:
    """Content hash of a file: 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def reads_heif() -> bool:
    """Whether HEIC files can be decoded here: the extra `coterie[heic]` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _load(data: bytes, size: int, max_pixels: int) -> Image.Image:
    """Open, check the size in the header, decode. A JPEG is decoded at the smallest of its scales that is still twice `size`."""
    image = _open(data, max_pixels)
    if image.width * image.height > max_pixels:
        raise Unreadable(f"{image.width} x {image.height} pixels, above the limit of {max_pixels / 1e6:g} megapixels (max_pixels)")
    try:
        image.draft(None, (2 * size, 2 * size))
        image.load()
    except MemoryError as error:
        raise NotNow(f"not enough memory for its {image.width} x {image.height} pixels") from error
    except Exception as error:  # hostile bytes make Pillow's plugins raise almost any class; all mean that the file is broken
        raise Unreadable(f"damaged or cut short ({_words(error)})") from error
    return image


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise Unreadable("empty file")
    heif = data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS
    try:
        return Image.open(io.BytesIO(data), formats=_formats(heif))
    except UnidentifiedImageError:
        if heif:
            raise Unreadable("a HEIC or AVIF picture; to read it: pip install coterie[heic]") from None
        raise Unreadable("not a picture, or one in a format that is not read") from None
    except Image.DecompressionBombError as error:
        raise Unreadable(f"above the limit of {max_pixels / 1e6:g} megapixels (max_pixels)") from error
    except MemoryError as error:
        raise NotNow("not enough memory to open it") from error
    except Exception as error:  # as in _load
        raise Unreadable(f"damaged ({_words(error)})") from error


@cache
def _formats(heif: bool) -> list[str]:
    """What this Pillow can open of FORMATS (AVIF came late), and HEIF when the file is one and the extra is there."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    if not heif or not reads_heif():
        return formats
    import pillow_heif

    pillow_heif.register_heif_opener()
    return [*formats, "HEIF"]


def _workable(image: Image.Image) -> Image.Image:
    """The image in a mode that resizes well: L, RGB, or RGBA when anything in it is transparent."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bit(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deep grey -> L: from 0..65535 (0..4095 where the file says 12 bits) to 0..255, rounded.

    32-bit values have no fixed white: the first of 0..1 (floats), 0..255 and 0..65535 that holds them all is taken, else their own range.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    black, white = 0.0, _white_level(image)
    if not white:
        low, high = float(values.min()), float(values.max())
        whites = [white for white in ((1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)) if low >= 0 and high <= white]
        black, white = (0.0, whites[0]) if whites else (low, high)
    scaled = (values - black) * (255 / max(white - black, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _white_level(image: Image.Image) -> float:
    """The value of white where the format fixes it, else 0.0."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        return float((1 << int(bits[0] if isinstance(bits, tuple) else bits)) - 1)
    return 65535.0 if image.format == "PPM" and image.mode == "I" else 0.0


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _upright(small: Image.Image, original: Image.Image) -> Image.Image:
    """Turn the small picture as the original's EXIF says; a centre square is the same before and after, and small is cheap to turn."""
    if original.format != "TIFF" and not any("exif" in str(key) or "xmp" in str(key).lower() for key in original.info):
        return small
    try:
        turn = original.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels, which were decoded: the picture is taken as it lies
        return small
    return small.transpose(_TURNS[turn]) if turn in _TURNS else small


def _words(error: Exception) -> str:
    """The error in one line, without the memory addresses that Pillow puts into some."""
    return " ".join(str(error).split(" <_io")[0].split()) or type(error).__name__
