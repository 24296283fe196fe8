"""True labels, in an object of their own: read here and by metrics, never near a method."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from coterie.errors import InputError
from coterie.evaluate.superclasses import CLASSES, published


@dataclass(frozen=True)
class Labels:
    """`values` (N,) int64 in 0 .. C-1, -1 where unknown; `names` the C class names; row i is image i.
    `superclasses`: of the C classes, where a hierarchy is known."""

    values: np.ndarray
    names: list[str]
    superclasses: list[str] | None = None


def labels_of(source: dict[str, Any], paths: list[str], how: str | None) -> Labels:
    """The labels of the images at `paths` of a source (as config.json describes it).

    how: "builtin" (named sets), "superclasses" (of the builtin ones: CIFAR-100's 20), "folders" (the folder an image lies in), a csv file
    with columns path,label and perhaps superclass, or
    None: builtin for a named set, folders where there are several. Superclasses come from the csv file, or from CIFAR-100's class names.
    Raises InputError when there are no labels to be had that way.
    """
    if how is None:
        how = "builtin" if source["kind"] == "named" else "folders"
    if how == "superclasses":
        return _merged(_builtin(source, len(paths)))
    if how == "builtin":
        found = _builtin(source, len(paths))
    elif how == "folders":
        found = _folders(source, paths)
    else:
        found = _table(Path(how), paths)
    return found if found.superclasses else replace(found, superclasses=published(found.names))


def _builtin(source: dict[str, Any], n: int) -> Labels:
    from coterie.images.named import load_named

    if source["kind"] != "named":
        raise InputError(
            f"--labels builtin: {source['name']} is no named set; give --labels folders, or a csv file with columns path,label"
        )
    values = load_named(source["path"]).labels
    if values is None or len(values) != n:
        raise InputError(f"--labels builtin: {source['path']} has no labels for its {n} images; give a csv file with columns path,label")
    n_classes = int(values.max()) + 1
    cifar100 = n_classes == len(CLASSES) and "cifar100" in source["path"].lower()
    return Labels(values, CLASSES if cifar100 else [str(c) for c in range(n_classes)])


def _merged(fine: Labels) -> Labels:
    """The superclasses in the place of their classes."""
    coarse = published(fine.names)
    if coarse is None:
        raise InputError("--labels superclasses: only CIFAR-100 has published ones; give a csv file with columns path,label")
    names = sorted(set(coarse))
    number = np.array([names.index(name) for name in coarse])
    return Labels(np.where(fine.values >= 0, number[fine.values], -1), names)


def _folders(source: dict[str, Any], paths: list[str]) -> Labels:
    folders = [str(PurePosixPath(path).parent) for path in paths]
    names = sorted(set(folders))
    if source["kind"] not in ("folder", "zip", "list") or len(names) < 2:
        raise InputError(
            f"--labels folders: the images of {source['name']} do not lie in sub-folders; give --labels FILE.csv with columns path,label"
        )
    number = {name: i for i, name in enumerate(names)}
    short = [PurePosixPath(name).name for name in names]
    return Labels(np.array([number[folder] for folder in folders]), short if len(set(short)) == len(short) else names)


def _table(file: Path, paths: list[str]) -> Labels:
    try:
        with open(file, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {file}: wanted builtin, folders, or a csv file with columns path,label ({error})") from error
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise InputError(f"--labels {file}: wanted the columns path,label")
    label_of = {row["path"]: row["label"] for row in rows}
    names = sorted(set(label_of.values()))
    number = {name: i for i, name in enumerate(names)}
    values = np.array([number[label_of[path]] if path in label_of else -1 for path in paths])
    if (values < 0).all():
        raise InputError(f"--labels {file}: none of its paths is among the images (the first image is {paths[0]})")
    return Labels(values, names, _superclasses(file, rows, names))


def _superclasses(file: Path, rows: list[dict[str, str]], names: list[str]) -> list[str] | None:
    """Of each class the one superclass that its rows name, "" where none does; None when no row of the file does."""
    found: dict[str, str] = {}
    for row in rows:
        if (name := row.get("superclass")) and found.setdefault(row["label"], name) != name:
            raise InputError(f"--labels {file}: {row['label']} is of superclass {found[row['label']]} and of {name}; give each class one")
    return [found.get(name, "") for name in names] if found else None
