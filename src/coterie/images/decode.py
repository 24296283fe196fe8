"""Bytes of one picture file -> RGB pixels, or the reason why not. The only file that decodes pictures; Pillow does the work."""

import hashlib
import importlib.util
import io
from functools import cache, partial

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from coterie.images import deep, kinds
from coterie.images.strict import MOST_SAID as MOST_SAID
from coterie.images.strict import remarks as remarks
from coterie.images.strict import strict_pillow as strict_pillow

VERSION = 2  # raise it when the same file would give other pixels: stores of older versions are then not used
DARK = (64, 64, 64)  # under pictures that a white ground would hide: white stands out from it, and so does black
NEAR_WHITE = 32  # levels below white in every channel: what is nearer cannot be seen on white
SEEN = 1 / 8  # of a transparent picture must be seen on a white ground, else it is put on the dark one
_PROBE = 64  # px, the size at which this is looked at, whatever the working size

Box = tuple[float, float, float, float]
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
SCALED = "coterie scaled"  # in the info of an image whose values were scaled to 0..65535 when it was decoded


class Unreadable(Exception):
    """A picture that cannot be used; the message is the reason in plain words."""


class NotNow(Unreadable):
    """One for which its bytes are not to blame: nothing to remember, as another time it may be read."""


def square(data: bytes, size: int, max_pixels: int) -> Image.Image | deep.Deep:
    """The centre square of the picture in `data`, as an RGB image of size x size pixels, upright; still in its own numbers when it has more
    than 8 bits (deep.py). Raises Unreadable."""
    image, lower = _load(data, size, max_pixels)
    return _fitted(image, lower, (size, size), _centre(image))


def thumbnail(data: bytes, size: int, max_pixels: int, levels: deep.Levels | None = None) -> Image.Image:
    """The whole picture in `data`, RGB, upright, its longest side at most `size` pixels; never enlarged. Deep ones by the `levels` of their
    set, else by their own. Raises Unreadable."""
    image, lower = _load(data, size, max_pixels)
    return developed(_fitted(image, lower, _inside(image, size), None), levels)


def class_numbers(data: bytes, max_pixels: int) -> np.ndarray:
    """The numbers that a mask holds, uint8 (H, W): the entries of its palette, or its grey levels. Raises Unreadable, also for a picture
    in colours, which tells no numbers."""
    image, lower = _load(data, 1 << 20, max_pixels)
    if image.mode not in ("P", "L") or lower is not None:
        raise Unreadable(f"no mask of class numbers (its colours are {image.mode})")
    return np.array(image)


def fit_square(image: Image.Image, size: int | None) -> Image.Image | deep.Deep:
    """Centre square of a loaded image, resized in one pass to RGB size x size, its EXIF orientation applied; all of it, at its own size,
    when `size` is None. A deep one is still in its own numbers."""
    box = None if size is None else _centre(image)
    return _fitted(image, None, image.size if size is None else (size, size), box)


def fit_inside(image: Image.Image, size: int, levels: deep.Levels | None = None) -> Image.Image:
    """A whole loaded image, shrunk to RGB with its longest side at most `size`, its EXIF orientation applied; never enlarged."""
    return developed(_fitted(image, None, _inside(image, size), None), levels)


def developed(picture: Image.Image | deep.Deep, levels: deep.Levels | None = None) -> Image.Image:
    """RGB: as it is, or a deep picture by the `levels` of its set, else by its own."""
    if isinstance(picture, Image.Image):
        return picture
    if levels is None or picture.range.kind not in levels:
        levels = deep.levels([picture.range])
    small = deep.shallow(picture, levels)
    return _on_ground(small.convert("RGBA"), small.convert("RGBA")) if "A" in small.mode else small.convert("RGB")


