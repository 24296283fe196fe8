"""The journal of a store: what reading each item gave, and checksums by which the store knows when it is damaged.

One line of JSON for each chunk of items, in order: its rows of pixels, the bytes of its deep pictures' numbers while these wait
(development.py), the crc32 of both, what reading each item gave, and the crc32 of the line itself. All of them are compared whenever a
store is opened: zlib.crc32 of pages in memory, measured at 1.1 GB/s on one slow core (a store of 60,000 pictures of 96 px has 1.7 GB), on
as many cores as there are.
"""

import json
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

from coterie.images.workers import Read, read_of
from coterie.run import machine

FORMAT = 3  # raise it when older journals cannot be read: their stores are then not used


class Line(NamedTuple):
    """A line of the journal: of one chunk of items, its rows of pixels, the bytes of its numbers, the crc32 of both, and what reading each
    gave."""

    rows: int
    numbers: int
    crc: int
    reads: list[Read]


def written(line: Line) -> bytes:
    """What stands in the file of a line."""
    told = [line.rows, line.numbers, line.crc, line.reads]
    own = zlib.crc32(json.dumps(told).encode())
    return json.dumps({"rows": line.rows, "numbers": line.numbers, "crc": line.crc, "reads": line.reads, "own": own}).encode() + b"\n"


def parsed(text: bytes) -> Line | None:
    """A journal line; None for one that is not what was written, as it was cut or damaged."""
    try:
        told = json.loads(text)
        own = zlib.crc32(json.dumps([told["rows"], told["numbers"], told["crc"], told["reads"]]).encode())
        found = Line(told["rows"], told["numbers"], told["crc"], [read_of(read) for read in told["reads"]])
        return found if text.endswith(b"\n") and own == told["own"] and found.rows == sum(not read.reason for read in found.reads) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def trusted(pixels: IO[bytes], numbers: IO[bytes], lines: IO[bytes], row: int, stale: Callable[[list[Read], int], bool]) -> int:
    """How many items of an earlier, interrupted build are as they should be; the files are cut to them.

    row: bytes of a picture; stale(reads, first): whether to read these items again, the first of which is `first`.
    """
    for file in (pixels, numbers, lines):
        file.seek(0)
    items = rows = values = end = 0
    for text in lines:
        found = parsed(text)
        if found is None or stale(found.reads, items):
            break
        if zlib.crc32(numbers.read(found.numbers), zlib.crc32(pixels.read(found.rows * row))) != found.crc:
            break
        items, rows, values, end = items + len(found.reads), rows + found.rows, values + found.numbers, end + len(text)
    pixels.truncate(rows * row)
    numbers.truncate(values)
    lines.truncate(end)
    return items


def complete(final: Path, size: int, count: int) -> tuple[list[Read], int] | None:
    """What was read and the number of rows, when the store `final` is there, whole, and has all its checksums; else None."""
    row, lines = size * size * 3, []
    try:
        for text in (final / "journal.jsonl").read_bytes().splitlines(keepends=True):
            if (found := parsed(text)) is None:
                return None
            lines.append(found)
        rows = sum(one.rows for one in lines)
        reads = [read for one in lines for read in one.reads]
        right = len(reads) == count and (final / "pixels.u8").stat().st_size == rows * row
        return (reads, rows) if right and _agree(final / "pixels.u8", lines, row) else None
    except OSError:  # a file is not there, or its disk cannot read it any more
        return None


def _agree(path: Path, lines: list[Line], row: int) -> bool:
    """Whether each chunk of pixels has its checksum. Read in pieces, not mapped: a disk that fails is then an error and no signal."""
    ends = list(accumulate(one.rows * row for one in lines))
    with open(path, "rb") as file, ThreadPoolExecutor(machine.cores()) as pool:

        def agrees(one: Line, end: int) -> bool:
            return zlib.crc32(os.pread(file.fileno(), one.rows * row, end - one.rows * row)) == one.crc

        return all(pool.map(agrees, lines, ends))
