"""The last step of a store: its deep pictures, kept as numbers until now, become pixels, all by the same black and white (deep.py).

A store whose pictures are all of 8 bits is only renamed. Otherwise the pixels and the journal are written anew in a folder inside, which
takes the store's name when it is whole: a process killed meanwhile finds the numbers again. S working size.
"""

import io
import os
import shutil
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from coterie.images import decode, deep, journal, workers
from coterie.run import disk

NUMBERS = "numbers.f32"


def finish(part: Path, final: Path, size: int, wanted: deep.Wanted) -> None:
    """Make the decoded store `part` the complete store `final`."""
    if not (part / NUMBERS).stat().st_size:
        (part / NUMBERS).unlink()
        os.rename(part, final)
        return
    whole = part / "whole"
    shutil.rmtree(whole, ignore_errors=True)  # of a process that was killed here
    whole.mkdir()
    shutil.copyfile(part / "about.json", whole / "about.json")
    parsed = [journal.parsed(text) for text in (part / "journal.jsonl").read_bytes().splitlines(keepends=True)]
    lines = [line for line in parsed if line is not None]  # all of them: `trusted` has cut the file
    levels = deep.levels((read.range for line in lines for read in line.reads if read.range is not None), wanted)
    with (
        open(part / "pixels.u8", "rb") as pixels,
        open(part / NUMBERS, "rb") as numbers,
        open(whole / "pixels.u8", "wb") as done,
        open(whole / "journal.jsonl", "wb") as kept,
    ):
        for line in lines:
            block = b"".join(row_of(pixels.read(size * size * 3), read, numbers, size, levels) for read in line.reads if not read.reason)
            done.write(block)
            kept.write(journal.written(line._replace(numbers=0, crc=zlib.crc32(block))))
        for file in (done, kept):
            file.flush()
            os.fsync(file.fileno())
    disk.sync(whole)
    os.rename(whole, final)
    shutil.rmtree(part)


def readable(chunk: workers.Chunk, size: int, levels: deep.Levels) -> tuple[bytearray, list[int], dict[int, str]]:
    """What can be seen of a chunk by itself: the pixels of its good pictures, size x size x 3 each; their places in it; and why the others
    are not. A deep picture is good where the `levels` have its kind: its white is not told by a part of a set."""
    numbers, row, at = io.BytesIO(chunk.numbers), size * size * 3, 0
    pixels, good, reasons = bytearray(), [], {}
    for place, read in enumerate(chunk.reads):
        if read.reason:
            reasons[place] = read.reason
            continue
        known = read.range is None or read.range.kind in levels
        passed_over: deep.Levels = dict.fromkeys(deep.KINDS, (0.0, 1.0))
        seen = row_of(chunk.block[at : at + row], read, numbers, size, levels if known else passed_over)
        at += row
        if known:
            good.append(place)
            pixels += seen
        else:
            reasons[place] = "more than 8 bits, and white is not known from the run; -o FILE.parquet finds it in the whole set"
    return pixels, good, reasons


def row_of(row: bytes, read: workers.Read, numbers: IO[bytes], size: int, levels: deep.Levels) -> bytes:
    """The pixels of a picture: `row`, or what the next of the `numbers` become where it is deep."""
    if read.range is None:
        return row
    shape = size, size, read.range.channels
    values = np.frombuffer(numbers.read(4 * int(np.prod(shape))), np.float32).reshape(shape)
    return decode.developed(deep.Deep(values, read.range), levels).tobytes()
