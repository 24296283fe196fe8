"""Bytes -> pixels: every mode lands on the right RGB value, orientation is applied, and what cannot be used says why."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from coterie.images import decode, kinds

LIMIT = 100_000_000
RAMP = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data, size=64, max_pixels=LIMIT):
    with decode.strict_pillow(max_pixels):
        return np.asarray(decode.developed(decode.square(data, size, max_pixels)))


def reason(data, max_pixels=LIMIT):
    with pytest.raises(decode.Unreadable) as error:
        pixels(data, max_pixels=max_pixels)
    return str(error.value)


def corners():
    """Four quarters: red, green / blue, white, so that every turn and mirror image shows."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:], image[32:, :32], image[32:, 32:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    return Image.fromarray(image)


def test_a_lossless_picture_of_the_working_size_is_unchanged():
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(pixels(encoded(Image.fromarray(array))), array)


@pytest.mark.parametrize(
    "image, kind",
    [
        (Image.fromarray(RAMP), "PNG"),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"),
        (Image.fromarray(RAMP.astype(np.uint16) * 257), "PPM"),
        (Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF"),
        (Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
        (Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"),
        (Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
        (Image.fromarray(RAMP).convert("RGBA"), "PNG"),
        (Image.fromarray(RAMP).convert("LA"), "PNG"),
        (Image.fromarray(RAMP).convert("P"), "PNG"),
    ],
)
def test_grey_of_every_depth_is_the_same_grey(image, kind):
    got = pixels(encoded(image, kind))
    assert got.shape == (64, 64, 3) and got.dtype == np.uint8
    assert np.array_equal(got, np.repeat(RAMP[..., None], 3, axis=2))


def test_cmyk_is_converted():
    got = pixels(encoded(Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "JPEG"))
    assert np.abs(got.astype(int) - [0, 255, 255]).max() <= 3


def test_transparent_parts_become_white():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    got = pixels(encoded(image))
    assert (got[:, :31] == 255).all() and (got[:, 33:] == [255, 0, 0]).all()
    palette = Image.new("P", (64, 64), 3)
    palette.putpalette([9] * 768)
    assert (pixels(encoded(palette, "GIF", transparency=3)) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation, kind):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(corners(), kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    at = [(10, 10), (10, 50), (50, 10), (50, 50)]
    got = pixels(data)
    assert all(np.abs(got[y, x].astype(int) - upright[y, x]).max() < 30 for y, x in at)
    assert orientation == 1 or not all(np.array_equal(got[y, x], np.asarray(corners())[y, x]) for y, x in at)


def test_the_centre_is_kept():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (pixels(encoded(Image.fromarray(wide)), 20) == 255).all()
    assert (pixels(encoded(Image.fromarray(wide.transpose(1, 0, 2))), 20) == 255).all()
    assert pixels(encoded(Image.new("RGB", (3, 900))), 16).shape == (16, 16, 3)


def test_a_large_jpeg_is_close_to_a_plain_resize():
    smooth = Image.fromarray(RAMP).resize((800, 800), Image.Resampling.BICUBIC).convert("RGB")
    got = pixels(encoded(smooth, "JPEG", quality=95), 32).astype(int)
    assert np.abs(got - np.asarray(smooth.resize((32, 32), Image.Resampling.BICUBIC))).mean() < 2


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert (pixels(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), 8) == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_cut_file_is_refused(kind):
    array = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(array), kind)
    assert reason(whole[: len(whole) // 2])


def test_a_cut_file_is_refused_whatever_others_set(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded(corners(), "JPEG")
    assert "cut short" in reason(whole[:-20])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_is_no_picture_says_so():
    assert reason(b"") == "empty file"
    assert "not a picture" in reason(b"not a picture")
    assert "a PostScript drawing, which is not read" in reason(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    )  # would start Ghostscript


def test_the_limit_is_checked_before_decoding():
    small = encoded(Image.new("1", (1, 1)))
    bomb = bytearray(small)
    bomb[16:24] = struct.pack(">II", 100_000, 100_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    assert "above the limit" in reason(bytes(bomb))
    assert "above the limit" in reason(encoded(Image.new("1", (1100, 1100))), max_pixels=1_000_000)
    assert pixels(encoded(Image.new("1", (1000, 1000))), max_pixels=1_000_000).shape == (64, 64, 3)
    before = Image.MAX_IMAGE_PIXELS
    assert pixels(encoded(Image.new("1", (100, 100))), max_pixels=10**9).any() == 0 and before == Image.MAX_IMAGE_PIXELS


def test_heic_is_read_or_names_the_extra(monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    heif.from_pillow(corners()).save(data, quality=95)
    got = pixels(data.getvalue())
    assert np.abs(got[10, 10].astype(int) - [255, 0, 0]).max() < 40
    monkeypatch.setattr(decode, "_formats", lambda heif: [*kinds.FORMATS])
    assert "pip install coterie[heic]" in reason(data.getvalue())


def test_thumbnails_keep_the_aspect_and_never_grow():
    exif = Image.Exif()
    exif[0x0112] = 6
    with decode.strict_pillow(LIMIT):
        assert decode.thumbnail(encoded(Image.new("RGB", (300, 100))), 60, LIMIT).size == (60, 20)
        assert decode.thumbnail(encoded(Image.new("RGB", (300, 100)), "JPEG", exif=exif), 60, LIMIT).size == (20, 60)
        assert decode.thumbnail(encoded(Image.new("RGB", (30, 10))), 60, LIMIT).size == (30, 10)
