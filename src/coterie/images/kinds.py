"""What a file is: by its first bytes, which decide, and by its name, which says only where to look. Standard library only."""

import os
import re
import stat
from collections.abc import Callable

# Names under which pictures are looked for. What is in the file decides whether it is read; what is no picture to us is set aside, named.
EXTENSIONS = frozenset("jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff ppm pgm pbm pnm pfm".split())  # noqa: SIM905
EXTENSIONS |= frozenset("jp2 j2k j2c jpc jpx jpf sgi qoi ico heic heics heif heifs hif avif avifs".split())  # noqa: SIM905
EXTENSIONS |= frozenset("psd psb dds tga icb vda vst pcx icns cur ras sun xpm xbm msp blp".split())  # noqa: SIM905
EXTENSIONS |= frozenset("dcm dicom jxl exr hdr rgbe svg svgz pdf eps ai xcf wmf emf jxr wdp hdp".split())  # noqa: SIM905
EXTENSIONS |= frozenset("bpg flif ff ktx ktx2 pam djvu djv fit fits fts nii nrrd dpx pcd pct pict mng jng".split())  # noqa: SIM905
VIDEO = frozenset(["mp4", "mov", "avi", "mkv", "webm", "m4v", "wmv", "mpg", "mpeg", "3gp", "mts", "m2ts", "flv", "ogv"])
WAY_OUT = {"video": "export frames of them as JPEG", "raw": "develop them to JPEG or TIFF"}
RAW = frozenset(["dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "orf", "rw2", "raf", "pef", "srw", "x3f", "3fr", "iiq", "raw"])
# Texts and tables lie beside pictures by the thousand and are not opened; any other file is asked for its first bytes.
TEXTS = frozenset("txt json jsonl xml csv tsv md rst html htm yaml yml py log ini toml xmp".split())  # noqa: SIM905

HEAD = 512  # bytes that `told_by` needs
# Formats that Pillow may open for any file; each has an unmistakable beginning. Not EPS, WMF or PDF, which run other programs; not FITS,
# whose scale Pillow does not apply.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "SGI", "QOI", "ICO", "DIB")
FORMATS += ("PSD", "DDS", "ICNS", "CUR", "SUN", "XPM", "MSP", "BLP")

PNG = "convert it to PNG, JPEG or TIFF"
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (  # where, which bytes, what it is, the way out
    (128, b"DICM", "a DICOM picture", "export it as 16-bit PNG or TIFF"),
    (0, b"\xff\x0a", "a JPEG XL picture", PNG),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", PNG),
    (0, b"v/1\x01", "an OpenEXR picture", "convert it to float TIFF, or tone-map it to PNG"),
    (0, b"#?RADIANCE", "a Radiance HDR picture", "convert it to float TIFF, or tone-map it to PNG"),
    (0, b"#?RGBE", "a Radiance HDR picture", "convert it to float TIFF, or tone-map it to PNG"),
    (0, b"%PDF-", "a PDF document", "export its pages or pictures as PNG"),
    (0, b"%!PS", "a PostScript drawing", "export it as PNG"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript drawing", "export it as PNG"),
    (0, b"8BPS\0\x02", "a large Photoshop document (PSB)", "save it as PSD, PNG or TIFF"),
    (0, b"gimp xcf", "a GIMP picture", "export it as PNG"),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing", "export it as PNG"),
    (40, b" EMF", "an EMF drawing", "export it as PNG"),
    (0, b"II\xbc\x01", "a JPEG XR picture", PNG),
    (0, b"BPG\xfb", "a BPG picture", PNG),
    (0, b"FLIF", "a FLIF picture", PNG),
    (0, b"farbfeld", "a farbfeld picture", PNG),
    (0, b"P7\n", "a PAM picture", PNG),
    (0, b"PF\n", "a colour PFM picture", "convert it to float TIFF"),
    (0, b"\xabKTX ", "a KTX texture", PNG),
    (0, b"AT&TFORM", "a DjVu document", "export its pages as PNG"),
    (0, b"SIMPLE  =", "a FITS picture", "convert it to float TIFF"),
    (344, b"n+1\0", "a NIfTI volume", "export its slices as 16-bit PNG"),
    (0, b"NRRD000", "an NRRD volume", "export its slices as 16-bit PNG"),
    (0, b"SDPX", "a DPX picture", "convert it to 16-bit TIFF"),
    (0, b"XPDS", "a DPX picture", "convert it to 16-bit TIFF"),
    (0, b"\x8aMNG\r\n", "an MNG animation", "export a frame as PNG"),
    (0, b"\x8bJNG\r\n", "a JNG picture", PNG),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph", "develop it to JPEG or TIFF"),
    (4, b"ftypcrx ", "a raw photograph", "develop it to JPEG or TIFF"),
    (0, b"FOVb", "a raw photograph", "develop it to JPEG or TIFF"),
    (0, b"IIRO", "a raw photograph", "develop it to JPEG or TIFF"),
    (0, b"IIU\0", "a raw photograph", "develop it to JPEG or TIFF"),
    (4, b"ftyp", "a film", "export frames of it as JPEG"),
    (0, b"\x1aE\xdf\xa3", "a film", "export frames of it as JPEG"),
)
FILM = "a film, which is not read; export frames of it as JPEG"
_OURS = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"qoif": "QOI",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"8BPS\0": "a Photoshop picture", b"DDS |\0\0\0": "DDS",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000", b"\xff\x4f\xff\x51\0": "JPEG 2000", b"icns\0": "ICNS",
    b"\x59\xa6\x6a\x95\0": "a Sun raster", b"/* XPM */": "XPM",
}  # fmt: skip
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_NETPBM = re.compile(rb"P[1-6f]\s*(\s\d|#)")


def by_name(path: str) -> str:
    """picture, video, raw, unknown, or "" (ignored), by the name alone."""
    parts = [part for part in path.split("/") if part not in (".", "..")]
    suffix = parts[-1].rpartition(".")[2].lower() if parts else ""
    if any(part.startswith(".") for part in parts):
        return ""
    for kind, suffixes in (("picture", EXTENSIONS), ("video", VIDEO), ("raw", RAW), ("", TEXTS)):
        if suffix in suffixes:
            return kind
    return "unknown"


def by_content(file: str) -> bool:
    """Whether a file whose name says nothing begins as a picture does."""
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))  # a pipe is not waited for
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and told_by(os.read(handle, HEAD))
    except OSError:
        return False
    finally:
        os.close(handle)


