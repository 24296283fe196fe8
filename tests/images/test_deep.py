"""More than 8 bits: one black and one white for the whole set: found from it, given, or those of another set; said, kept in the store."""

import io
import itertools
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from coterie.images import decode, deep, development, open_images, workers

TWELVE = np.linspace(0, 4095, 32 * 32).reshape(32, 32).astype(np.uint16)
LOOK = np.rint(TWELVE * (255 / 4095)).astype(np.uint8)  # as a person expects it


def png(values):
    """A 16-bit PNG of (H, W) grey or (H, W, C) values; Pillow writes only grey."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if values.ndim == 2 else values.shape[2]]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    made = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def tiff(values, ends="<", white_is_zero=False):
    """An uncompressed TIFF of (H, W) or (H, W, C) values of any number type."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    channels = 1 if values.ndim == 2 else values.shape[2]
    data = np.ascontiguousarray(values, values.dtype.newbyteorder(ends)).tobytes()
    photometric = 2 if channels > 1 else 0 if white_is_zero else 1
    bits = struct.pack(f"{ends}{channels}H", *[values.dtype.itemsize * 8] * channels)
    count, after = 11, 8 + 2 + 12 * 11 + 4
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, None), (259, 1), (262, photometric), (273, after + len(bits))]
    tags += [(277, channels), (278, values.shape[0]), (279, len(data)), (284, 1), (339, kind)]
    out = {"<": b"II", ">": b"MM"}[ends] + struct.pack(f"{ends}HIH", 42, 8, count)
    for tag, value in tags:
        if value is None:
            value = after
            out += struct.pack(f"{ends}HHI", tag, 3, channels) + (bits.ljust(4, b"\0") if channels < 3 else struct.pack(f"{ends}I", after))
        else:
            out += struct.pack(f"{ends}HHII", tag, 4, 1, value)
    return out + bytes(4) + bits + data


def look(data, size=32, levels=None):
    with decode.strict_pillow(10**8):
        return np.asarray(decode.developed(decode.square(data, size, 10**8), levels))


def stored(tmp_path, files, **options):
    folder = tmp_path / "deep"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return open_images(folder, 32, tmp_path / "cache", **options)


RGB = np.stack([TWELVE, TWELVE[::-1], TWELVE.T], axis=-1)
CLEAR = np.full((32, 32, 1), 65535, np.uint16)


@pytest.mark.parametrize(
    "data",
    [png(TWELVE), tiff(TWELVE), tiff(TWELVE, ">"), *(tiff(TWELVE.astype(kind)) for kind in (np.int16, np.int32, np.uint32))],
)
def test_twelve_bits_in_more_are_as_light_as_they_are(data):
    assert np.array_equal(look(data), np.repeat(LOOK[..., None], 3, axis=-1))


@pytest.mark.parametrize("data", [png(RGB), tiff(RGB), tiff(RGB, ">"), png(np.concatenate([RGB, CLEAR], axis=-1))])
def test_colour_too(data):
    assert np.array_equal(look(data), np.stack([LOOK, LOOK[::-1], LOOK.T], axis=-1))


def test_grey_and_colour_with_opacity():
    assert np.array_equal(look(png(np.concatenate([TWELVE[..., None], CLEAR], axis=-1)))[..., 0], LOOK)
    half = np.where(np.arange(32) < 16, 0, 65535).astype(np.uint16) * np.ones((32, 1), np.uint16)
    for values in (TWELVE[..., None], RGB):
        seen = look(png(np.concatenate([values, half[..., None]], axis=-1)))
        assert (seen[:, :15] == 255).all() and np.abs(seen[:, 17:, 0].astype(int) - LOOK[:, 17:]).max() <= 1


def test_hidden_colours_do_not_bleed():
    values = np.full((32, 32, 4), 65535, np.uint16)
    values[:, 15:, :3], values[:, :15, 3] = 1000, 0  # what is transparent is hidden white
    with decode.strict_pillow(10**8):
        small = decode.square(png(values), 8, 10**8)
    assert np.abs(small.values[:, 3:, :3] - 1000).max() < 1 and 0 < small.values[0, 3, 3] < 255


def test_white_on_nothing_can_be_seen():
    values = np.zeros((32, 32, 4), np.uint16)
    values[8:24, 8:24] = 65535
    seen = look(png(values))
    assert (seen[2, 2] == 64).all() and (seen[16, 16] == 255).all()


