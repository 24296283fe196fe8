"""Whole files in memory: a bounded number of bytes of them, however many there are and however large they are."""

import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from coterie.images import decode, workers
from coterie.images.sources import Source
from coterie.run import machine

PER_CORE = 32 << 20  # bytes of files that wait or are decoded, for each core; a process has one more file in its hands
PIECE = 8 << 20  # bytes of files that are decoded in one go


class Budget:
    """Bytes that several threads may hold between them: `limit`, or one file of any size."""

    def __init__(self, limit: int):
        self._limit, self._held = limit, 0
        self._changed = threading.Condition()

    def take(self, count: int, wait: bool) -> bool:
        """Whether there was room for `count` more. With `wait`, until there is; the thread must then hold nothing itself."""
        with self._changed:
            while self._held and self._held + count > self._limit:
                if not wait:
                    return False
                self._changed.wait()
            self._held += count
            return True

    def give(self, count: int) -> None:
        with self._changed:
            self._held -= count
            self._changed.notify_all()


def together(size: int) -> int:
    """How many pictures of size x size are decoded in one go at most: 64, or 4 MB of pixels."""
    return max(1, min(64, (4 << 20) // (size * size * 3)))


def in_order(source: Source, pieces: Iterable[range], size: int, max_pixels: int, count: int) -> Generator[workers.Chunk, None, None]:
    """The items of each piece, decoded in parallel, in order. count: of all of them, about. `pieces` is read as far ahead as cores need."""
    cores, most = machine.cores(), decode.most_bytes(max_pixels)
    budget = Budget(cores * PER_CORE)
    with ExitStack() as stack:
        work: workers.Threads | workers.Processes
        work = workers.Threads(cores, size, max_pixels) if count < workers.MANY else workers.Processes(cores, size, max_pixels)
        stack.enter_context(work)
        readers = max(2 * cores, source.at_once)  # of two a core half read files while the others decode or wait
        pool = ThreadPoolExecutor(readers, thread_name_prefix="decode")
        stack.callback(pool.shutdown, cancel_futures=True)
        waiting: deque[Future[workers.Chunk]] = deque()
        for piece in pieces:
            waiting.append(pool.submit(decoded, source, piece.start, piece.stop, most, budget, work))
            if len(waiting) > 2 * readers:  # bounds the memory of finished chunks
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def decoded(source: Source, first: int, last: int, most: int, budget: Budget, work: workers.Work) -> workers.Chunk:
    """Items `first` to `last` - 1 read, and decoded by `work` in pieces that fit the budget. A file above `most` bytes is not read."""
    chunks: list[workers.Chunk] = []
    piece: list[workers.Got] = []
    held = 0

    def decode_piece() -> None:
        nonlocal piece, held
        chunks.append(work(piece))
        piece, given, held = [], held, 0
        budget.give(given)

    def make_room(count: int) -> None:
        nonlocal held
        if held and (held + count > PIECE or not budget.take(count, wait=False)):
            decode_piece()
        if not held:
            budget.take(count, wait=True)
        held += count

    try:
        for i in range(first, last):
            size = source.items[i].size
            make_room(size if 0 <= size <= most else 0)
            one = got(source, i, most)
            if size < 0:  # a row of a table: only reading tells
                make_room(len(one))
            piece.append(one)
            del one
        if piece:
            decode_piece()
    finally:
        budget.give(held)
    return workers.joined(chunks)


def got(source: Source, i: int, most: int) -> workers.Got:
    """The bytes of an item, or why they cannot be had."""
    try:
        return source.read(i, most)
    except decode.Unreadable as problem:
        return str(problem)