def told_by(head: bytes) -> bool:
    """Whether these first bytes of a file, `HEAD` of them or all, are those of a picture, one that is read or one that is not."""
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    bmp = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    ours = head.startswith((*_OURS,)) or webp or bmp or is_heif(head) or bool(_NETPBM.match(head))
    return ours or _known(head) not in ("", FILM)


def is_heif(data: bytes) -> bool:
    """HEIC or AVIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def is_tiff(data: bytes) -> bool:
    return data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))


def foreign(data: bytes) -> str:
    """What a file that Pillow does not take for a picture is, and the way out."""
    if known := _known(data):
        return known
    if ours := next((name for magic, name in _OURS.items() if data.startswith(magic)), ""):
        return f"{ours}, damaged or of a kind that is not read; if it opens elsewhere, {PNG}"
    return f"not a picture, or one in a format that is not read; if it is one, {PNG}"


def _known(data: bytes) -> str:
    for at, magic, what, way in _FOREIGN:
        if data.startswith(magic, at):
            return f"{what}, which is not read; {way}"
    text = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    return "an SVG drawing, which is not read; export it as PNG" if text.startswith(b"<") and b"<svg" in text else ""


def weak_formats(data: bytes) -> list[str]:
    """Formats whose beginning fits many files, where the whole header of this one makes sense in it."""
    return [name for name, fits in _WEAK.items() if fits(data)]


def _is_tga(data: bytes) -> bool:
    """18 bytes that say what they may; and, without compression, as many pixels as there are bytes."""
    if len(data) < 18 or data[1] > 1 or data[2] not in (1, 2, 3, 9, 10, 11) or data[16] not in (1, 8, 15, 16, 24, 32):
        return False
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    coloured = data[2] in (1, 9)
    if not width or not height or coloured != bool(data[1]) or (data[1] and data[7] not in (15, 16, 24, 32)) or data[17] & 0xC0:
        return False
    palette = int.from_bytes(data[5:7], "little") * -(-data[7] // 8) if data[1] else 0
    return data[2] > 8 or len(data) >= 18 + data[0] + palette + height * -(-width * data[16] // 8)


def _is_pcx(data: bytes) -> bool:
    return (
        len(data) > 128 and data[0] == 10 and data[1] in (0, 2, 3, 5) and data[2] == 1 and data[3] in (1, 2, 4, 8) and data[65] in (1, 3, 4)
    )


def _is_xbm(data: bytes) -> bool:
    return re.match(rb"\s*(/\*.*?\*/\s*)?#define\s+\S*width\s+\d+\s+#define\s+\S*height\s+\d", data[:1024], re.DOTALL) is not None


_WEAK: dict[str, Callable[[bytes], bool]] = {"TGA": _is_tga, "PCX": _is_pcx, "XBM": _is_xbm}
