"""What costs time and follows from its inputs alone, kept in the cache folder for other runs: features, small pictures.

A file `<kind>/<key>.safetensors` there holds a state and `about`: the name of the source, its encoder, how many pictures. The key is made
of all that the state follows from, so that a file is never stale.
"""

from pathlib import Path
from typing import Any, NamedTuple

from coterie.errors import InputError
from coterie.run import checkpoint

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


def keep(cache: Path, kind: str, key: str, state: dict[str, Any], source: str, n: int, encoder: str = "") -> None:
    """Keeps `state`, any that checkpoint.py can save."""
    about = {"source": source, "encoder": encoder, "n": n}
    checkpoint.save(_file(cache, kind, key), state | {"about": about}, keep_previous=False)


def entries(cache: Path) -> list[Entry]:
    """The files kept in `cache`; a damaged one is listed too, as "?"."""
    found = []
    for kind in (FEATURES, THUMBNAILS):
        for path in sorted((cache / kind).glob("*.safetensors")):
            about = (read(cache, kind, path.stem) or {}).get("about", {})
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
