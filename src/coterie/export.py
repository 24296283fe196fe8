"""The result of a run in other shapes: pictures sorted into folders, a csv, a parquet table.

An original is never moved, changed or deleted, and no file that is already there is overwritten: one with the same content is left as it
is, so an interrupted export is simply repeated; one that differs is an error.
"""

import csv
import filecmp
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from coterie.errors import InputError
from coterie.run.files import probabilities, read_assignments, read_json, write_atomically

COLUMNS = ("id", "path", "cluster", "confidence", "p")
LINKS = ("copy", "hard", "symlink")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula
LONGEST_NAME = 220  # bytes; file systems stop at 255
WHOLE = 1 << 20  # pixels of the longest side: a picture in its own size


@dataclass(frozen=True)
class Original:
    """One picture of the source. parts: its path there, in pieces; file: where it lies, None in an archive or array; read: its bytes."""

    parts: tuple[str, ...]
    file: Path | None
    read: Callable[[], bytes]


def export(run: Path, to: str, dest: Path, source_root: Path | None = None, link: str = "copy") -> int:
    """Write the assignments of a finished run to `dest`; returns the number of images written.

    to: `folders` (dest/cluster_00/name.jpg, ...), `csv` or `parquet`. source_root: where the source lies now, when it has moved since the
    fit. link: folders only; `copy`, `hard` or `symlink`. Pictures of one name in one cluster keep their sub-folder as `sub__name.jpg`;
    images of arrays become PNG, images of zips and parquet files keep their bytes.
    InputError: no finished run, a source that is not there, a `dest` inside the source, files there that differ, an unknown `to` or `link`.
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
    return len(table)


def write_csv(table: pa.Table, path: Path) -> None:
    """Columns id, path, cluster, confidence, p_0 .. p_{K-1}; UTF-8, one line per image.

    A path that starts with = + - @, tab or return gets a leading ', so that no spreadsheet runs it as a formula.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer, quoting = (csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        k = probabilities(table.slice(0, 1)).shape[1]
        writer.writerow([*COLUMNS[:-1], *(f"p_{i}" for i in range(k))])
        for batch in table.to_batches(max_chunksize=10_000):
            rows = batch.to_pydict()
            for i, name, cluster, confidence, p in zip(*(rows[column] for column in COLUMNS)):
                row = [i, _harmless(name), cluster, f"{confidence:.7g}", *(f"{value:.7g}" for value in p)]
                (quoting if "\r" in name else writer).writerow(row)  # before Python 3.13 a lone return would end the row


def _harmless(cell: str) -> str:
    return "'" + cell if cell.startswith(FORMULA) else cell


def _folders(run: Path, table: pa.Table, dest: Path, source_root: Path | None, link: str) -> int:
    source = read_json(run / "config.json", source=dict)["source"]
    kind = str(source.get("kind"))
    root = Path(str(source["name"])) if kind == "named" else Path(source_root or source.get("path") or "")
    labels = table["cluster"].to_pylist()
    k = probabilities(table.slice(0, 1)).shape[1]
    folders = [dest / _folder_name(label, k) for label in labels]
    _refuse_harm(run, root if kind == "folder" else None, dest, set(folders))
    originals = _originals(kind, root, table["path"].to_pylist())
    if link != "copy" and any(original.file is None for original in originals):
        raise InputError(f"pictures inside {root.name} are no files to link to; use --link copy")
    targets = _targets(originals, folders)
    for original, target in [pair for pair in targets if not _is_there(*pair)]:  # all are looked at before the first is written
        _place(original, target, link)
    return len(targets)


def _folder_name(label: int, k: int) -> str:
    return f"cluster_{label:0{max(2, len(str(k - 1)))}d}" if label >= 0 else "no_cluster"


