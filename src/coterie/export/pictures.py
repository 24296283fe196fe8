"""Pictures of the source as they lie there now, compared with what was fitted, and put where an export wants them."""

import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from coterie.errors import InputError
from coterie.export.result import Result
from coterie.run.files import read_json, write_atomically

if TYPE_CHECKING:
    from coterie.images.originals import Original

Places = Path | Sequence[Path] | None  # where the source of a run lies now, or each of its sources; None: where it lay
LINKS = ("copy", "hard", "symlink")
LONGEST_NAME = 220  # bytes; file systems stop at 255


class Exported(NamedTuple):
    """How many images were written (or lay there already), and those that were set aside: (path, why)."""

    n_images: int
    aside: list[tuple[str, str]]


class Placed(NamedTuple):
    """A picture that is to be put at `target`: its row in the table, the original, and the digest of what was fitted."""

    row: int
    original: "Original"
    target: Path
    digest: str


def find(
    result: Result, dest: Path, folders: Sequence[Path | None], source_root: Places, link: str, stems: bool = False
) -> tuple[list[Placed], list[tuple[str, str]]]:
    """The pictures that are what was fitted, each with its place in its folder below `dest` (None: not wanted), and those set aside.
    stems: names differ by more than their endings. Nothing is written."""
    source = read_json(result.run / "config.json", source=dict)["source"]
    wanted = {folder for folder in folders if folder is not None}
    from coterie.images.parts import split

    parts, at = split(source, result.table["path"].to_pylist()), _places(source, source_root)
    roots = [Path(there or str(part.get("path") or "")) for (part, _), there in zip(parts, at)]
    for root in roots:
        _refuse_harm(result.run, root if source.get("kind") == "folder" else None, dest, wanted)
    digests = digests_of(result.run, source, any(at), result.table)
    rows: list[int] = []
    found: list[Original] = []
    start = 0
    for (part, mine), there in zip(parts, at):
        these = [i for i in range(start, start + len(mine)) if folders[i] is not None]
        found += _found(part, there, [mine[i - start] for i in these]) if these else []
        rows, start = rows + these, start + len(mine)
    if link != "copy" and any(original.file is None for original in found):
        raise InputError(f"pictures inside {roots[0].name or source.get('name')} are no files to link to; use --link copy")
    aside: list[tuple[str, str]] = []
    places = _targets(found, [folders[i] for i in rows], stems)  # type: ignore[misc]
    every = [Placed(i, original, target, digests[i]) for i, original, target in zip(rows, found, places)]
    return [one for one in every if _same(one, aside)], aside


def put(placed: Sequence[Placed], link: str, aside: list[tuple[str, str]]) -> list[Placed]:
    """Writes them, and returns those that are there; what was changed meanwhile is set aside. InputError, before the first is written,
    where a file is there that differs."""
    missing = {one.row for one in placed if not _is_there(one.original, one.target)}
    left = []
    for one in placed:
        if one.row in missing:
            if not _same(one, aside):
                continue
            _place(one.original, one.target, link)
        left.append(one)
    return left


def write_once(dest: Path, content: bytes) -> None:
    """`content` at `dest`. InputError where something else is there."""
    refuse_other(dest, content)
    write_atomically(dest, lambda new: new.write_bytes(content))


def refuse_other(dest: Path, content: bytes) -> None:
    """Raises InputError where something is at `dest` that is not `content`."""
    if os.path.lexists(dest) and not (dest.is_file() and dest.read_bytes() == content):
        raise InputError(f"{dest} is there already and differs; delete it or choose another name")


