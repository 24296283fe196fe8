"""edits.jsonl: what a person corrected in a finished run, one act a line (run/acts.py), to be repeated on what the method said.

A line is an object {n, time, act, ..., check}. The first, n = 0, says which assignments.parquet the acts are about. `check` is a checksum
of the line and of all before it, for the manifest has no entry of a file that grows after the fit. A line is on the disk before `append`
returns; a last one that has no end was never said to be written, and is cut away. N images, K clusters of the method.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coterie.errors import InputError
from coterie.run import disk, manifest
from coterie.run.acts import Act, Edited, complete, replay
from coterie.run.files import probabilities, read_assignments

__all__ = ["Act", "Conflict", "Edited", "Said", "append", "edited", "read", "replay", "said", "set_aside"]

FILE = "edits.jsonl"
BEGIN = "begin"
_END = b', "check": "%s"}\n'  # of a line
_NONE = b"0" * 16


class Conflict(InputError):
    """Somebody else was faster: the acts, or the run, are no longer those that were seen."""


class Said(NamedTuple):
    """What the method said of a run's images: cluster_N int64, -1 unsure; k clusters; the sha256 of the table, and where it lies."""

    run: Path
    cluster_N: np.ndarray
    k: int
    table: str
    place: tuple[int, int, int]


class Log(NamedTuple):
    """A file of acts: the table it is about ("" when nothing stands in it), the acts, the last checksum, and the bytes that are whole;
    half: those after them; wrong: what is damaged behind them, "" where nothing is."""

    table: str
    acts: list[Act]
    check: str
    whole: int
    half: int
    wrong: str


def said(run: Path) -> Said:
    """Reads a finished run; for who asks for its edits more than once. InputError when it is not finished, or damaged."""
    path = run / manifest.TABLE
    manifest.check(path)
    place = _place(path)
    table = read_assignments(run)
    return Said(run, table["cluster"].to_numpy().astype(np.int64), probabilities(table).shape[1], manifest.digest(path), place)


def edited(run: Path | Said) -> Edited:
    """The run as it was corrected; what the method said, where nobody did. InputError when edits.jsonl is damaged, or is about another
    assignments.parquet than the one that is there."""
    known = _known(run)
    with _held(known.run / FILE, fcntl.LOCK_SH) as handle:
        log = _log(known, handle)
    return _after(known, log.acts, log)


def append(run: Path | Said, act: Act, seen: int | None = None) -> Edited:
    """Writes an act; returns the run after it. seen: the number of acts its author knew of. What the act leaves open is chosen
    (acts.complete). InputError for one that cannot be, and Conflict when there are other acts than `seen`: then nothing is written."""
    known = _known(run)
    path = known.run / FILE
    with _held(path, fcntl.LOCK_EX) as handle:
        log = _log(known, handle)
        if seen is not None and seen != len(log.acts):
            raise Conflict(f"{len(log.acts)} acts are written, {seen} were seen: another window was faster; look, and act again")
        made = {"n": len(log.acts) + 1, "time": _now(), **complete(act, lambda: _after(known, log.acts, log))}
        after = _after(known, [*log.acts, made], log)
        lines, check = [], log.check
        begin = {"n": 0, "time": _now(), "act": BEGIN, "table": known.table, "n_images": len(known.cluster_N), "n_clusters": known.k}
        for told in [made] if log.table else [begin, made]:
            body = json.dumps(told).encode()
            check = _check(check, body)
            lines.append(body[:-1] + _END % check.encode())
        _write(handle, log.whole, b"".join(lines))
        if not log.table:
            disk.sync(known.run)
    return after


def read(run: Path) -> Log:
    """What stands in edits.jsonl, whatever it is about. Never raises for its content."""
    with _held(run / FILE, fcntl.LOCK_SH) as handle:
        return _parsed(handle)


def set_aside(run: Path) -> tuple[Path | None, int]:
    """Moves an edits.jsonl that is damaged, or about another table, to a name of its own; the acts before the damage go on when they are
    about this run. Returns where it lies now (None: it was well), and how many acts go on."""
    known = said(run)
    path = run / FILE
    with _held(path, fcntl.LOCK_SH if not path.exists() else fcntl.LOCK_EX) as handle:
        log = _parsed(handle)
        mine = not log.table or log.table == known.table
        if mine and not log.wrong:
            return None, len(log.acts)
        n = 1
        while (aside := run / f"edits-aside-{n}.jsonl").exists():
            n += 1
        content = _content(handle)
        disk.write(aside, content)
        disk.write(path, content[: log.whole] if mine else b"")
    return aside, len(log.acts) if mine else 0


def _known(run: Path | Said) -> Said:
    if not isinstance(run, Said):
        return said(run)
    if _place(run.run / manifest.TABLE) != run.place:
        raise Conflict(f"{run.run / manifest.TABLE} is another one than before: the run was made anew; start again")
    return run


def _after(known: Said, acts: list[Act], log: Log) -> Edited:
    found = replay(known.cluster_N, acts, known.k)
    cut = f"the last line of {known.run / FILE} was written by half when its writer ended; it is left out"
    return replace(found, remarks=(cut,)) if log.half else found


def _log(known: Said, handle: int | None) -> Log:
    """The acts about this run. InputError when they are damaged, or about another."""
    path, log = known.run / FILE, _parsed(handle)
    way = "`coterie edits RUN --set-aside` moves it aside, nothing is deleted"
    if log.wrong:
        raise InputError(f"{path} is damaged: {log.wrong}; restore it from a copy, or {way}, and the {len(log.acts)} acts before it go on")
    if log.table and log.table != known.table:
        raise InputError(f"{path} is about another {manifest.TABLE} than the one that is there: the run was made anew; {way}")
    return log


def _parsed(handle: int | None) -> Log:
    text = b"" if handle is None else _content(handle)
    table, acts, check, whole, wrong = "", list[Act](), "", 0, ""
    for n, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(keepends=True)):
        told = _line(line, check, n)
        if isinstance(told, str):
            wrong = f"line {n + 1} {told}"
            break
        check, whole = told["check"], whole + len(line)
        if n:
            acts.append(told)
        else:
            table = told["table"]
    half = len(text) - (text.rfind(b"\n") + 1)
    return Log(table, acts, check, whole, 0 if wrong else half, wrong)


def _line(line: bytes, before: str, n: int) -> Act | str:
    """A line that is as it was written; else what is wrong with it."""
    check = _check(before, line[: -len(_END % _NONE)] + b"}")
    if not line.endswith(_END % check.encode()):
        return "does not have its checksum"
    told = json.loads(line)
    right = told.get("n") == n and (told.get("act") == BEGIN and isinstance(told.get("table"), str)) == (n == 0)
    return told if right else f"is not act {n}"


def _check(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()[:16]


def _write(handle: int, at: int, content: bytes) -> None:
    """`content` behind the first `at` bytes, on the disk; or nothing, when the disk is full."""
    os.ftruncate(handle, at)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, at)
        raise


def _content(handle: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(handle, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


@contextmanager
def _held(path: Path, how: int) -> Iterator[Any]:
    """The open file, under a lock that dies with the process; made for a writer, None for a reader where there is none."""
    flags = os.O_RDONLY if how == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT | os.O_APPEND
    while how == fcntl.LOCK_EX or path.exists():
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise manifest.damaged(path, "is not a regular file")
        handle = os.open(path, flags, 0o666)
        try:
            fcntl.flock(handle, how)
            if os.path.samestat(os.fstat(handle), os.stat(path)):  # else it was set aside meanwhile
                yield handle
                return
        finally:
            os.close(handle)
    yield None


def _place(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
