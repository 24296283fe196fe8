"""Pictures of a very large source, a block at a time: nothing of them is kept, neither in memory nor in the cache.

An item is a file, a member or a row of the source, at its place in the source's order. Items that cannot be read have no row in a block's
Images, and are its problems. What is true of the whole set cannot be known: a deep picture (deep.py) is seen by the levels of the run, and
set aside where the run had none of its kind.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import torch

from coterie.images import development, reading, workers
from coterie.images.arrays import DEFAULT_SIZE
from coterie.images.collection import Images, Problem
from coterie.images.deep import Levels
from coterie.images.opening import files_named, open_images
from coterie.images.sources import Source

BLOCK = 64 << 20  # bytes of decoded pixels in a block: 21,000 pictures of 32 px, 445 of 224


class Stream(Protocol):
    """Items 0 .. count - 1 of the source `name`. `fingerprint`: of their names and sizes, in order, not of their content. `size`: height
    and width of the pictures."""

    name: str
    kind: str
    count: int
    fingerprint: str
    size: tuple[int, int]

    def blocks(self, spans: Iterable[range]) -> Generator[Images, None, None]:
        """The pictures among the items of each span, in order; `items` of these Images are places in the source. `spans` is read some
        blocks ahead."""
        ...


def open_stream(
    source: str, size: int | None, max_pixels: int = 100_000_000, levels: Levels | None = None, cache: Path | None = None
) -> Stream:
    """The items of a source, as `open_images` takes it by name. Files are read when their block is asked for; arrays and named sets are
    opened whole, as ever. InputError when there is nothing to read."""
    files = files_named(source)
    if files is not None:
        return Files(files, size or DEFAULT_SIZE, max_pixels, levels or {})
    return Held(open_images(source, size, cache, max_pixels, levels=levels))


def block_of(size: tuple[int, int]) -> int:
    """How many pictures of this height and width are in a block at most."""
    return max(1, BLOCK // (size[0] * size[1] * 3))


class Files:
    """A source of picture files, decoded block by block."""

    def __init__(self, source: Source, size: int, max_pixels: int, levels: Levels):
        self.name, self.kind, self.count, self.size = source.name, source.kind, len(source.items), (size, size)
        self._source, self._max_pixels, self._levels = source, max_pixels, levels
        told = hashlib.blake2b(f"{source.kind} {source.place if source.kind == 'parquet' else ''}".encode(), digest_size=16)
        for item in source.items:
            told.update(f"\n{item.path}\0{item.size}".encode())
        self.fingerprint = told.hexdigest()

    def blocks(self, spans: Iterable[range]) -> Generator[Images, None, None]:
        ahead: deque[tuple[range, int]] = deque()
        step = reading.together(self.size[0])

        def pieces() -> Iterator[range]:
            for span in spans:
                cuts = [range(start, min(start + step, span.stop)) for start in range(span.start, span.stop, step)]
                ahead.append((span, len(cuts)))
                yield from cuts

        held: list[workers.Chunk] = []
        with closing(reading.in_order(self._source, pieces(), self.size[0], self._max_pixels, self.count)) as chunks:
            for chunk in chunks:
                held.append(chunk)
                span, count = ahead[0]
                if len(held) == count:
                    ahead.popleft()
                    yield self._images(span, workers.joined(held))
                    held = []

    def _images(self, span: range, chunk: workers.Chunk) -> Images:
        side, paths = self.size[0], [item.path for item in self._source.items[span.start : span.stop]]
        pixels, good, reasons = development.readable(chunk, side, self._levels)
        rows = torch.frombuffer(pixels, dtype=torch.uint8) if pixels else torch.empty(0, dtype=torch.uint8)
        return Images(
            pixels=rows.view(len(good), side, side, 3),
            paths=[paths[place] for place in good],
            digests=[chunk.reads[place].digest for place in good],
            sizes=[chunk.reads[place].size for place in good],
            items=[span.start + place for place in good],
            name=self.name,
            kind=self.kind,
            fingerprint="",  # nothing is kept under it
            problems=[Problem(paths[place], reason) for place, reason in reasons.items()],
        )


class Held:
    """Pictures that are in memory already, as a stream."""

    def __init__(self, images: Images):
        self.name, self.kind, self.count, self.size = images.name, images.kind, len(images.ids_of_items), images.size
        self.fingerprint, self._images = images.fingerprint, images

    def blocks(self, spans: Iterable[range]) -> Generator[Images, None, None]:
        passed, reasons = self._images.passed or [], dict(self._images.problems)
        for span in spans:
            ids = self._images.ids_of_items[span.start : span.stop]
            block = self._images[ids[ids >= 0].tolist()]
            block.problems.extend(Problem(passed[i], reasons[passed[i]]) for i, found in zip(span, ids) if found < 0)
            yield block
