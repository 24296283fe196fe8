"""The store of decoded pictures: decode once, in parallel, into a flat uint8 file in the cache; continue after a kill, share between runs.

A store is the folder `<key>`: `pixels.u8` (rows of size x size x 3), `journal.jsonl` (one line per finished chunk of items, in order, with
checksums, see journal.py) and `about.json`. While it is built the folder is called `<key>.part` and locked; the journal then says where to
continue. Every checksum is compared each time a store is opened; a damaged store is decoded again. Only what is wrong with the bytes of a
picture is remembered: what could not be read is asked for each time, and when some of it can be had, the store is made again.
The files of a picture with more than 8 bits stay numbers, in `numbers.f32`, until all have been seen (development.py).
N images, S working size.
"""

import errno
import fcntl
import hashlib
import json
import mmap
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import torch

from coterie.errors import InputError
from coterie.images import decode, deep, development, journal, reading, workers
from coterie.images.sources import Source
from coterie.images.workers import Read
from coterie.run import disk, machine

Progress = Callable[[str, int, int], None]
MOST_BUILDS = 3  # in one call; each was damaged, or cleared by another process, before it was opened
_ENTRY = re.compile(r"[0-9a-f]{32}(\.part)?")
_FILES = ("about.json", "journal.jsonl", "pixels.u8")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Stored:
    """A complete store: `reads` in the order of the source's items, `pixels` uint8 (N, S, S, 3) for those without a reason; `levels` of its
    deep pictures."""

    reads: list[Read]
    pixels: torch.Tensor
    levels: dict[str, tuple[float, float]]


class CacheEntry(NamedTuple):
    key: str
    source: str
    n: int
    bytes: int


