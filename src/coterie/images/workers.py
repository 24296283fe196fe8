"""Decoding on several cores: threads for few pictures, processes for many, and for TIFF always.

Pillow releases the interpreter's lock while it decodes and resizes, but opening a small JPEG is Python: on 160 px JPEGs two threads reached
0.6 to 0.8 of the rate of two processes. A process takes 0.2 s to start, which only many pictures pay back. libtiff writes its complaints to
file descriptor 2 of its process, past Python: in a process of ours that is a file, and what is in it belongs to the picture at hand.
The processes are plain `python -c` children spoken to over pipes: multiprocessing would import the caller's script again or fork a process
that holds threads.
"""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

from coterie.errors import InputError
from coterie.images import decode, deep, kinds

MANY = 2000  # pictures from which processes pay
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)  # what a decoder does to itself
STDERR = 2

Got = bytes | str  # the bytes of a file, or why they cannot be had


class Read(NamedTuple):
    """What reading one item gave; `reason` is "" when its picture has a row in the store."""

    digest: str  # of the file's bytes; "" when they could not be had, or not be decoded for a reason that is not theirs
    size: int
    reason: str
    said: str = ""  # by the decoder, of a picture that it could read nevertheless
    range: deep.Range | None = None  # of the numbers of a deep picture


class Chunk(NamedTuple):
    """Decoded pictures one after the other, each size x size x 3 uint8, black where it is deep; the float32 numbers of the deep ones; and
    what reading each file gave."""

    block: bytes
    numbers: bytes
    reads: list[Read]

    @property
    def rows(self) -> int:
        return sum(not read.reason for read in self.reads)

    @property
    def crc(self) -> int:
        return zlib.crc32(self.numbers, zlib.crc32(self.block))


Work = Callable[[list[Got]], Chunk]


def decoded(files: Iterable[Got], size: int, max_pixels: int) -> Chunk:
    """Decode and hash some files, here; call it within `decode.strict_pillow`."""
    blocks, numbers, reads = [], [], []
    decode.remarks()  # of something before
    for data in files:
        if isinstance(data, str):
            reads.append(Read("", 0, data))
            continue
        reason, range_ = "", None
        try:
            picture = decode.square(data, size, max_pixels)
            if isinstance(picture, deep.Deep):
                blocks.append(bytes(size * size * 3))
                numbers.append(picture.values.tobytes())
                range_ = picture.range
            else:
                blocks.append(picture.tobytes())
        except decode.NotNow as problem:
            decode.remarks()
            reads.append(Read("", len(data), str(problem)))
            continue
        except decode.Unreadable as problem:
            reason = str(problem)
        said = decode.remarks()
        if said and reason:
            reason, said = f"{reason}; the decoder said: {said}", ""
        reads.append(Read(decode.digest(data), len(data), reason, said, range_))
        del data  # before the next one is there: whole files are what takes memory
    return Chunk(b"".join(blocks), b"".join(numbers), reads)


def joined(chunks: list[Chunk]) -> Chunk:
    if len(chunks) == 1:
        return chunks[0]
    parts = zip(*chunks) if chunks else ((), (), ())
    blocks, numbers, reads = parts
    return Chunk(b"".join(blocks), b"".join(numbers), [read for some in reads for read in some])


class Threads:
    """`decoded` in the threads that call, `count` at a time, but for TIFF, which goes to `count` processes. Use in a with statement."""

    def __init__(self, count: int, size: int, max_pixels: int):
        self._size, self._max_pixels = size, max_pixels
        self._places = threading.BoundedSemaphore(count)
        self._processes = Processes(count, size, max_pixels)
        self._all = ExitStack()

    def __enter__(self) -> "Threads":
        self._all.enter_context(decode.strict_pillow(self._max_pixels))
        self._all.enter_context(self._processes)
        return self

    def __exit__(self, *error: object) -> None:
        self._all.close()

    def __call__(self, files: list[Got]) -> Chunk:
        if any(isinstance(one, bytes) and kinds.is_tiff(one) for one in files):
            return self._processes(files)
        with self._places:
            return decoded(files, self._size, self._max_pixels)


