"""What a SOURCE of picture files is: a folder, a .zip, a .txt list or a .parquet -> items whose bytes can be read one by one."""

import bisect
import itertools
import os
import stat
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from coterie.errors import InputError
from coterie.images import kinds
from coterie.images.decode import Unreadable
from coterie.images.names import shown


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
    if path.is_dir():
        source = folder(path, name)
    elif not path.exists():
        raise InputError(f"{name} does not exist; name a folder, a .zip, a .txt list, .npy, .npz or .parquet file, or a set such as digits")
    elif path.suffix.lower() not in openers:
        raise InputError(f"{name} is not a source of pictures; name a folder, a .zip, a .txt list, or a .npy, .npz or .parquet file")
    else:
        source = openers[path.suffix.lower()](path, name)
    if not source.items:
        left = "".join(f"; {count} {kind} files were skipped ({kinds.WAY_OUT[kind]})" for kind, count in source.skipped.items())
        raise InputError(f"{name} holds no pictures{_others(path)}{left}; name a source with pictures in it")
    return source


def folder(root: Path, name: str) -> Source:
    """Every picture below `root`. Links to files are read; a linked folder is entered unless its real folder is visited anyway."""
    found, skipped = _walk(str(root))
    found.sort(key=lambda pair: pair[0].path)
    items, files = [item for item, _ in found], [path for _, path in found]
    return Source(name, "folder", items, Files(files), os.path.realpath(root), dict(skipped))


def paths_list(paths: Iterable[str | os.PathLike[str]], name: str, beside: Path | None = None) -> Source:
    """The named files, in the order given; a path is taken from the current folder, else from the folder `beside`."""
    items, files, skipped = [], [], Counter[str]()
    for path in (os.fspath(one) for one in paths):
        kind = kinds.by_name(path)
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
    """A text file with one path a line; blank lines do not count. Sorted by path."""
    lines = (line.rstrip(b"\r") for line in path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    names: list[str] = sorted((os.fsdecode(line) for line in lines if line.strip()), key=shown)
    return paths_list(names, name, path.parent)


def archive(path: Path, name: str) -> Source:
    """The pictures in a zip, read in place. A member's name is only a name: `..` and a leading `/` lead nowhere."""
    try:
        with zipfile.ZipFile(path) as opened:
            members = {info.filename: info for info in opened.infolist() if not info.is_dir()}  # of two with one name, the later
    except zipfile.BadZipFile as error:
        raise InputError(f"{name} is not a whole zip file ({error}); make it again or name its folder") from error
    named = {member: kinds.by_name(member) for member in members}
    skipped = Counter(kind for kind in named.values() if kind in ("video", "raw"))
    inside = _told_in_zip(path, [members[member] for member, kind in named.items() if kind == "unknown"])
    names = sorted([*inside, *(member for member, kind in named.items() if kind == "picture")], key=shown)
    items = [Item(shown(n), members[n].file_size, str(members[n].CRC)) for n in names]
    return Source(name, "zip", items, Archive(path.absolute(), names), skipped=dict(skipped))


def table(path: Path, name: str) -> Source:
    """The rows of a parquet file with a column of image bytes: `image` (or the only binary one), plain or a struct with `bytes`."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as opened:
            column = _image_column(opened.schema_arrow, name)
            starts = [0]
            for group in range(opened.num_row_groups):
                starts.append(starts[-1] + opened.metadata.row_group(group).num_rows)
    except pyarrow.ArrowException as error:
        raise InputError(f"{name} is not a whole parquet file ({error}); make it again") from error
    info = path.stat()
    items = [Item(f"#{row}", -1) for row in range(starts[-1])]
    return Source(name, "parquet", items, Rows(path.absolute(), column, starts), f"{path.resolve()} {info.st_size} {info.st_mtime_ns}")


class Files:
    """Reads files; positions as in `paths`."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __call__(self, i: int) -> bytes:
        file = os.open(self.paths[i], os.O_RDONLY | getattr(os, "O_BINARY", 0))  # bare calls: a thread waits for the interpreter at each
        try:
            data = os.read(file, os.fstat(file).st_size + 1)
            while more := os.read(file, 1 << 20):
                data += more
            return data
        finally:
            os.close(file)


class Archive:
    """Reads members of a zip, opened once per process: a forked child would share the file position."""

    def __init__(self, path: Path, names: list[str]):
        self.path, self.names = path, names
        self._zip: zipfile.ZipFile | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, i: int) -> bytes:
        with self._lock:
            if self._zip is None or self._pid != os.getpid():
                self._zip, self._pid = zipfile.ZipFile(self.path), os.getpid()
        try:
            return self._zip.read(self.names[i])
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError) as error:
            raise Unreadable(f"cannot be unpacked ({error})") from error


class Rows:
    """Reads rows of a parquet file; keeps the row group last used, as rows are read nearly in order."""

    def __init__(self, path: Path, column: list[str], starts: list[int]):
        self.path, self.column, self.starts = path, column, starts
        self._group: tuple[int, Any] = (-1, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": (-1, None)}

    def __call__(self, i: int) -> bytes:
        import pyarrow
        from pyarrow import parquet

        group = bisect.bisect_right(self.starts, i) - 1
        held, values = self._group
        if held != group:
            try:
                with parquet.ParquetFile(self.path) as opened:
                    values = opened.read_row_group(group, columns=[".".join(self.column)]).column(0)
            except pyarrow.ArrowException as error:
                raise Unreadable(f"cannot be read ({error})") from error
            self._group = group, values
        value = values[i - self.starts[group]].as_py()
        if isinstance(value, dict):
            value = value[self.column[-1]]
        return value or b""


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
    if not stat.S_ISREG(info.st_mode):  # a pipe would be waited for without end
        return Item(shown(path), 0, fault="not a file")
    return Item(shown(path), info.st_size, f"{info.st_mtime_ns} {info.st_mode}")  # the mode: a file made readable is read again


def _told_in_zip(path: Path, members: list[zipfile.ZipInfo]) -> list[str]:
    """The names of those members that begin as pictures do; one that cannot be read is none."""
    found = []
    with zipfile.ZipFile(path) as opened:
        for member in members:
            try:
                with opened.open(member) as file:
                    found += [member.filename] * kinds.told_by(file.read(kinds.HEAD))
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
                continue
    return found


def _others(path: Path) -> str:
    """What a folder without pictures does hold, by ending, for a message."""
    names = (name for _, _, files in os.walk(path) for name in files)
    endings = Counter(os.path.splitext(name)[1].lower() or "without ending" for name in itertools.islice(names, 10_000))
    most = ", ".join(f"{count} {shown(ending)}" for ending, count in endings.most_common(3))
    return f" (its files: {most})" if most else ""


def _image_column(schema: Any, name: str) -> list[str]:
    import pyarrow.types as types

    def binary(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind)

    found = {}
    for column in schema:
        if binary(column.type):
            found[column.name] = [column.name]
        elif types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0 and binary(column.type.field("bytes").type):
            found[column.name] = [column.name, "bytes"]
    chosen = next((key for key in ("image", "img", "bytes") if key in found), None) or (next(iter(found)) if len(found) == 1 else None)
    if chosen is None:
        raise InputError(f"{name} has no column `image` with the bytes of pictures; its columns are {', '.join(schema.names)}")
    return found[chosen]