def same_file(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _places(source: dict[str, Any], source_root: Places) -> list[Path | None]:
    """Where each source of a run lies now, None where it has not moved."""
    from coterie.images.parts import parts

    known = parts(source)
    given = [source_root] if isinstance(source_root, Path) else list(source_root or [])
    if given and len(given) != len(known):
        names = ", then ".join(str(part.get("name")) for part in known)
        raise InputError(f"--source is given {len(given)} times; this run has {len(known)} sources, name where each lies now: {names}")
    return [*given] or [None] * len(known)


def _found(part: dict[str, Any], at: Path | None, paths: list[str]) -> "list[Original]":
    """The originals of a part, under the names that they have in the run."""
    from coterie.images.originals import originals
    from coterie.images.parts import named

    prefix = part["prefix"]
    return [replace(one, path=named(prefix, one.path), parts=(prefix, *one.parts) if prefix else one.parts)
            for one in originals(part, at, paths)]  # fmt: skip


def digests_of(run: Path, source: dict[str, Any], moved: bool, table: pa.Table) -> list[str]:
    """Of each image the digest of what was fitted, "" where the run is of a version that did not keep them."""
    from coterie.images.items import FILE, read_items

    items = read_items(run, len(table))
    if items is None:
        if source.get("kind") == "list" and not (moved or source.get("path")):
            raise InputError(f"{run} does not say which files its list held; name them in a .txt with --source, or use --to csv or parquet")
        return [""] * len(table)
    kept = {i: (path, digest) for i, path, digest in zip(*(items[name].to_pylist() for name in ("id", "path", "digest"))) if i >= 0}
    if [kept.get(i, ("", ""))[0] for i in range(len(table))] != table["path"].to_pylist():
        raise InputError(f"{run / FILE} and assignments.parquet name different pictures: one is damaged; restore it, or fit again")
    return [kept[i][1] for i in range(len(table))]


def _same(one: Placed, aside: list[tuple[str, str]]) -> bool:
    """Whether the original is what was fitted; else it is set aside."""
    from coterie.images.decode import Unreadable

    try:
        if one.original.digest() == one.digest or not one.digest:
            return True
        aside.append((one.original.path, "holds other content than at the fit; sort it with coterie predict"))
    except Unreadable as error:
        aside.append((one.original.path, f"can no longer be read: {error}"))
    return False


def _refuse_harm(run: Path, source: Path | None, dest: Path, folders: set[Path]) -> None:
    """Nothing is written into the source folder, by whatever way it is reached, nor among a run's own files."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file; name a folder")
    inside = [folder for folder in (dest, *sorted(folders)) if source and folder.resolve().is_relative_to(source.resolve())]
    if inside:
        raise InputError(f"{inside[0]} lies inside the pictures' own folder {source}; choose a folder outside of it")
    if dest.resolve() == run.resolve() or dest.resolve().is_relative_to(run.resolve() / "work"):
        raise InputError(f"{dest} is the run itself; choose another folder, such as {run / 'sorted'}")


def _targets(originals: "Sequence[Original]", folders: Sequence[Path], stems: bool) -> list[Path]:
    """Where each original goes: its own name; where two share it, their whole paths; where even that will not do, its number."""
    safe = [[part for part in original.parts if part not in ("", ".", "..", "/")] or ["picture"] for original in originals]
    names = [parts[-1] for parts in safe]
    renamed: list[Callable[[int], str]] = [
        lambda i: "__".join(safe[i]), lambda i: f"picture_{i:06d}{Path(safe[i][-1]).suffix}",
    ]  # fmt: skip
    for rename in renamed:
        shared = _shared(folders, names, stems)
        names = [rename(i) if i in shared or len(os.fsencode(name)) > LONGEST_NAME else name for i, name in enumerate(names)]
    if clash := _shared(folders, names, stems):
        raise InputError(f"two pictures would both be called {names[min(clash)]}; rename the original of that name, or use --to csv")
    return [folder / name for folder, name in zip(folders, names)]


def _shared(folders: Sequence[Path], names: Sequence[str], stems: bool) -> set[int]:
    """Positions whose name is not theirs alone. Upper and lower case count as one: many file systems cannot tell them apart."""
    keys = [(folder, (Path(name).stem if stems else name).casefold()) for folder, name in zip(folders, names)]
    times = Counter(keys)
    return {i for i, key in enumerate(keys) if times[key] > 1}


def _is_there(original: "Original", target: Path) -> bool:
    """Whether the target holds this picture already. InputError when it holds something else."""
    if not os.path.lexists(target):
        return False
    if target.is_file() and target.read_bytes() == original.read():
        return True
    raise InputError(f"{target} is there already and differs; delete it or choose another folder")


def _place(original: "Original", target: Path, link: str) -> None:
    def write(new: Path) -> None:
        if original.file is None:
            new.write_bytes(original.read())
        elif link == "copy":
            shutil.copy2(original.file, new)
        elif link == "symlink":
            new.symlink_to(original.file)
        else:
            _hard_link(original.file, new)

    write_atomically(target, write, durable=False)  # its original is there, and an export is simply repeated


def _hard_link(file: Path, new: Path) -> None:
    try:
        os.link(file, new)
    except OSError as error:
        raise InputError(f"{file.name} cannot be hard-linked ({error.strerror}); use --link copy or symlink") from error