def default_cache() -> Path:
    """$COTERIE_CACHE, else `coterie` in the user's cache folder."""
    chosen = os.environ.get("COTERIE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coterie"


def stored(
    source: Source, size: int, max_pixels: int, cache: Path, progress: Progress | None = None, wanted: deep.Wanted = deep.NOTHING
) -> Stored:
    """The decoded pictures of `source` at size x size, from the cache when they are there. A second process waits for the first. Deep
    pictures by the levels that are `wanted`, else by those of the set (deep.py).

    InputError when the disk is full or the cache cannot be written; what was decoded by then is kept.
    """
    key = _key(source, size, max_pixels, wanted)
    final, part, count = cache / key, cache / f"{key}.part", len(source.items)
    most, retry, built = decode.most_bytes(max_pixels), True, 0

    def usable() -> tuple[list[Read], int] | None:
        complete = journal.complete(final, size, count)
        return None if complete and retry and _some_can_be_had(source, most, complete[0]) else complete

    while (found := usable()) is None:
        with _disk_named(cache, count * size * size * 3):
            disk.make_folder(part)
            with _locked(part) as mine:
                if mine and final.exists() and usable() is None:  # damaged, or without pictures that can be read by now
                    shutil.rmtree(final)
                if mine and not final.exists():
                    if built == MOST_BUILDS:
                        raise InputError(f"the cache {cache} does not keep what is written to it; name another folder with --cache")
                    _build(source, size, max_pixels, part, progress)
                    development.finish(part, final, size, wanted)
                    disk.sync(cache)
                    built += 1
                elif mine:
                    shutil.rmtree(part)
        retry = False  # whoever built it: what could not be read a moment ago is asked for again the next time
    reads, rows = found
    levels = deep.levels((read.range for read in reads if read.range is not None), wanted)
    try:
        return Stored(reads, load_pixels(final / "pixels.u8", (rows, size, size, 3)), levels)
    except FileNotFoundError:  # another process cleared the cache, or makes the store again, at this moment
        return stored(source, size, max_pixels, cache, progress, wanted)


def cache_entries(cache: Path) -> list[CacheEntry]:
    """The stores in `cache`, unfinished and damaged ones too: key, how the user named the source, number of items, bytes on disk."""
    if not cache.is_dir():
        return []
    found = []
    for entry in sorted(cache.iterdir()):
        if not _ENTRY.fullmatch(entry.name) or not any((entry / name).is_file() for name in _FILES):
            continue
        try:
            held = sum(file.stat().st_size for file in entry.iterdir())
        except FileNotFoundError:  # it was finished or removed at this moment
            continue
        found.append(CacheEntry(entry.name, *_about(entry / "about.json"), held))
    return found


def _about(path: Path) -> tuple[str, int]:
    """The source and the number of items of a store; the store is used without them."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(told["source"], str) and type(told["items"]) is int:
            return told["source"], told["items"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return "(its about.json is damaged)", 0


def clear_cache(cache: Path) -> int:
    """Remove every store in `cache` but those being built at this moment; nothing else is touched. Returns the bytes freed."""
    freed = 0
    for entry in cache_entries(cache):
        with _locked(cache / entry.key, wait=False) as mine:
            if mine:
                shutil.rmtree(cache / entry.key)
                freed += entry.bytes
    return freed


def load_pixels(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    """A file of uint8 as a tensor: mapped, private to this process; shared with the page cache, so nothing is held twice."""
    count = int(np.prod(shape))
    if count == 0:
        return torch.empty(shape, dtype=torch.uint8)
    with open(path, "rb") as file:  # NORESERVE: a private mapping larger than memory would else be refused
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        mapped = mmap.mmap(file.fileno(), count, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return torch.frombuffer(mapped, dtype=torch.uint8, count=count).view(shape)


def _key(source: Source, size: int, max_pixels: int, wanted: deep.Wanted) -> str:
    made_by = [journal.FORMAT, decode.VERSION, PIL.__version__, decode.reads_heif()]
    items = [(item.path, item.size, item.stamp, item.fault) for item in source.items]
    told = json.dumps([source.kind, source.place, items, size, max_pixels, made_by, wanted])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _build(source: Source, size: int, max_pixels: int, part: Path, progress: Progress | None) -> None:
    """Decode what the journal does not have yet, append it in the order of the items, and put all of it on the disk."""
    row = size * size * 3
    about = {"source": source.name, "kind": source.kind, "size": size, "items": len(source.items)}
    disk.write(part / "about.json", json.dumps(about).encode())
    names = ("pixels.u8", development.NUMBERS, "journal.jsonl")
    with ExitStack() as stack:
        pixels, numbers, lines = (stack.enter_context(open(part / name, "ab+")) for name in names)
        stale = partial(_some_can_be_had, source, decode.most_bytes(max_pixels))
        done = journal.trusted(pixels, numbers, lines, row, stale)
        _room(part, (len(source.items) - done) * row)
        with closing(_decoded(source, done, size, max_pixels)) as chunks:
            for chunk in chunks:
                for file, data in ((pixels, chunk.block), (numbers, chunk.numbers)):
                    file.write(data)
                    file.flush()  # before the journal: a line is only ever written after its pixels
                lines.write(journal.written(journal.Line(chunk.rows, len(chunk.numbers), chunk.crc, chunk.reads)))
                lines.flush()
                done += len(chunk.reads)
                if progress is not None:
                    progress("decode", done, len(source.items))
        for file in (pixels, numbers, lines):
            os.fsync(file.fileno())
    disk.sync(part)


def _decoded(source: Source, first: int, size: int, max_pixels: int) -> Generator[workers.Chunk, None, None]:
    """Chunks of items from `first` on, decoded in parallel, in order."""
    total = len(source.items)
    step = max(1, min(reading.together(size), (total - first) // (8 * machine.cores())))
    pieces = (range(start, min(start + step, total)) for start in range(first, total, step))
    return reading.in_order(source, pieces, size, max_pixels, total - first)


def _some_can_be_had(source: Source, most: int, reads: Sequence[Read], first: int = 0) -> bool:
    """Whether the bytes of an item from `first` on can be had that could not when `reads` was written: its folder is back, say, or its
    archive was mended."""
    return any(isinstance(reading.got(source, i, most), bytes) for i, read in enumerate(reads, first) if not read.digest)


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the folder alone; False when it was renamed or removed meanwhile, or is busy and `wait` is off. Ends with the process."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            mine = os.path.exists(folder) and os.path.samestat(os.fstat(handle), os.stat(folder))
        except BlockingIOError:
            mine = False
        yield mine
    finally:
        os.close(handle)


def _room(part: Path, needed: int) -> None:
    if shutil.disk_usage(part).free < needed:
        raise OSError(errno.ENOSPC, "not enough room", str(part))


@contextmanager
def _disk_named(cache: Path, needed: int) -> Iterator[None]:
    """Turn a full or closed disk into words for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            free = shutil.disk_usage(cache).free
            raise InputError(
                f"the cache {cache} is full: the decoded pictures need {needed / 1e6:.1f} MB in all, {free / 1e6:.1f} MB are free; "
                "free some room, take a smaller size, or name another folder with --cache"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise InputError(f"the cache {cache} cannot be written ({error.strerror}); name another folder with --cache") from error
        raise
