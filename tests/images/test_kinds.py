"""Content decides what is read; what is a picture to a person and not to us is counted and named, with the way out."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from coterie.errors import InputError
from coterie.images import decode, kinds, open_images

WRITTEN = {  # what Pillow can write and we read, by the name that its files have
    "JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm", "JPEG2000": "jp2", "SGI": "sgi",
    "ICO": "ico", "TGA": "tga", "PCX": "pcx", "DDS": "dds", "ICNS": "icns",
}  # fmt: skip
WEAK = {"SGI", "ICO", "TGA", "PCX", "XBM", "MSP"}  # read under a name of their own, not found by content
FOREIGN = {
    "scan.dcm": (bytes(128) + b"DICM" + bytes(64), "DICOM"),
    "a.jxl": (b"\xff\x0a" + bytes(64), "JPEG XL"),
    "b.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(64), "JPEG XL"),
    "a.exr": (b"v/1\x01\2\0\0\0" + bytes(64), "OpenEXR"),
    "a.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4), "Radiance"),
    "a.svg": (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
    "a.pdf": (b"%PDF-1.7\n" + bytes(64), "PDF"),
    "a.ai": (b"%!PS-Adobe-3.0\n" + bytes(64), "PostScript"),
    "a.xcf": (b"gimp xcf v011\0" + bytes(64), "GIMP"),
    "a.psb": (b"8BPS\0\x02" + bytes(64), "Photoshop"),
    "a.jxr": (b"II\xbc\x01" + bytes(64), "JPEG XR"),
    "a.ktx": (b"\xabKTX 11\xbb\r\n\x1a\n" + bytes(64), "KTX"),
    "a.pfm": (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM"),
    "a.pam": (b"P7\nWIDTH 1\n" + bytes(12), "PAM"),
    "a.fits": (b"SIMPLE  =                    T" + bytes(64), "FITS"),
    "a.emf": (b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(64), "EMF"),
}


def picture(kind="PNG", colour=(200, 30, 90)):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(file, kind)
    return file.getvalue()


def folder(tmp_path, files):
    root = tmp_path / "pictures"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def writable():
    Image.init()
    return [kind for kind in WRITTEN if kind in Image.SAVE]


@pytest.mark.parametrize("kind", writable())
def test_content_decides_and_not_the_name(tmp_path, kind):
    files = {f"right.{WRITTEN[kind]}": picture(kind), "wrong.jpg": picture(kind), "wrong.dcm": picture(kind)}
    if kind not in WEAK:
        files |= {
            "no ending": picture(kind),
            "download.part": picture(kind),
            "photo.jpg!d": picture(kind),
            "IMG_0001.JPG.bak": picture(kind),
        }
    images = open_images(folder(tmp_path, files), 16, tmp_path / "cache")
    assert images.paths == sorted(files) and not images.problems
    assert np.abs(images.pixels.numpy().astype(int) - [200, 30, 90]).max() <= 6


def test_photoshop_pictures_are_read_and_float_maps():
    psd = b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(12) + b"\0\0" + bytes([200] * 4 + [30] * 4 + [90] * 4)
    with decode.strict_pillow(10**8):
        assert np.asarray(decode.square(psd, 2, 10**8)).tolist() == [[[200, 30, 90]] * 2] * 2
        grey = decode.square(b"Pf\n2 2\n-1.0\n" + np.float32([0, 0.5, 1, 1]).tobytes(), 2, 10**8)
    assert sorted(grey.values.ravel().tolist()) == [0, 0.5, 1, 1]


def test_a_texture_with_less_than_it_promises_is_not_waited_for():
    pixels = (32, 0x41, 0, 16, 0xF00, 0xF0, 0xF, 0xF000)  # 16 bits each
    data = b"DDS " + struct.pack("<7I", 124, 0x1007, 9000, 9000, 0, 0, 0) + bytes(44) + struct.pack("<8I", *pixels) + bytes(20)
    with decode.strict_pillow(10**8), pytest.raises(decode.Unreadable, match="fewer bytes than pixels"):
        decode.square(data, 16, 10**8)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_picture_to_us_is_named_with_the_way_out(tmp_path, packed):
    files = {name: data for name, (data, _) in FOREIGN.items()}
    files |= {
        "old.tga": b"not one",
        "sub/no ending": files["a.jxl"],
        "ok.png": picture(),
        "notes.txt": b"x",
        "Makefile": b"all:\n",
        "t.bin": b"BMxx",
    }
    source = folder(tmp_path, files)
    if packed:
        with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        source = tmp_path / "p.zip"
    images = open_images(source, 16, tmp_path / "cache")
    told = dict(images.problems)
    assert images.paths == ["ok.png"] and sorted(told) == sorted([*FOREIGN, "old.tga", "sub/no ending"])
    for name, (_, word) in FOREIGN.items():
        assert word in told[name] and any(way in told[name] for way in ("convert it", "export", "save it"))
    assert "convert it" in told["old.tga"] and "JPEG XL" in told["sub/no ending"]


def test_a_folder_of_only_such_files_says_what_it_holds(tmp_path):
    files = {f"{i}.jxl": FOREIGN["a.jxl"][0] for i in range(3)} | {"z.dcm": FOREIGN["scan.dcm"][0]}
    with pytest.raises(InputError) as error:
        open_images(folder(tmp_path, files), 16, tmp_path / "cache")
    assert all(
        word in str(error.value) for word in ("none of its 4 pictures", "JPEG XL", "3 such files", "DICOM", "convert it", "export it")
    )
    assert "\n" not in str(error.value)


def test_a_folder_of_films_raw_files_or_others_says_so(tmp_path):
    root = folder(tmp_path, {"a.mp4": b"x", "b.cr2": b"x", "c.docx": b"x", "d.docx": b"x", "LICENSE": b"x"})
    with pytest.raises(InputError) as error:
        open_images(root, 16, tmp_path / "cache")
    words = ("2 .docx", "1 without ending", "1 video files were skipped (export frames", "1 raw files were skipped (develop them")
    assert "no pictures" in str(error.value) and all(word in str(error.value) for word in words)


def test_tables_texts_and_programs_are_not_taken_for_pictures():
    for head in (b"", b"B", b"BM", b"BMxx" + bytes(100), b"P5", b"P1 is a road", b"#define X\n", b"\0" * 512, b"PK\3\4", b"\x7fELF", b"{}"):
        assert not kinds.told_by(head), head
    assert not kinds.told_by(b"\0\0\0 ftypisom" + bytes(100)) and not kinds.told_by(b"<html><p>text</p>")
    assert kinds.told_by(b"P5\n# by a program\n2 2\n255\n") and kinds.told_by(b"P6 2 2 255\n")


def test_headers_that_fit_many_files_are_checked_whole():
    tga = picture("TGA")
    assert kinds.weak_formats(tga) == ["TGA"] and kinds.weak_formats(picture("PCX")) == ["PCX"]
    assert not kinds.weak_formats(tga[:40]) and not kinds.weak_formats(b"")
    rng = np.random.default_rng(0)
    assert not any(kinds.weak_formats(rng.bytes(300)) for _ in range(5000))
    assert kinds.weak_formats(b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {0x01};") == ["XBM"]
    assert not kinds.weak_formats(b"#define MAX 8\n#include <stdio.h>\n")


def test_a_pipe_and_a_closed_file_without_ending_are_left_alone(tmp_path):
    root = folder(tmp_path, {"a.png": picture(), "closed": picture()})
    os.mkfifo(root / "pipe")
    (root / "closed").chmod(0)
    images = open_images(root, 16, tmp_path / "cache")
    assert "pipe" not in [*images.paths, *dict(images.problems)] and "a.png" in images.paths
