"""manifest.json: size and checksum of every file of a finished run, so that a run knows when it is damaged.

It is written last: a folder that has one is finished. `sha256sum` gives the same checksums. Runs of older versions have none; their files
are read as they are, only checked for types and ranges. edits.jsonl grows after the fit and has checksums of its own (run/edits.py).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.run import disk

NAME = "manifest.json"
TABLE = "assignments.parquet"
FITTED = (  # what a fit writes; it cannot be made again but by a fit
    "config.json", TABLE, "features.safetensors", "model.safetensors", "history.jsonl", "trace.safetensors",
    "pictures.safetensors", "problems.csv", "environment.json", "items.parquet",
)  # fmt: skip
MADE_AGAIN = {  # what verbs add, and how it is made again
    "metrics.json": "run `coterie evaluate` again",
    "metrics-on.json": "run `coterie evaluate --on` again",
    "evaluation.csv": "delete it, and run `coterie evaluate --protocol` again",
    "map.parquet": "delete it, and `coterie report` makes it again",
    "hierarchy.json": "any `coterie recut` of the run makes it again",
}
_RESTORE = "restore it from a copy, or fit again into a new folder"
_UNCHECKED = f"restore it from a copy, or delete it, and the run is read without checksums, as runs without {NAME} are"


def is_finished(folder: Path) -> bool:
    """Whether the fit in `folder` came to its end."""
    return (folder / NAME).exists() or ((folder / TABLE).exists() and not (folder / "work").exists())


def damaged(path: Path, what: str) -> InputError:
    """The one line about a file that cannot be used: what is wrong with it, and what to do."""
    way = _UNCHECKED if path.name == NAME else MADE_AGAIN.get(path.name, _RESTORE if path.name in FITTED else "")
    return InputError(f"{path} {what}{'; ' * bool(way)}{way}")


def expected(path: Path) -> bool:
    """Whether `path` is there, or should be."""
    return path.exists() or _listed(path.parent, path.name) is not None


def check(path: Path) -> None:
    """Raises InputError unless `path` is there and, where it belongs to a run with a manifest, has the bytes that were written."""
    if not path.exists():
        raise _absent(path)
    if not path.is_file():  # a pipe would be waited for without end
        raise damaged(path, "is not a regular file")
    if path.name not in FITTED and path.name not in MADE_AGAIN:
        return
    known = _listed(path.parent, path.name)
    while known is not None and known != (found := _entry(path)):
        if known == (newer := _listed(path.parent, path.name)):
            raise damaged(path, f"is damaged: {_difference(known, found)}")
        known = newer  # it was written anew while it was read


def check_run(folder: Path) -> None:
    """Raises InputError, naming them, when files that the fit wrote are missing or damaged. Reads all of them."""
    _files(folder)  # a damaged manifest is said once
    wrong: dict[str, InputError] = {}
    for name in FITTED:
        try:
            check(folder / name)
        except InputError as error:
            wrong[name] = error
    if len(wrong) > 1:
        raise InputError(f"{folder} is damaged: {', '.join(wrong)} are missing or not as they were written; {_RESTORE}")
    if wrong:
        raise wrong.popitem()[1]


def seal(folder: Path) -> None:
    """Writes the manifest of a fit that is done. What verbs added to another fit that stood in this folder goes."""
    for name in MADE_AGAIN:
        (folder / name).unlink(missing_ok=True)
    for name in FITTED:
        disk.sync(folder / name)
    _write(folder, {name: _entry(folder / name) for name in FITTED})


def record(path: Path) -> None:
    """Enters a file that was written after the fit; nothing in a run without a manifest."""
    if (path.parent / NAME).exists():
        with _alone(path.parent / NAME):
            _write(path.parent, (_files(path.parent) or {}) | {path.name: _entry(path)})


def digest(path: Path) -> str:
    """The sha256 of a file, 64 hex digits. InputError when it cannot be read."""
    return str(_entry(path)["sha256"])


def _absent(path: Path) -> InputError:
    if path.name in FITTED and not path.parent.is_dir():
        return InputError(f"there is no run folder {path.parent}")
    if path.name in FITTED and not is_finished(path.parent):
        return InputError(f"{path.parent} is not a finished run: it lacks {path.name}; continue its fit first")
    return damaged(path, "is missing")


def _listed(folder: Path, name: str) -> dict[str, Any] | None:
    files = _files(folder)
    return None if files is None else files.get(name)


def _files(folder: Path) -> dict[str, Any] | None:
    """The entries of the manifest, None where there is none. Raises InputError when it is damaged itself."""
    path = folder / NAME
    if path.exists() and not path.is_file():
        raise damaged(path, "is not a regular file")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, f"is damaged or cannot be read: {' '.join(str(error).split())}") from None
    files = told.get("files") if isinstance(told, dict) else None
    if not isinstance(files, dict) or told.get("sha256") != _own(files):
        raise damaged(path, "is damaged: it does not have its own checksum")
    return files


def _write(folder: Path, files: dict[str, Any]) -> None:
    disk.write(folder / NAME, (json.dumps({"files": files, "sha256": _own(files)}, indent=1) + "\n").encode())


def _own(files: dict[str, Any]) -> str:
    """The checksum of the manifest itself, whatever its line breaks."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = 0
            while part := file.read(1 << 20):
                digest.update(part)
                size += len(part)
    except OSError as error:
        raise damaged(path, f"cannot be read ({error.strerror})") from None
    return {"size": size, "sha256": digest.hexdigest()}


def _difference(known: dict[str, Any], found: dict[str, Any]) -> str:
    if known.get("size") != found["size"]:
        return f"it has {found['size']:,} bytes, {known.get('size', 0):,} were written"
    return "its checksum is not that of what was written"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock is on the file, which is another one after each write."""
    while True:
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                yield
                return
        finally:
            os.close(handle)
