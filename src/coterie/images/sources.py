"""What a SOURCE of picture files is: a folder, a .zip, a .txt list or a .parquet -> items whose bytes can be read one by one."""

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from coterie.errors import InputError
from coterie.images import kinds, packed
from coterie.images.decode import Unreadable
from coterie.images.names import listed_names, shown


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a source. `stamp` changes when the file does; `fault` says why its bytes cannot be had at all ("" when they can)."""

    path: str  # as in Images.paths
    size: int  # bytes; -1 when only reading tells
    stamp: str = ""
    fault: str = ""


class Reader(Protocol):
    """Gives the bytes of item i. Several threads call it. Raises OSError or Unreadable."""

    def __call__(self, i: int) -> bytes: ...


@dataclass(frozen=True)
class Source:
    """Items in their final order and the way to read them; `place` tells apart sources whose items look alike."""

    name: str
    kind: str
    items: list[Item]
    reader: Reader
    place: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    at_once: int = 0  # reads that should wait side by side, where each waits long; 0: as many as the cores can decode

    def read(self, i: int, most: int) -> bytes:
        """Bytes of item i; Unreadable, with the reason, when they cannot be had or are more than `most`."""
        item = self.items[i]
        if item.fault:
            raise Unreadable(item.fault)
        if item.size > most:
            raise Unreadable(f"{item.size / 1e6:.0f} MB, more than a picture within max_pixels can take")
        try:
            return self.reader(i)
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror or error})") from error


def open_source(path: Path, name: str) -> Source:
    """The source of picture files at `path`, called `name` in messages. InputError when it is none, or holds no picture."""
    openers = {".zip": archive, ".txt": listed, ".parquet": table}
    mode = kind_of_file(path, name)
    if stat.S_ISDIR(mode):
        source = folder(path, name)
    elif path.suffix.lower() not in openers:
        raise InputError(f"{name} is not a source of pictures; name a folder, a .zip, a .txt list, or a .npy, .npz or .parquet file")
    else:
        source = openers[path.suffix.lower()](path, name)
    if not source.items:
        left = "".join(f"; {count} {kind} files were skipped ({kinds.WAY_OUT[kind]})" for kind, count in source.skipped.items())
        raise InputError(f"{name} holds no pictures{_others(path)}{left}; name a source with pictures in it")
    return source


def kind_of_file(path: Path, name: str) -> int:
    """The st_mode of the file or folder at `path`. InputError, with `name`, when there is none, or it cannot be reached."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no name of a file, such as one with a NUL
        raise InputError(
            f"{name} does not exist; name a folder, a .zip, a .txt list, .npy, .npz or .parquet file, or a set such as digits"
        ) from None
    except OSError as error:
        raise InputError(f"{name} cannot be opened ({error.strerror}); check its name and its permissions") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe would be waited for without end
        raise InputError(f"{name} is a pipe or a device; write what it gives to a file, and name that")
    return mode


def folder(root: Path, name: str) -> Source:
    """Every picture below `root`. Links to files are read; a linked folder is entered unless its real folder is visited anyway."""
    found, skipped = _walk(str(root))
    found.sort(key=lambda pair: pair[0].path)
    items, files = [item for item, _ in found], [path for _, path in found]
    return Source(name, "folder", items, Files(files), os.path.realpath(root), dict(skipped))


def paths_list(paths: Iterable[str | os.PathLike[str] | None], name: str, beside: Path | None = None) -> Source:
    """The named files, in the order given; a path is taken from the current folder, else from the folder `beside`.

    In a list from Python (no `beside`) each entry stays an item, None and videos too: the caller's rows are its entries.
    """
    items, files, skipped = [], [], Counter[str]()
    for i, path in enumerate(None if one is None else os.fspath(one) for one in paths):
        kind = "" if path is None else kinds.by_name(path)
        if path is None or (kind in ("video", "raw") and beside is None):
            items.append(Item(f"#{i}", 0, fault="None, no picture") if path is None else Item(shown(path), 0, fault=f"skipped: {kind}"))
            files.append("")
            continue
        if kind in ("video", "raw"):
            skipped[kind] += 1
            continue
        file = os.path.expanduser(path)
        if beside is not None and not os.path.exists(file):
            file = os.path.join(beside, path)
        items.append(_file_item(path, file))
        files.append(os.path.abspath(file))
    return Source(name, "list", items, Files(files), "\n".join(map(shown, files)), dict(skipped))


