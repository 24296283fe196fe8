"""True labels, in an object of their own: read here and by metrics, never near a method."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from coterie.errors import InputError
from coterie.evaluate.superclasses import CLASSES, published
from coterie.images.parts import split


@dataclass(frozen=True)
class Labels:
    """`values` (N,) int64 in 0 .. C-1, -1 where unknown; `names` the C class names; row i is image i.
    `superclasses`: of the C classes, where a hierarchy is known. `notes`: what of a file did not serve as a label, each with its count."""

    values: np.ndarray
    names: list[str]
    superclasses: list[str] | None = None
    notes: tuple[str, ...] = ()


def labels_of(source: dict[str, Any], paths: list[str], how: str | None) -> Labels:
    """The labels of the images at `paths` of a source (as config.json describes it).

    how: "builtin" (named sets), "superclasses" (of the builtin ones: CIFAR-100's 20), "folders" (the folder an image lies in), a csv file
    with columns path,label (or cluster, as `export` writes it) and perhaps superclass, or None: builtin for a named set, folders where
    there are several. Superclasses come from the csv file, or from CIFAR-100's class names.
    Raises InputError when there are no labels to be had that way.
    """
    if how is None:
        how = "builtin" if source["kind"] == "named" else "folders"
    if how == "superclasses":
        return _merged(_builtin(source, paths))
    if how == "builtin":
        found = _builtin(source, paths)
    elif how == "folders":
        found = _folders(source, paths)
    else:
        found = _table(Path(how), paths)
    return found if found.superclasses else replace(found, superclasses=published(found.names))


def _builtin(source: dict[str, Any], paths: list[str]) -> Labels:
    if source["kind"] != "named":
        raise InputError(
            f"--labels builtin: {source['name']} is no named set; give --labels folders, or a csv file with columns path,label"
        )
    found = [(part["path"], _of_named(part["path"], mine, "parts" not in source)) for part, mine in split(source, paths)]
    values = np.concatenate([labels for _, labels in found])
    n_classes = int(values.max()) + 1
    cifar100 = n_classes == len(CLASSES) and all("cifar100" in path.lower() for path, _ in found)
    return Labels(values, CLASSES if cifar100 else [str(c) for c in range(n_classes)])


def _of_named(name: str, paths: list[str], whole: bool) -> np.ndarray:
    """The labels of a named set, all of them or those of the rows that `paths` are."""
    from coterie.images.named import load_named

    values = load_named(name).labels
    if values is None or (len(values) != len(paths) if whole else len(values) < len(paths)):
        raise InputError(f"--labels builtin: {name} has no labels for its {len(paths)} images; give a csv file with columns path,label")
    if (values < 0).all():
        raise InputError(f"--labels builtin: no image of {name} has a label; name another part of it")
    return values if whole else values[[int(path.removeprefix("#")) for path in paths]]


def _merged(fine: Labels) -> Labels:
    """The superclasses in the place of their classes."""
    coarse = published(fine.names)
    if coarse is None:
        raise InputError("--labels superclasses: only CIFAR-100 has published ones; give a csv file with columns path,label")
    names = sorted(set(coarse))
    number = np.array([names.index(name) for name in coarse])
    return Labels(np.where(fine.values >= 0, number[fine.values], -1), names)


def _folders(source: dict[str, Any], paths: list[str]) -> Labels:
    folders = [str(PurePosixPath(path).parent) for _, mine in split(source, paths) for path in mine]
    names = sorted(set(folders) - ({"."} if "parts" in source else set()))  # new pictures may lie in no folder, whatever the first did
    if source["kind"] not in ("folder", "zip", "list", "url") or len(names) < 2:
        raise InputError(
            f"--labels folders: the images of {source['name']} do not lie in sub-folders; give --labels FILE.csv with columns path,label"
        )
    number = {name: i for i, name in enumerate(names)}
    short = [PurePosixPath(name).name for name in names]
    values = np.array([number.get(folder, -1) for folder in folders])
    notes = (f"{(values < 0).sum():,} images lie in no sub-folder and were not scored",) if (values < 0).any() else ()
    return Labels(values, short if len(set(short)) == len(short) else names, notes=notes)


def _table(file: Path, paths: list[str]) -> Labels:
    rows = _rows(file)
    column = "label" if rows and "label" in rows[0] else "cluster"  # of an export, the clusters are the labels
    if not rows or not {"path", column} <= set(rows[0]):
        raise InputError(f"--labels {file}: wanted the columns path,label")
    known, label_of, torn = set(paths), dict[str, str](), set[str]()
    unlabelled = strangers = 0
    for row in rows:
        path, label = _as_it_was(row["path"] or "", known), (row[column] or "").strip()
        if path not in known:
            strangers += 1
        elif not label:
            unlabelled += 1
        elif label_of.setdefault(path, label) != label:
            torn.add(path)
    label_of = {path: label for path, label in label_of.items() if path not in torn}
    names = sorted(set(label_of.values()))
    number = {name: i for i, name in enumerate(names)}
    values = np.array([number[label_of[path]] if path in label_of else -1 for path in paths])
    if (values < 0).all():
        raise InputError(f"--labels {file}: none of its paths is among the images (the first image is {paths[0]})")
    counts = {
        "rows name no image of this run and were passed over": strangers,
        "rows have no label; their images count as unlabelled": unlabelled,
        "images have contradicting labels and count as unlabelled": len(torn),
        "images have no label and were not scored": int((values < 0).sum()),
    }
    notes = tuple(f"{count:,} {what}" for what, count in counts.items() if count)
    return Labels(values, names, _superclasses(file, [{**row, "label": (row[column] or "").strip()} for row in rows], names), notes)


def _rows(file: Path) -> list[dict[str, str | None]]:
    """The rows of a csv file in UTF-8 or UTF-16, with a byte order mark or without."""
    try:
        content = file.read_bytes()
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--labels {file}: wanted builtin, folders, or a csv file with columns path,label ({error})") from error


def _as_it_was(path: str, known: set[str]) -> str:
    """A path before `export` put a ' in front, so that no spreadsheet runs it as a formula."""
    return path[1:] if path not in known and path.startswith("'") and path[1:] in known else path


def _superclasses(file: Path, rows: list[dict[str, str | None]], names: list[str]) -> list[str] | None:
    """Of each class the one superclass that its rows name, "" where none does; None when no row of the file does."""
    found: dict[str, str] = {}
    for row in rows:
        label = row["label"] or ""
        if (name := row.get("superclass")) and label in names and found.setdefault(label, name) != name:
            raise InputError(f"--labels {file}: {label} is of superclass {found[label]} and of {name}; give each class one")
    return [found.get(name, "") for name in names] if found else None
