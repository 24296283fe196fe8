"""The store of decoded pictures: decode once, in parallel, into a flat uint8 file in the cache; continue after a kill, share between runs.

A store is the folder `<key>`: `pixels.u8` (rows of size x size x 3), `journal.jsonl` (one line per finished chunk of items, in order) and
`about.json`. While it is built the folder is called `<key>.part` and locked; the journal then says where to continue.
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
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
import torch

from coterie.errors import InputError
from coterie.images import decode, deep, development, reading, workers
from coterie.images.sources import Source
from coterie.images.workers import Read, read_of
from coterie.run import machine

Progress = Callable[[str, int, int], None]
_ENTRY = re.compile(r"[0-9a-f]{32}(\.part)?")
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
    while (complete := _complete(final, size, count)) is None:
        with _disk_named(cache, count * size * size * 3):
            part.mkdir(parents=True, exist_ok=True)
            with _locked(part) as mine:
                if mine and not final.exists():
                    _build(source, size, max_pixels, part, progress)
                    development.finish(part, final, size, wanted)
                    _sync(cache)
                elif mine and _complete(final, size, count) is None:  # finished once, damaged since
                    shutil.rmtree(final)
    reads, rows = complete
    levels = deep.levels((read.range for read in reads if read.range is not None), wanted)
    return Stored(reads, load_pixels(final / "pixels.u8", (rows, size, size, 3)), levels)


def cache_entries(cache: Path) -> list[CacheEntry]:
    """The stores in `cache`, unfinished ones too: key, how the user named the source, number of items, bytes on disk."""
    if not cache.is_dir():
        return []
    found = []
    for entry in sorted(cache.iterdir()):
        if _ENTRY.fullmatch(entry.name) and (entry / "about.json").is_file():
            about = json.loads((entry / "about.json").read_text())
            found.append(CacheEntry(entry.name, about["source"], about["items"], sum(file.stat().st_size for file in entry.iterdir())))
    return found


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
    made_by = [decode.VERSION, PIL.__version__, decode.reads_heif()]
    items = [(item.path, item.size, item.stamp, item.fault) for item in source.items]
    told = json.dumps([source.kind, source.place, items, size, max_pixels, made_by, wanted])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _build(source: Source, size: int, max_pixels: int, part: Path, progress: Progress | None) -> None:
    """Decode what the journal does not have yet, append it in the order of the items, and put all of it on the disk."""
    row = size * size * 3
    _write_json(part / "about.json", {"source": source.name, "kind": source.kind, "size": size, "items": len(source.items)})
    names = ("pixels.u8", development.NUMBERS, "journal.jsonl")
    with ExitStack() as stack:
        pixels, numbers, journal = (stack.enter_context(open(part / name, "ab+")) for name in names)
        done = _trusted(pixels, numbers, journal, row)
        _room(part, (len(source.items) - done) * row)
        with closing(_decoded(source, done, size, max_pixels)) as chunks:
            for chunk in chunks:
                for file, data in ((pixels, chunk.block), (numbers, chunk.numbers)):
                    file.write(data)
                    file.flush()  # before the journal: a line is only ever written after its pixels
                line = {"rows": chunk.rows, "crc": chunk.crc, "numbers": len(chunk.numbers), "reads": chunk.reads}
                journal.write(json.dumps(line).encode() + b"\n")
                journal.flush()
                done += len(chunk.reads)
                if progress is not None:
                    progress("decode", done, len(source.items))
        for file in (pixels, numbers, journal):
            os.fsync(file.fileno())
    _sync(part)


def _decoded(source: Source, first: int, size: int, max_pixels: int) -> Generator[workers.Chunk, None, None]:
    """Chunks of items from `first` on, decoded in parallel, in order."""
    cores, total = machine.cores(), len(source.items)
    step = max(1, min(64, (4 << 20) // (size * size * 3), (total - first) // (8 * cores)))
    most, budget = decode.most_bytes(max_pixels), reading.Budget(cores * reading.PER_CORE)
    with ExitStack() as stack:
        work: workers.Threads | workers.Processes
        work = workers.Threads(cores, size, max_pixels) if total - first < workers.MANY else workers.Processes(cores, size, max_pixels)
        stack.enter_context(work)
        pool = ThreadPoolExecutor(2 * cores, thread_name_prefix="decode")  # half of them read files while the others decode or wait
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[workers.Chunk]] = deque()
        for start in range(first, total, step):
            waiting.append(pool.submit(reading.decoded, source, start, min(start + step, total), most, budget, work))
            if len(waiting) > 4 * cores:  # bounds the memory of finished chunks
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _trusted(pixels: Any, numbers: Any, journal: Any, row: int) -> int:
    """How many items of an earlier, interrupted build are whole; the files are cut to them. Checked by checksum."""
    for file in (pixels, numbers, journal):
        file.seek(0)
    items = rows = values = end = 0
    for text in journal:
        line = _parsed(text)
        if line is None or zlib.crc32(numbers.read(line["numbers"]), zlib.crc32(pixels.read(line["rows"] * row))) != line["crc"]:
            break
        items, rows, values, end = items + len(line["reads"]), rows + line["rows"], values + line["numbers"], end + len(text)
    pixels.truncate(rows * row)
    numbers.truncate(values)
    journal.truncate(end)
    return items


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A journal line, or None for one that was cut while it was written."""
    try:
        return json.loads(text) if text.endswith(b"\n") else None
    except ValueError:
        return None


def _complete(final: Path, size: int, count: int) -> tuple[list[Read], int] | None:
    """What was read and the number of rows, when the store `final` is there and whole; else None."""
    if not (final / "journal.jsonl").is_file() or not (final / "pixels.u8").is_file():
        return None
    lines = [_parsed(text) for text in (final / "journal.jsonl").read_bytes().splitlines(keepends=True)]
    whole = [line for line in lines if line is not None]
    reads, rows = [read_of(told) for line in whole for told in line["reads"]], sum(line["rows"] for line in whole)
    right = len(reads) == count and (final / "pixels.u8").stat().st_size == rows * size * size * 3
    return (reads, rows) if right else None


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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