def listed(path: Path, name: str) -> Source:
    """A text file of paths, as `names.listed_names` reads it. Sorted by path."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}); check its permissions") from error
    names: list[str] = sorted(listed_names(data, name), key=shown)
    return paths_list(names, name, path.parent)


def archive(path: Path, name: str) -> Source:
    """The pictures in a zip, read in place. A member's name is only a name: `..` and a leading `/` lead nowhere."""
    members = packed.members(path, name)
    named = {member: kinds.by_name(member) for member in members}
    skipped = Counter(kind for kind in named.values() if kind in ("video", "raw"))
    inside = packed.told_by_content(path, [members[member] for member, kind in named.items() if kind == "unknown"])
    names = sorted([*inside, *(member for member, kind in named.items() if kind == "picture")], key=shown)
    items = [Item(shown(n), members[n].file_size, str(members[n].CRC)) for n in names]
    return Source(name, "zip", items, packed.Archive(path.absolute(), names), skipped=dict(skipped))


def table(path: Path, name: str) -> Source:
    """The rows of a parquet file with a column of image bytes: `image` (or the only binary one), plain or a struct with `bytes`."""
    column, starts = packed.rows(path, name)
    info = path.stat()
    items = [Item(f"#{row}", -1) for row in range(starts[-1])]
    return Source(
        name, "parquet", items, packed.Rows(path.absolute(), column, starts), f"{path.resolve()} {info.st_size} {info.st_mtime_ns}"
    )


class Files:
    """Reads files; positions as in `paths`."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __call__(self, i: int) -> bytes:
        # bare calls: a thread waits for the interpreter at each; NONBLOCK: a pipe put there since is not waited for
        file = os.open(self.paths[i], os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Unreadable("not a file")
            data = os.read(file, os.fstat(file).st_size + 1)
            while more := os.read(file, 1 << 20):
                data += more
            return data
        finally:
            os.close(file)


def _walk(root: str) -> tuple[list[tuple[Item, str]], Counter[str]]:
    """(item, file) of every picture below `root`, and counts of skipped kinds. Real folders go first, so links never take their place."""
    found: list[tuple[Item, str]] = []
    skipped = Counter[str]()
    seen: set[tuple[int, int]] = set()
    real, linked = [""], list[str]()
    while real or linked:
        below = real.pop() if real else linked.pop()
        try:
            info = os.stat(os.path.join(root, below))
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            entries = sorted(os.scandir(os.path.join(root, below)), key=lambda entry: entry.name)
        except OSError as error:
            if not below:
                raise InputError(f"{shown(root)} cannot be opened ({error.strerror}); check its permissions") from error
            found.append((Item(shown(below) + "/", 0, fault=f"the folder cannot be opened ({error.strerror})"), ""))
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            kind = kinds.by_name(entry.name)
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                (linked if entry.is_symlink() else real).append(path)
            elif kind == "picture" or (kind == "unknown" and kinds.by_content(entry.path)):
                found.append((_file_item(path, entry.path), entry.path))
            elif kind in ("video", "raw"):
                skipped[kind] += 1
    return found, skipped


def _file_item(path: str, file: str) -> Item:
    try:
        info = os.stat(file)
    except OSError as error:
        return Item(shown(path), 0, fault=f"cannot be read ({error.strerror})")
    except ValueError:
        return Item(shown(path), 0, fault="no name of a file")
    if not stat.S_ISREG(info.st_mode):  # a pipe would be waited for without end
        return Item(shown(path), 0, fault="not a file")
    return Item(shown(path), info.st_size, f"{info.st_mtime_ns} {info.st_mode}")  # the mode: a file made readable is read again


def _others(path: Path) -> str:
    """What a folder without pictures does hold, by ending, for a message."""
    names = (name for _, _, files in os.walk(path) for name in files)
    endings = Counter(os.path.splitext(name)[1].lower() or "without ending" for name in itertools.islice(names, 10_000))
    most = ", ".join(f"{count} {shown(ending)}" for ending, count in endings.most_common(3))
    return f" (its files: {most})" if most else ""