class Processes:
    """Up to `count` processes that do `decoded`, started when they are needed; any thread may call, and waits for a free one. Use in a with
    statement."""

    def __init__(self, count: int, size: int, max_pixels: int):
        self._start = f"import sys; sys.path[:] = {sys.path!r}; from coterie.images.workers import serve; serve({size}, {max_pixels})"
        self._free: SimpleQueue[tuple[subprocess.Popen[bytes], IO[bytes]] | None] = SimpleQueue()  # None: one is gone
        self._left, self._lock = count, threading.Lock()
        self._all = ExitStack()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self._all.close()

    def __call__(self, files: list[Got]) -> Chunk:
        """InputError when a process was killed from outside, as when memory runs out; a picture that kills its decoder is unreadable."""
        process, heard = self._one()
        try:
            chunk = _asked(process, files)
        except BaseException as error:
            process.kill()  # the rest of an answer may still be in its pipe
            with self._lock:
                self._left += 1
            self._free.put(None)
            if not isinstance(error, (BrokenPipeError, EOFError)):
                raise
        else:
            self._free.put((process, heard))
            return chunk
        return self._without(files, process.wait(), heard)

    def _one(self) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """A free process: one there is, or a new one, or, when enough were started, the first that gets free."""
        while True:
            with self._lock:
                found = None if self._free.empty() else self._free.get()
                start = found is None and self._left > 0
                self._left -= start
            if start:
                heard = self._all.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
                process = subprocess.Popen([sys.executable, "-c", self._start], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=heard)
                self._all.callback(_ended, process)
                return process, heard
            if found is not None or (found := self._free.get()) is not None:
                return found

    def _without(self, files: list[Got], status: int, heard: IO[bytes]) -> Chunk:
        """The chunk although its process ended with `status`."""
        if -status in CRASHES:
            if len(files) > 1:
                return joined([self([one]) for one in files])
            data = files[0]
            assert isinstance(data, bytes)
            reason = f"its decoder crashed ({signal.Signals(-status).name}); {kinds.PNG}"
            return Chunk(b"", b"", [Read(decode.digest(data), len(data), reason)])
        if status < 0:
            name = signal.Signals(-status).name
            raise InputError(
                f"a decoding process was ended from outside ({name}; the system does so when memory runs out); "
                "what was decoded is kept, and the same command continues; less memory is taken with a lower --set max_pixels"
            )
        heard.seek(0)
        raise RuntimeError(f"a decoding process ended with status {status}: {heard.read().decode(errors='replace')}")


def serve(size: int, max_pixels: int) -> None:
    """The life of a process: lists of files in from stdin, chunks out to stdout, until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides and closes stdin
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with decode.strict_pillow(max_pixels, STDERR):
        while True:
            try:
                told = _told(source)
                chunk = decoded((one if isinstance(one, str) else _exactly(source, one) for one in told), size, max_pixels)
                _send(sink, [len(chunk.block), len(chunk.numbers), chunk.reads], chunk.block, chunk.numbers)
            except (EOFError, BrokenPipeError):  # the parent is done, or gone
                return


def _asked(process: subprocess.Popen[bytes], files: list[Got]) -> Chunk:
    assert process.stdin is not None and process.stdout is not None
    sizes = [one if isinstance(one, str) else len(one) for one in files]
    _send(process.stdin, sizes, *(one for one in files if isinstance(one, bytes)))
    *lengths, reads = _told(process.stdout)
    block, numbers = (_exactly(process.stdout, length) for length in lengths)
    return Chunk(block, numbers, [read_of(told) for told in reads])


def read_of(told: list[Any]) -> Read:
    """A Read from its json."""
    digest, size, reason, said, range_ = told
    return Read(digest, size, reason, said, None if range_ is None else deep.Range(*range_))


def _send(pipe: IO[bytes], told: list, *parts: bytes) -> None:
    pipe.write(json.dumps(told).encode() + b"\n")
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _told(pipe: IO[bytes]) -> list:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it holds nothing: whatever it decodes at this moment is decoded again another time
    process.communicate()
