"""Decoding on several cores: threads for few pictures, processes for many.

Pillow releases the interpreter's lock while it decodes and resizes, but opening a small JPEG is Python: on 160 px JPEGs two threads reached
0.6 to 0.8 of the rate of two processes. A process takes 0.2 s to start, which only many pictures pay back. The processes are plain
`python -c` children spoken to over pipes: multiprocessing would import the caller's script again or fork a process that holds threads.
"""

import json
import subprocess
import sys
import zlib
from contextlib import ExitStack
from queue import SimpleQueue
from typing import IO, NamedTuple

from coterie.images import decode

MANY = 2000  # pictures from which processes pay

Got = bytes | str  # the bytes of a file, or why they cannot be had


class Chunk(NamedTuple):
    """Decoded pictures one after the other, each size x size x 3 uint8; its checksum; and for each file (digest, bytes, reason)."""

    block: bytes
    crc: int
    reads: list[tuple[str, int, str]]

    @property
    def rows(self) -> int:
        return sum(not reason for _, _, reason in self.reads)


def decoded(files: list[Got], size: int, max_pixels: int) -> Chunk:
    """Decode and hash some files, here; call it within `decode.strict_pillow`."""
    blocks, reads = [], []
    for data in files:
        if isinstance(data, str):
            reads.append(("", 0, data))
            continue
        reason = ""
        try:
            blocks.append(decode.square(data, size, max_pixels).tobytes())
        except decode.NotNow as problem:
            reads.append(("", len(data), str(problem)))
            continue
        except decode.Unreadable as problem:
            reason = str(problem)
        reads.append((decode.digest(data), len(data), reason))
    block = b"".join(blocks)
    return Chunk(block, zlib.crc32(block), reads)


class Processes:
    """`count` processes that do `decoded`; any thread may call, and waits for a free one. Use in a with statement."""

    def __init__(self, count: int, size: int, max_pixels: int):
        start = f"import sys; sys.path[:] = {sys.path!r}; from coterie.images.workers import serve; serve({size}, {max_pixels})"
        self._free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all = ExitStack()
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._all.callback(_ended, process)
            self._free.put(process)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self._all.close()

    def __call__(self, files: list[Got]) -> Chunk:
        process = self._free.get()
        try:
            assert process.stdin is not None and process.stdout is not None
            sizes = [one if isinstance(one, str) else len(one) for one in files]
            _send(process.stdin, sizes, *(one for one in files if isinstance(one, bytes)))
            crc, length, reads = _told(process.stdout)
            block = process.stdout.read(length)
            if len(block) < length:
                raise EOFError
            return Chunk(block, crc, [(told[0], told[1], told[2]) for told in reads])
        except (BrokenPipeError, EOFError) as error:
            raise RuntimeError(f"a decoding process ended with status {process.wait()}") from error
        finally:
            self._free.put(process)


def serve(size: int, max_pixels: int) -> None:
    """The life of a process: lists of files in from stdin, chunks out to stdout, until stdin closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides and closes stdin
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with decode.strict_pillow(max_pixels):
        while True:
            try:
                told = _told(source)
                chunk = decoded([one if isinstance(one, str) else source.read(one) for one in told], size, max_pixels)
                _send(sink, [chunk.crc, len(chunk.block), chunk.reads], chunk.block)
            except (EOFError, BrokenPipeError):  # the parent is done, or gone
                return


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


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it holds nothing: whatever it decodes at this moment is decoded again another time
    process.communicate()
