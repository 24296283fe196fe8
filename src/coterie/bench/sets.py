"""The sets that tables are made on, by name: `digits`, `mnist`, `cifar10:10000` (the first 10,000 pictures of its train part, a random
sample in our files), with their true labels in a file of their own, which `evaluate` reads after a fit.

A set is looked for as NAME.npz in --data or $COTERIE_BENCH_DATA (coterie.images.sheets), then among torchvision's files in $COTERIE_DATA;
nothing is downloaded.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError
from coterie.images.named import load_named
from coterie.images.sheets import load_sheets
from coterie.run import disk


@dataclass(frozen=True)
class Known:
    """`file`: NAME.npz, and `labels` in it; `torchvision`: its name there; `preset` of the methods; `title` on a page."""

    title: str
    preset: str
    file: str = ""
    labels: str = "labels"
    torchvision: str = ""
    n_classes: int = 10


KNOWN = {
    "digits": Known("digits", "digits"),
    "mnist": Known("MNIST", "glyphs", "mnist", torchvision="MNIST"),
    "fashion_mnist": Known("Fashion-MNIST", "garments", "fashion_mnist", torchvision="FashionMNIST"),
    "cifar10": Known("CIFAR-10", "cifar10", "cifar10", torchvision="CIFAR10"),
    "cifar20": Known("CIFAR-100, its 20 superclasses", "cifar20", "cifar100", "coarse_labels", n_classes=20),
    "imagenette96": Known("Imagenette at 96 px", "stl10", "imagenette96"),
}


@dataclass(frozen=True)
class PictureSet:
    """A set on the disk: `pictures` an .npy file, `labels` a csv file with columns path,label."""

    name: str
    pictures: Path
    labels: Path
    preset: str
    n_classes: int


class Missing(InputError):
    """A set that is not on this machine."""


def known(name: str) -> tuple[Known, int]:
    """What a set is, and how many of its pictures are meant; 0: all. Raises InputError for a name that is none."""
    plain, _, count = name.partition(":")
    if plain not in KNOWN or (count and not (count.isascii() and count.isdigit() and int(count))):
        raise InputError(f"no set is called {name!r}; there are {', '.join(KNOWN)}, each also with :N behind it for its first N pictures")
    return KNOWN[plain], int(count or 0)


def title(name: str) -> str:
    """`10,000 of Fashion-MNIST`."""
    one, count = known(name)
    return f"{count:,} of {one.title}" if count else one.title


def prepared(name: str, data: Path | None, folder: Path) -> PictureSet:
    """The set as files in `folder`, written there once. Raises Missing, saying what to do, where its pictures are not to be had."""
    one, count = known(name)
    stem = folder / name.replace(":", "-")
    made = PictureSet(name, stem.with_suffix(".npy"), stem.with_suffix(".csv"), one.preset, one.n_classes)
    if not made.labels.exists():
        pictures, labels, names = _loaded(name, one, data)
        n = count or len(pictures)
        disk.write_atomically(made.pictures, lambda new: _save(new, pictures[:n]))
        disk.write_atomically(made.labels, lambda new: _write(new, [names[label] for label in labels[:n]]))
    return made


def _loaded(name: str, one: Known, data: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Pictures, labels, class names."""
    if not one.file:
        digits = load_named("digits")
        assert digits.labels is not None
        return digits.pictures, digits.labels, [str(digit) for digit in range(10)]
    place = data or (Path(os.environ["COTERIE_BENCH_DATA"]) if os.environ.get("COTERIE_BENCH_DATA") else None)
    if place is not None and (place / f"{one.file}.npz").exists():
        return load_sheets(place / f"{one.file}.npz", "train", one.labels)
    if one.torchvision and os.environ.get("COTERIE_DATA"):
        try:
            found = load_named(f"torchvision:{one.torchvision}/train")
        except InputError:
            found = None  # it is not there either: what to do is said below
        if found is not None and found.labels is not None:
            return np.asarray(found.pictures), found.labels, [str(label) for label in range(one.n_classes)]
    there = f" or COTERIE_DATA a folder with torchvision's {one.torchvision}" if one.torchvision else ""
    raise Missing(
        f"no {one.file}.npz in {place or '--data'}: --data or COTERIE_BENCH_DATA is to name the folder that holds it{there}; "
        f"--sets digits does without {name}"
    )


def _save(new: Path, pictures: NDArray[np.uint8]) -> None:
    with new.open("wb") as file:
        np.save(file, pictures, allow_pickle=False)


def _write(new: Path, labels: list[str]) -> None:
    with new.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((f"#{i}", label) for i, label in enumerate(labels))])
