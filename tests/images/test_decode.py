"""Bytes -> pixels: every mode lands on the right RGB value, orientation is applied, and what cannot be used says why."""

import io
import logging
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


def logo(colour, *, line=None, mode="RGBA"):
    """A square of one colour on nothing, perhaps with a line of another through it."""
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste(colour, (16, 16, 48, 48))
    if line is not None:
        image.paste(line, (16, 30, 48, 33))
    return image.convert(mode)


@pytest.mark.parametrize("size", [16, 64, 200])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("colour", [0, 60, 128, 200, 235, 250, 255])
def test_what_lies_on_nothing_can_be_seen(colour, mode, size):
    got = pixels(encoded(logo((colour,) * 3 + (255,), mode=mode)), size).astype(int)
    inside, outside = got[size // 2, size // 2, 0], got[size // 16, size // 16, 0]
    assert abs(inside - colour) <= 1 and abs(inside - outside) >= 32
    assert outside == (255 if colour <= 200 else 64)


def test_white_with_a_black_line_shows_both():
    got = pixels(encoded(logo((255, 255, 255, 255), line=(0, 0, 0, 255))))
    assert (got[2, 2] == 64).all() and (got[20, 32] == 255).all() and (got[31, 32] == 0).all()


@pytest.mark.parametrize("rows, ground", [(2, 64), (6, 255)])
def test_an_eighth_of_a_picture_must_be_seen_on_white(rows, ground):
    image = logo((255, 255, 255, 255))
    image.paste((200, 40, 40, 255), (16, 16, 48, 16 + rows))  # of 32
    assert pixels(encoded(image))[2, 2].tolist() == [ground] * 3


def test_a_palette_and_a_transparent_colour_are_seen_too():
    palette = logo((255, 255, 255, 255)).getchannel("A").point(lambda a: a // 255).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    assert pixels(encoded(palette, transparency=0))[2, 2, 0] == 64
    assert pixels(encoded(palette, "GIF", transparency=0))[32, 32, 0] == 255


def test_the_ground_is_the_same_at_every_size_and_in_thumbnails():
    mixed = logo((255, 255, 255, 255), line=(200, 40, 40, 255))
    grounds = {tuple(pixels(encoded(mixed), size)[0, 0]) for size in (8, 31, 64, 224)}
    with decode.strict_pillow(LIMIT):
        grounds.add(decode.thumbnail(encoded(mixed), 48, LIMIT).getpixel((0, 0)))
    assert len(grounds) == 1


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


def lossless_jpeg(grey):
    """Process SOF3 of the JPEG standard: each value as the difference from its left neighbour, Huffman coded."""
    values, left = grey.astype(int), np.full(grey.shape, 128)
    left[:, 1:], left[1:, 0] = values[:, :-1], values[:-1, 0]
    bits = ""
    for difference in (values - left).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:04b}" + (f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    frame, table = struct.pack(">BHHB", 8, *grey.shape, 1) + bytes([1, 0x11, 0]), bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])
    parts = ((0xC3, frame), (0xC4, table), (0xDA, bytes([1, 1, 0, 1, 0, 0])))
    return b"\xff\xd8" + b"".join(bytes([255, m]) + struct.pack(">H", len(p) + 2) + p for m, p in parts) + data + b"\xff\xd9"


def test_a_lossless_jpeg_is_read_at_every_size():
    data = lossless_jpeg(RAMP)
    if not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), RAMP):
        pytest.skip("this libjpeg does not know lossless JPEG")
    assert np.array_equal(pixels(data)[..., 0], RAMP)
    for size in (4, 8, 16, 31):
        whole = np.asarray(Image.fromarray(RAMP).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0))
        assert np.array_equal(pixels(data, size)[..., 0], whole)
    assert "cut short" in reason(data[: len(data) // 2])


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


def test_a_heic_that_is_damaged_is_not_told_to_install_what_is_there():
    heif = pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    heif.from_pillow(corners()).save(data, quality=95)
    for damaged in (data.getvalue()[:60], data.getvalue()[: len(data.getvalue()) // 2], data.getvalue()[:24] + bytes(400)):
        assert "damaged" in reason(damaged) and "pip install" not in reason(damaged)


def test_an_avif_that_cannot_be_read_says_which_of_both_it_is(monkeypatch):
    data = b"\0\0\0\x1cftypavif\0\0\0\0" + bytes(64)
    monkeypatch.setattr(decode, "_formats", lambda heif: ["PNG", "AVIF"])
    assert "damaged" in reason(data)
    monkeypatch.setattr(decode, "_formats", lambda heif: ["PNG"])
    assert "pip install --upgrade pillow" in reason(data)


def test_grey_with_premultiplied_opacity_is_read():
    image = Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (64, 64), 255)]).convert("La")
    assert np.array_equal(np.asarray(decode.developed(decode.fit_square(image, None)))[..., 0], RAMP)


def test_colours_that_cannot_be_converted_are_a_reason(monkeypatch):
    def refuse(*args):
        raise ValueError("conversion from CMYK to RGB not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(decode.Unreadable, match="CMYK colours.*convert it"):
        decode.fit_square(Image.new("CMYK", (8, 8)), 8)


def test_the_log_of_pillow_reaches_the_reason_and_not_the_terminal(capfd):
    log, above = logging.getLogger("PIL.TiffImagePlugin"), []
    handler = logging.Handler()
    handler.emit = above.append
    logging.getLogger().addHandler(handler)
    with decode.strict_pillow(LIMIT):
        assert decode.remarks() == ""
        for _ in range(3):
            log.error("More samples\nthan %d", 4)
        log.warning("and more")
        log.debug("not this")
        assert decode.remarks() == "More samples than 4; and more" and decode.remarks() == ""
        log.error("x" * 10_000)
        assert len(decode.remarks()) <= decode.MOST_SAID
    assert capfd.readouterr() == ("", "") and above == []
    log.error("afterwards it is the caller's again")
    logging.getLogger().removeHandler(handler)
    assert len(above) == 1
    assert logging.getLogger("PIL").propagate and not logging.getLogger("PIL").handlers


def test_thumbnails_keep_the_aspect_and_never_grow():
    exif = Image.Exif()
    exif[0x0112] = 6
    with decode.strict_pillow(LIMIT):
        assert decode.thumbnail(encoded(Image.new("RGB", (300, 100))), 60, LIMIT).size == (60, 20)
        assert decode.thumbnail(encoded(Image.new("RGB", (300, 100)), "JPEG", exif=exif), 60, LIMIT).size == (20, 60)
        assert decode.thumbnail(encoded(Image.new("RGB", (30, 10))), 60, LIMIT).size == (30, 10)
