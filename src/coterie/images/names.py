"""File names as text that any table can hold, and the way back to the file."""

import codecs
import os
import re
from pathlib import Path

from coterie.errors import InputError

_UNDECODABLE = re.compile("[\udc80-\udcff]")
_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_MARKS = (  # of four bytes first: the shorter is how the longer begins
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def shown(path: str) -> str:
    r"""`path` (as from `os.fsdecode`) as valid Unicode: every byte that is not UTF-8 becomes `\xNN`, lower-case hex.

    A backslash of the name itself stays as it is, unless it would read as such an escape; then it becomes `\x5c`. So two names never look
    the same, ordinary names are unchanged, and `real_path` finds the file again.
    """
    path = _LOOKS_ESCAPED.sub(r"\\x5c", path)
    path = _UNDECODABLE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", path)
    return path.encode("utf-8", "backslashreplace").decode()  # other halves of a pair: no file has such a name, but a list may


def listed_names(data: bytes, name: str) -> list[str]:
    """The names in a text list, one a line, or between NULs as `find -print0` writes them; empty ones left out.

    Bytes are taken as file names are (`os.fsdecode`), with or without a UTF-8 mark; UTF-16 and UTF-32, as Windows writes them, are told by
    their mark, UTF-16 without one by its NULs. InputError, with `name`, for text that is not what its mark says.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None) or _unmarked(data)
    try:
        text = data.decode(encoding) if encoding else os.fsdecode(data.removeprefix(codecs.BOM_UTF8))
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no list of paths: it begins as {encoding} and is not ({error.reason}); save it as UTF-8") from error
    names = text.split("\0") if "\0" in text else (line.rstrip("\r") for line in text.split("\n"))
    return [one for one in names if one.strip()]


def _unmarked(data: bytes) -> str | None:
    """UTF-16 without its mark: every other byte of ordinary names is NUL."""
    for encoding, nuls in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if len(data) % 2 == 0 and nuls.count(0) * 3 > len(data):
            return encoding
    return None


def real_path(root: str | os.PathLike[str], path: str) -> Path:
    r"""The file on disk that `Images.paths` shows as `path` inside the folder `root`; the inverse of `shown`.

    An absolute `path`, as lists may hold, is returned as it is, whatever `root`.
    """
    name = _ESCAPED.sub(lambda code: bytes([int(code[1], 16)]), path.encode("utf-8"))
    return Path(root) / os.fsdecode(name)
