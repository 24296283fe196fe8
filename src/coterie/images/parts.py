"""A run of pictures of several sources (`coterie update`): which of them came from where, and under which name.

config.json then has `parts` in its `source`: each source as it was described, with `n_images`, how many of the run's images are its, in the
order of their ids, and `prefix`, what stands before the names of its pictures, so that no two are called the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def parts(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The sources that one is made of: itself, or its parts."""
    return source.get("parts") or [{**source, "prefix": ""}]


def split(source: dict[str, Any], paths: Sequence[str]) -> list[tuple[dict[str, Any], list[str]]]:
    """Each part, and the paths of its pictures as they are called there. paths: of all images, by id."""
    found, start = [], 0
    for part in parts(source):
        mine = paths[start : start + part.get("n_images", len(paths))]
        found.append((part, [_within(part["prefix"], path) for path in mine]))
        start += len(mine)
    return found


def prefix_of(source: dict[str, Any], new: dict[str, Any], taken: Sequence[str]) -> str:
    """What is put before the names of `new`: the name of that source, with a number where that is taken; that of a part which lies at the
    same place, where names cannot clash."""
    known = parts(source)
    for part in known:
        if new.get("path") and new["path"] == part.get("path"):
            return str(part["prefix"])
    path = new.get("path") if new["kind"] not in ("named", "dataset") else None
    name = Path(path).name if path else ""
    name = name or str(new["name"])
    used, number, found = {part["prefix"] for part in known}, 1, name
    while found in used or any(path.startswith(f"{found}/") for path in taken):
        number += 1
        found = f"{name}-{number}"
    return found


def named(prefix: str, path: str) -> str:
    """The name of a picture in the run. One with an absolute path, as lists may hold, has its own already."""
    return f"{prefix}/{path}" if prefix and not path.startswith("/") else path


def _within(prefix: str, path: str) -> str:
    return path[len(prefix) + 1 :] if prefix and path.startswith(f"{prefix}/") else path