@pytest.mark.parametrize(
    "values, white",
    [
        (np.linspace(0, 1.02, 1024), 1.0),
        (np.linspace(0, 1.0, 1024), 1.0),
        (np.linspace(0, 0.03, 1024), 0.03),
        (np.linspace(0, 250.5, 1024), 250.5),
        (np.linspace(0, 70_000, 1024), 70_000),
    ],
)
def test_floats(values, white):
    seen = look(tiff(values.reshape(32, 32).astype(np.float32)))[..., 0]
    assert np.abs(seen.ravel() - np.clip(values / white * 255, 0, 255)).max() <= 0.51


@pytest.mark.parametrize("most, white", [(1, 1), (200, 255), (300, 511), (1023, 1023), (1024, 2047), (65_535, 65_535), (70_000, 131_071)])
def test_integers_have_the_white_of_the_fewest_bits_that_hold_them(most, white):
    assert deep.levels([deep.Range("integer16", 0.0, float(most), 1, False)]) == {"integer16": (0.0, float(white))}
    seen = look(tiff(np.linspace(0, most, 1024).reshape(32, 32).astype(np.int32)))
    assert seen.max() == round(most / white * 255) >= 127 and seen.min() == 0


def test_odd_values():
    values = np.linspace(-1024, 3071, 1024).reshape(32, 32)
    assert look(tiff(values.astype(np.int16))).min() == 0 and look(tiff(values.astype(np.float32))).max() == 255
    values = np.linspace(0, 1, 1024).reshape(32, 32).astype(np.float32)
    values[0, :5] = np.nan, np.inf, -np.inf, 3.4e38, -3.4e38
    assert (look(tiff(values))[0, :5] == 0).all() and look(tiff(values)).max() == 255
    assert (look(tiff(np.zeros((32, 32), np.uint16))) == 0).all() and (look(tiff(np.full((32, 32), np.nan, np.float32))) == 0).all()
    assert np.array_equal(look(tiff(TWELVE, white_is_zero=True))[..., 0], 255 - LOOK)


