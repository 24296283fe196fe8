"""File names as text that any table can hold, and the way back to the file."""

import os
import re
from pathlib import Path

_UNDECODABLE = re.compile("[\udc80-\udcff]")
_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


def shown(path: str) -> str:
    r"""`path` (as from `os.fsdecode`) as valid Unicode: every byte that is not UTF-8 becomes `\xNN`, lower-case hex.

    A backslash of the name itself stays as it is, unless it would read as such an escape; then it becomes `\x5c`. So two names never look
    the same, ordinary names are unchanged, and `real_path` finds the file again.
    """
    path = _LOOKS_ESCAPED.sub(r"\\x5c", path)
    return _UNDECODABLE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", path)


def real_path(root: str | os.PathLike[str], path: str) -> Path:
    r"""The file on disk that `Images.paths` shows as `path` inside the folder `root`; the inverse of `shown`.

    An absolute `path`, as lists may hold, is returned as it is, whatever `root`.
    """
    name = _ESCAPED.sub(lambda code: bytes([int(code[1], 16)]), path.encode("utf-8"))
    return Path(root) / os.fsdecode(name)