def shown_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the picture in `data` as it is shown, upright; from its header alone. Raises Unreadable."""
    image = _open(data, 1 << 40)
    width, height = image.size
    return (height, width) if _turn(image) in SIDEWAYS else (width, height)


def most_bytes(max_pixels: int) -> int:
    """The largest file worth reading: 16-bit RGBA without compression, and room for what else a file may carry."""
    return 8 * max_pixels + (64 << 20)


def digest(data: bytes) -> str:
    """Content hash of a file: 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def reads_heif() -> bool:
    """Whether HEIC files can be decoded here: the extra `coterie[heic]` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def _load(data: bytes, size: int, max_pixels: int) -> tuple[Image.Image, Image.Image | None]:
    """Open, check the size in the header, decode; and of 16-bit colour the lower bytes, too. A JPEG is decoded at the smallest of its
    scales that is still twice `size`, where it can be: a lossless one cannot."""
    image = _open(data, max_pixels)
    if image.width * image.height > max_pixels:
        raise Unreadable(f"{image.width} x {image.height} pixels, above the limit of {max_pixels / 1e6:g} megapixels (max_pixels)")
    if image.format == "DDS" and image.width * image.height > 2 * len(data):  # older Pillows make up what is missing, for minutes
        raise Unreadable("damaged or cut short (fewer bytes than pixels)")
    lower = _open(data, max_pixels) if deep.is_coloured(image) else None
    try:
        if image.draft(None, (2 * size, 2 * size)) is not None:
            try:
                image.load()
            except MemoryError:
                raise
            except Exception:  # see below: only what fails at its full size, too, is broken
                image = _open(data, max_pixels)
                image.load()
        else:
            image.load()
        if lower is not None:
            deep.swap(lower)
            lower.load()
    except MemoryError as error:
        raise NotNow(f"not enough memory for its {image.width} x {image.height} pixels") from error
    except Exception as error:  # hostile bytes make Pillow's plugins raise almost any class; all mean that the file is broken
        raise Unreadable(f"damaged or cut short ({_words(error)})") from error
    return image, lower


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise Unreadable("empty file")
    heif = kinds.is_heif(data)
    try:
        image = _identified(data, heif)
    except UnidentifiedImageError:
        if heif:
            raise Unreadable(_why_no_heif(data)) from None
        raise Unreadable(kinds.foreign(data)) from None
    except Image.DecompressionBombError as error:
        raise Unreadable(f"above the limit of {max_pixels / 1e6:g} megapixels (max_pixels)") from error
    except MemoryError as error:
        raise NotNow("not enough memory to open it") from error
    except Exception as error:  # as in _load
        raise Unreadable(f"damaged ({_words(error)})") from error
    if image.mode == "I" and image.format == "PPM" and image.tile[0][0] != "raw":  # type: ignore[attr-defined]
        image.info[SCALED] = True
    return image


def _identified(data: bytes, heif: bool) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats(heif))
    except UnidentifiedImageError:
        if weak := kinds.weak_formats(data):
            return Image.open(io.BytesIO(data), formats=weak)
        raise


def _why_no_heif(data: bytes) -> str:
    kind, reader = ("AVIF", "AVIF") if data[8:11] == b"avi" else ("HEIC", "HEIF")
    if reader in _formats(True):
        return f"{kind}, damaged or of a kind that is not read; if it opens elsewhere, {kinds.PNG}"
    if kind == "AVIF":
        return "an AVIF picture; to read it: pip install --upgrade pillow"
    return "a HEIC picture; to read it: pip install coterie[heic]"


@cache
def _formats(heif: bool) -> list[str]:
    """What this Pillow can open of FORMATS (AVIF came late), and HEIF when the file is one and the extra is there."""
    Image.init()
    formats = [name for name in kinds.FORMATS if name in Image.OPEN]
    if not heif or not reads_heif():
        return formats
    import pillow_heif

    pillow_heif.register_heif_opener()
    return [*formats, "HEIF"]


def _centre(image: Image.Image) -> Box:
    """The largest centred square."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _inside(image: Image.Image, size: int) -> tuple[int, int]:
    scale = min(1.0, size / max(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _fitted(image: Image.Image, lower: Image.Image | None, size: tuple[int, int], box: Box | None) -> Image.Image | deep.Deep:
    """The part of a loaded image in `box`, None for all of it, resized to `size` in one pass and turned upright."""
    fit = partial(_resized, size=size, box=box, original=image)
    if lower is not None or deep.is_grey(image):
        if white := _own_white(image):
            return deep.shallow(deep.whole(image, lower, fit), dict.fromkeys(deep.KINDS, (0.0, white))).convert("RGB")
        return deep.whole(image, lower, fit)
    image = _workable(image)
    small = fit(image)
    return _on_ground(small, image) if small.mode == "RGBA" else small.convert("RGB")


def _resized(image: Image.Image, size: tuple[int, int], box: Box | None, original: Image.Image) -> Image.Image:
    return _upright(image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=2.0), original)


def _workable(image: Image.Image) -> Image.Image:
    """The image in a mode that resizes well: L, RGB, or RGBA when anything in it is transparent."""
    try:
        if image.has_transparency_data:
            image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
            return image.convert("RGB") if image.getchannel("A").getextrema()[0] == 255 else image
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    except ValueError as error:
        raise Unreadable(f"{image.mode} colours, which are not read; {kinds.PNG}") from error


def _own_white(image: Image.Image) -> float:
    """The value of white in a deep grey image whose format fixes it, else 0.0: 12 bits in a TIFF, and PGM, which Pillow has scaled."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))
        depth = int(bits[0] if isinstance(bits, tuple) else bits)
        return float((1 << depth) - 1) if depth < 16 else 0.0
    return 65535.0 if image.info.get(SCALED) else 0.0


def _on_ground(small: Image.Image, whole: Image.Image) -> Image.Image:
    """RGB: the RGBA image `small` on white, or on dark grey where white would hide the centre square of `whole`, from which it was made."""
    ground = Image.new("RGB", small.size, "white" if _shows_on_white(whole) else DARK)
    ground.paste(small, mask=small.getchannel("A"))
    return ground


def _shows_on_white(image: Image.Image) -> bool:
    """Whether enough of what is opaque in an RGBA image differs from white; also when nothing is opaque."""
    probe = np.asarray(image.resize((_PROBE, _PROBE), Image.Resampling.BOX, _centre(image), reducing_gap=1.0))
    opacity = probe[..., 3].astype(np.int64)
    differs = probe[..., :3].min(axis=-1) <= 255 - NEAR_WHITE
    return int(opacity[differs].sum()) >= SEEN * int(opacity.sum())


def _upright(small: Image.Image, original: Image.Image) -> Image.Image:
    """Turn the small picture as the original's EXIF says; a centre square is the same before and after, and small is cheap to turn."""
    turn = _turn(original)
    return small.transpose(_TURNS[turn]) if turn in _TURNS else small


def _turn(image: Image.Image) -> int:
    """The orientation that a picture's EXIF tells; 1: as it lies."""
    if image.format != "TIFF" and not any("exif" in str(key) or "xmp" in str(key).lower() for key in image.info):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels, which were decoded: the picture is taken as it lies
        return 1


def _words(error: Exception) -> str:
    """The error in one line, without the memory addresses that Pillow puts into some."""
    return " ".join(str(error).split(" <_io")[0].split()) or type(error).__name__
