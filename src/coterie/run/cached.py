"""What costs time and follows from its inputs alone, kept in the cache folder for other runs: features, small pictures.

A file `<kind>/<key>.safetensors` there holds a state and `about`: the name of the source, its encoder, how many pictures. The key is made
of all that the state follows from, so that a file is never stale.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coterie.errors import InputError
from coterie.run import checkpoint, disk

FEATURES, THUMBNAILS = "features", "thumbnails"


class Entry(NamedTuple):
    """One file: what kind it is, what it holds, how many rows, how many bytes."""

    path: Path
    kind: str
    source: str
    encoder: str
    n: int
    bytes: int


def read(cache: Path, kind: str, key: str) -> dict[str, Any] | None:
    """What `keep` kept; None where there is nothing, or a damaged file: it is made again then, and the file is replaced."""
    try:
        return checkpoint.load(_file(cache, kind, key))
    except (FileNotFoundError, InputError):
        return None


def keep(cache: Path, kind: str, key: str, state: dict[str, Any], source: str, n: int, encoder: str = "") -> str:
    """Keeps `state`, any that checkpoint.py can save. "", or why it could not be kept: a fit needs no cache, and goes on."""
    whole = state | {"about": {"source": source, "encoder": encoder, "n": n}}
    try:
        disk.write_atomically(_file(cache, kind, key), lambda new: checkpoint.save(new, whole, keep_previous=False))
    except OSError as error:
        return f"{kind} could not be kept in the cache {cache}: {error.strerror}"
    return ""


def entries(cache: Path, kinds: Sequence[str] = (FEATURES, THUMBNAILS)) -> list[Entry]:
    """The files of these kinds kept in `cache`, by what their headers say; one whose header is damaged is listed too, as "?"."""
    found = []
    for kind in kinds:
        for path in sorted((cache / kind).glob("*.safetensors")):
            about = checkpoint.glance(path, "about") or {}
            found.append(Entry(path, kind, about.get("source", "?"), about.get("encoder", "?"), about.get("n", 0), path.stat().st_size))
    return found


def clear(cache: Path) -> int:
    """Removes all of them; returns the bytes freed."""
    freed = 0
    for entry in entries(cache):
        entry.path.unlink(missing_ok=True)
        freed += entry.bytes
    return freed


def _file(cache: Path, kind: str, key: str) -> Path:
    return cache / kind / f"{key}.safetensors"
