"""The result of a run in other shapes: pictures sorted into folders, a csv, a parquet table.

An original is never moved, changed or deleted, and no file that is already there is overwritten: one with the same content is left as it
is, so an interrupted export is simply repeated; one that differs is an error.
"""

import csv
import filecmp
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from coterie.errors import InputError
from coterie.run.files import probabilities, read_assignments, read_json, write_atomically

if TYPE_CHECKING:
    from coterie.images.originals import Original

COLUMNS = ("id", "path", "cluster", "confidence", "p")
LINKS = ("copy", "hard", "symlink")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula
LONGEST_NAME = 220  # bytes; file systems stop at 255


class Exported(NamedTuple):
    """How many images were written (or lay there already), and those that were set aside: (path, why)."""

    n_images: int
    aside: list[tuple[str, str]]


def export(run: Path, to: str, dest: Path, source_root: Path | Sequence[Path] | None = None, link: str = "copy") -> Exported:
    """Write the assignments of a finished run to `dest`.

    to: `folders` (dest/cluster_00/name.jpg, ...), `csv` or `parquet`. source_root: where the source lies now, when it has moved since the
    fit; of an updated run where each of its sources does, in their order. link: folders only; `copy`, `hard` or `symlink`. Pictures of one
    name in one cluster keep their sub-folder as `sub__name.jpg`; images of arrays become PNG, images of zips and parquet files keep their
    bytes. A picture whose content is not what was fitted is set aside: it may belong into another cluster.
    InputError: no finished run, a source that is not there, a path that leaves it, a `dest` inside the source, files there that differ, an
    unknown `to` or `link`.
    """
    if to not in ("folders", "csv", "parquet"):
        raise InputError(f"cannot export to {to!r}; choose folders, csv or parquet")
    if link not in LINKS:
        raise InputError(f"there is no link {link!r}; choose {', '.join(LINKS)}")
    table = read_assignments(run)
    if to == "folders":
        return _folders(run, table, dest, source_root, link)
    if dest.is_dir():
        raise InputError(f"{dest} is a folder; name a file, such as {dest / ('clusters.' + to)}")

    def write(new: Path) -> None:
        write_csv(table, new) if to == "csv" else pq.write_table(table, new)
        if os.path.lexists(dest) and not _same_file(new, dest):
            raise InputError(f"{dest} is there already and differs; delete it or choose another name")

    write_atomically(dest, write)
    return Exported(len(table), [])


def write_csv(table: pa.Table, path: Path) -> None:
    """Columns id, path, cluster, confidence, p_0 .. p_{K-1}, and what the table has besides; UTF-8, one line per image.

    A path that starts with = + - @, tab or return gets a leading ', so that no spreadsheet runs it as a formula.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer, quoting = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        k, more = probabilities(table.slice(0, 1)).shape[1], [name for name in table.column_names if name not in COLUMNS]
        writer.writerow([*COLUMNS[:-1], *(f"p_{i}" for i in range(k)), *more])
        for batch in table.to_batches(max_chunksize=10_000):
            rows = batch.to_pydict()
            for i, name, cluster, confidence, p, *others in zip(*(rows[column] for column in (*COLUMNS, *more))):
                row = [i, _harmless(name), cluster, f"{confidence:.7g}", *(f"{value:.7g}" for value in p), *map(_plain, others)]
                (quoting if "\r" in name else writer).writerow(row)  # before Python 3.13 a lone return would end the row


def _plain(value: Any) -> str:
    """A truth or a number."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.7g}"


def _harmless(cell: str) -> str:
    return "'" + cell if cell.lstrip("'").startswith(FORMULA) else cell  # also before ' of its own, so that one name stays one name