def test_where_the_format_fixes_white_it_is_taken():
    dark = b"P5 32 32 1023\n" + (TWELVE // 16).astype(">u2").tobytes()  # 0 to 255 of 1,023
    assert look(dark).max() == round(255 / 1023 * 255)
    assert look(b"P2 2 2 1000\n0 100 200 300", 2).max() == round(300 / 1000 * 255)


def test_resizing_is_done_before_rounding():
    seen = look(png((TWELVE // 16).astype(np.uint16)), 8, {"integer16": (0.0, 4095.0)})[..., 0]
    exact = np.asarray(Image.fromarray((TWELVE // 16).astype(np.float32)).resize((8, 8), Image.Resampling.BICUBIC, reducing_gap=2.0))
    assert np.array_equal(seen, np.rint(exact * (255 / 4095)).astype(np.uint8))


def test_a_set_has_one_white_and_says_it(tmp_path):
    images = stored(tmp_path, {"a.png": png(TWELVE), "b.png": png(TWELVE // 4), "c.tif": tiff(TWELVE // 8)})
    assert images.levels == {"integer16": (0.0, 4095.0)} and images.doubts == []
    for i, part in enumerate((1, 4, 8)):
        assert np.array_equal(images.pixels[i, ..., 0].numpy(), np.rint((TWELVE // part) * (255 / 4095)).astype(np.uint8))
    (note,) = images.notes
    assert all(word in note for word in ("3 pictures", "4095 as white", "the largest value is 4095", "--set white="))


def test_pictures_of_eight_bits_stay_as_they_are(tmp_path):
    file = io.BytesIO()
    Image.fromarray(LOOK).save(file, "PNG")
    images = stored(tmp_path, {"a.png": file.getvalue(), "b.png": png(TWELVE), "c.tif": tiff((TWELVE / 4095).astype(np.float32))})
    assert all(np.array_equal(images.pixels[i, ..., 0].numpy(), LOOK) for i in range(3))
    assert images.levels == {"integer16": (0.0, 4095.0), "float": (0.0, 1.0)} and len(images.notes) == 2
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [""]
    assert not list((tmp_path / "cache").rglob(development.NUMBERS))


def test_kinds_of_numbers_do_not_darken_each_other(tmp_path):
    low = np.linspace(0, 300, 1024).reshape(32, 32)
    images = stored(tmp_path, {"a.png": png(TWELVE), "b.tif": tiff(low.astype(np.int32)), "c.tif": tiff((low / 300).astype(np.float32))})
    assert images.levels == {"integer16": (0.0, 4095.0), "integer32": (0.0, 511.0), "float": (0.0, 1.0)}
    assert [int(image.max()) for image in images.pixels] == [255, round(300 / 511 * 255), 255]


def test_white_can_be_given_or_be_that_of_another_set(tmp_path):
    files = {"a.png": png(TWELVE)}
    images = stored(tmp_path, files, white=8190.0)
    assert images.levels == {"integer16": (0.0, 8190.0)} and int(images.pixels.max()) == 128 and "as --set white says" in images.notes[0]
    images = stored(tmp_path, files, levels={"integer16": [0, 16380]})
    assert int(images.pixels.max()) == 64 and "fitted set" in images.notes[0]
    assert stored(tmp_path, files, levels={"float": [0, 1]}).levels == {"integer16": (0.0, 4095.0)}
    assert int(stored(tmp_path, files).pixels.max()) == 255


def test_a_white_that_does_not_suit_is_doubted(tmp_path):
    files = {f"{i}.png": png(TWELVE // 16) for i in range(5)}
    (doubt,) = stored(tmp_path, files | {"hot.png": png(np.where(TWELVE > 4000, 65535, TWELVE // 16))}).doubts
    assert "reach only 255 of 65535" in doubt and "--set white=255" in doubt
    (doubt,) = stored(tmp_path, files, white=100.0).doubts
    assert "far above 100" in doubt


def test_thumbnails_have_the_white_of_the_set(tmp_path):
    images = stored(tmp_path, {"a.png": png(TWELVE), "b.png": png(np.stack([TWELVE // 4] * 3, axis=-1))})
    assert [thumb.max() for thumb in images.thumbnails([0, 1], 32)] == [255, round(1023 / 4095 * 255)]
    assert np.array_equal(images.thumbnails([1], 32)[0], images.pixels[1].numpy())


def many(n=30):
    return {f"{i:02}.png": png((TWELVE // (1 + i % 4)) if i % 3 else np.stack([TWELVE // (1 + i % 4)] * 3, axis=-1)) for i in range(n)}


def stopping(work, when):
    """`work` that is interrupted at its call number `when`."""
    count = itertools.count()

    def stopped(*args):
        if next(count) == when:
            raise KeyboardInterrupt
        return work(*args)

    return stopped


def test_an_interrupted_store_ends_with_the_same_pixels(tmp_path, monkeypatch):
    whole = stored(tmp_path, many())
    shutil.rmtree(tmp_path / "cache")
    for name, when in (("square", 7), ("square", 12), ("developed", 20)):  # the last: while the numbers become pixels
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(decode, name, stopping(getattr(decode, name), when))
            stored(tmp_path, {})
    with monkeypatch.context() as patch:
        patch.setattr(decode, "square", stopping(decode.square, 0))  # all of it has been decoded
        assert torch.equal(stored(tmp_path, {}).pixels, whole.pixels)
    assert [entry.suffix for entry in (tmp_path / "cache").iterdir()] == [""]


def test_damaged_numbers_are_made_again(tmp_path, monkeypatch):
    whole = stored(tmp_path, many())
    shutil.rmtree(tmp_path / "cache")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(development, "finish", stopping(development.finish, 0))
        stored(tmp_path, {})
    (numbers,) = (tmp_path / "cache").rglob(development.NUMBERS)
    with open(numbers, "r+b") as file:
        file.seek(9000)
        file.write(b"\x00\x00\x80\x7f" * 3)
    assert torch.equal(stored(tmp_path, {}).pixels, whole.pixels)


def test_processes_give_the_same_pixels_as_threads(tmp_path, monkeypatch):
    threads = stored(tmp_path, many())
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(workers, "MANY", 0)
    processes = stored(tmp_path, {})
    assert torch.equal(threads.pixels, processes.pixels) and threads.levels == processes.levels and threads.notes == processes.notes


@pytest.mark.parametrize("size", [None, 16])
def test_pictures_in_memory_have_one_white_too(size):
    images = open_images([Image.fromarray(TWELVE), Image.fromarray(TWELVE // 4), Image.fromarray(LOOK)], size)
    assert images.levels == {"integer16": (0.0, 4095.0)} and len(images.notes) == 1 and len(set(images.digests)) == 3
    tops = [int(image.max()) for image in images.pixels]
    assert abs(tops[1] - 1023 / 4095 * 255) <= 2 and min(tops[0], tops[2]) >= 250
    assert images.thumbnails([1], 32)[0].max() == round(1023 / 4095 * 255)
    assert int(open_images([Image.fromarray(TWELVE)], white=8190.0).pixels.max()) == 128