def _refuse_harm(run: Path, source: Path | None, dest: Path, folders: set[Path]) -> None:
    """Nothing is written into the source folder, by whatever way it is reached, nor among a run's own files."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file; name a folder")
    inside = [folder for folder in (dest, *sorted(folders)) if source and folder.resolve().is_relative_to(source.resolve())]
    if inside:
        raise InputError(f"{inside[0]} lies inside the pictures' own folder {source}; choose a folder outside of it")
    if dest.resolve() == run.resolve() or dest.resolve().is_relative_to(run.resolve() / "work"):
        raise InputError(f"{dest} is the run itself; choose another folder, such as {run / 'sorted'}")


def _originals(kind: str, root: Path, paths: Sequence[str]) -> list[Original]:
    """The source's pictures behind `paths`, in that order. InputError when the source or one of them is gone."""
    if kind == "folder":
        return _files(root, paths, [root])
    if kind == "list":
        return _files(root, paths, [Path(), root.parent])
    if kind in ("zip", "parquet"):
        return _members(root, paths)
    return _arrays(root, paths)


def _files(root: Path, paths: Sequence[str], places: Sequence[Path]) -> list[Original]:
    from coterie.images.names import real_path

    originals = []
    for path in paths:
        found = [file for place in places if (file := real_path(place, path).expanduser()).is_file()]
        if not found:
            raise InputError(f"{path} is no longer in {root}; bring it back, or say with --source where the pictures lie now")
        file = found[0].absolute()
        parts = file.parts if Path(path).is_absolute() else real_path("", path).parts
        originals.append(Original(parts, file, file.read_bytes))
    return originals


def _members(root: Path, paths: Sequence[str]) -> list[Original]:
    from coterie.images.decode import Unreadable
    from coterie.images.sources import open_source

    source = open_source(root, root.name)
    position = {item.path: i for i, item in enumerate(source.items)}

    def read(path: str) -> bytes:
        try:
            return source.read(position[path], 1 << 40)
        except Unreadable as error:
            raise InputError(f"{path} of {root.name} can no longer be read: {error}") from error

    originals = []
    for path in paths:
        if path not in position:
            raise InputError(f"{path} is no longer in {root}; bring it back, or say with --source where the pictures lie now")
        name = _row_name(path) + _suffix(read(path)) if source.kind == "parquet" else path
        originals.append(Original(tuple(name.split("/")), None, lambda path=path: read(path)))  # type: ignore[misc]
    return originals


def _arrays(root: Path, paths: Sequence[str]) -> list[Original]:
    from coterie.images import open_images
    from coterie.images.named import is_named

    if not is_named(str(root)) and not root.is_file():
        raise InputError(
            f"the pictures of this run were given as {root.name or 'an array in memory'}, which is not there; use --to csv or parquet"
        )
    images: Any = open_images(str(root))
    position = {path: i for i, path in enumerate(images.paths)}
    if not set(paths) <= set(position):
        raise InputError(f"{root.name} holds other pictures now than at the fit; bring the old ones back, or use --to csv or parquet")

    def png(path: str) -> bytes:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(images.thumbnails([position[path]], WHOLE)[0]).save(file, "PNG")
        return file.getvalue()

    return [Original((_row_name(path) + ".png",), None, lambda path=path: png(path)) for path in paths]  # type: ignore[misc]


def _row_name(path: str) -> str:
    row = re.fullmatch(r"#(\d+)", path)
    return f"row_{int(row[1]):06d}" if row else re.sub(r"[^\w.-]", "_", path)


def _suffix(data: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = str(image.format).lower()
    except UnidentifiedImageError:  # it was read at the fit, so by the one reader that Pillow has not built in
        return ".heic"
    return {"jpeg": ".jpg", "mpo": ".jpg"}.get(kind, f".{kind}")


def _targets(originals: Sequence[Original], folders: Sequence[Path]) -> list[tuple[Original, Path]]:
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


def _is_there(original: Original, target: Path) -> bool:
    """Whether the target holds this picture already. InputError when it holds something else."""
    if not os.path.lexists(target):
        return False
    if target.is_file():
        same = _same_file(original.file, target) if original.file else target.read_bytes() == original.read()
        if same:
            return True
    raise InputError(f"{target} is there already and differs; delete it or choose another folder")


def _same_file(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _place(original: Original, target: Path, link: str) -> None:
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