def _folders(run: Path, table: pa.Table, dest: Path, source_root: Path | Sequence[Path] | None, link: str) -> Exported:
    from coterie.images.decode import Unreadable
    from coterie.images.parts import split

    source = read_json(run / "config.json", source=dict)["source"]
    labels, paths = table["cluster"].to_pylist(), table["path"].to_pylist()
    k = probabilities(table.slice(0, 1)).shape[1]
    folders = [dest / _folder_name(label, k) for label in labels]
    parts, at = split(source, paths), _places(source, source_root)
    roots = [Path(there or str(part.get("path") or "")) for (part, _), there in zip(parts, at)]
    for root in roots:
        _refuse_harm(run, root if source.get("kind") == "folder" else None, dest, set(folders))
    digests = _digests(run, source, any(at), table)
    found = [original for (part, mine), there in zip(parts, at) for original in _found(part, there, mine)]
    if link != "copy" and any(original.file is None for original in found):
        raise InputError(f"pictures inside {roots[0].name or source.get('name')} are no files to link to; use --link copy")
    aside: list[tuple[str, str]] = []

    def same(original: "Original", digest: str) -> bool:
        try:
            if original.digest() == digest or not digest:
                return True
            aside.append((original.path, "holds other content than at the fit; sort it with coterie predict"))
        except Unreadable as error:
            aside.append((original.path, f"can no longer be read: {error}"))
        return False

    left = [(*pair, digest) for pair, digest in zip(_targets(found, folders), digests) if same(pair[0], digest)]
    for original, target, digest in [one for one in left if not _is_there(*one[:2])]:  # all are looked at before the first is written
        if same(original, digest):
            _place(original, target, link)
    return Exported(len(found) - len(aside), aside)


def _places(source: dict[str, Any], source_root: Path | Sequence[Path] | None) -> list[Path | None]:
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


def _digests(run: Path, source: dict[str, Any], moved: bool, table: pa.Table) -> list[str]:
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


def _folder_name(label: int, k: int) -> str:
    return f"cluster_{label:0{max(2, len(str(k - 1)))}d}" if label >= 0 else "unsure"


def _refuse_harm(run: Path, source: Path | None, dest: Path, folders: set[Path]) -> None:
    """Nothing is written into the source folder, by whatever way it is reached, nor among a run's own files."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file; name a folder")
    inside = [folder for folder in (dest, *sorted(folders)) if source and folder.resolve().is_relative_to(source.resolve())]
    if inside:
        raise InputError(f"{inside[0]} lies inside the pictures' own folder {source}; choose a folder outside of it")
    if dest.resolve() == run.resolve() or dest.resolve().is_relative_to(run.resolve() / "work"):
        raise InputError(f"{dest} is the run itself; choose another folder, such as {run / 'sorted'}")


def _targets(originals: "Sequence[Original]", folders: Sequence[Path]) -> "list[tuple[Original, Path]]":
    """Where each original goes: its own name; where two share it, their whole paths; where even that will not do, its number."""
    safe = [[part for part in original.parts if part not in ("", ".", "..", "/")] or ["picture"] for original in originals]
    names = [parts[-1] for parts in safe]
    for rename in (lambda i: "__".join(safe[i]), lambda i: f"picture_{i:06d}{Path(safe[i][-1]).suffix}"):
        shared = _shared(folders, names)
        names = [rename(i) if i in shared or len(os.fsencode(name)) > LONGEST_NAME else name for i, name in enumerate(names)]
    if clash := _shared(folders, names):
        raise InputError(f"two pictures would both be called {names[min(clash)]}; rename the original of that name, or use --to csv")
    return [(original, folder / name) for original, folder, name in zip(originals, folders, names)]


def _shared(folders: Sequence[Path], names: Sequence[str]) -> set[int]:
    """Positions whose name is not theirs alone. Upper and lower case count as one: many file systems cannot tell them apart."""
    keys = [(folder, name.casefold()) for folder, name in zip(folders, names)]
    times = Counter(keys)
    return {i for i, key in enumerate(keys) if times[key] > 1}


def _is_there(original: "Original", target: Path) -> bool:
    """Whether the target holds this picture already. InputError when it holds something else."""
    if not os.path.lexists(target):
        return False
    if target.is_file() and target.read_bytes() == original.read():
        return True
    raise InputError(f"{target} is there already and differs; delete it or choose another folder")


def _same_file(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


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
