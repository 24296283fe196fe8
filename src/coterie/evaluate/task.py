"""What a protocol gets that judges an encoder: the encoder, labelled pictures to learn from and to be scored on, a place to compute, and
the run's memory of what is scored already.

Shapes: N images.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from coterie.errors import InputError
from coterie.evaluate.labels import Labels, labels_of
from coterie.evaluate.scores import Scores
from coterie.images import Images
from coterie.networks.encoder import Encoder
from coterie.run import Run

HALF = "half of the labelled images of each class, drawn by the seed of the run, trains, and the other half tests"


class Labelled(NamedTuple):
    """Images whose class is known: `values` (N,) int64, the numbers of `names`; `told`: what they are, for a column `set`."""

    images: Images
    values: np.ndarray
    names: list[str]
    told: str

    @property
    def fingerprint(self) -> str:
        """Of the pictures, their order and their classes."""
        told = "\n".join([*self.images.digests, *self.names]).encode() + self.values.tobytes()
        return hashlib.blake2b(told, digest_size=8).hexdigest()


@dataclass(frozen=True)
class Task:
    """encoder         of the run, in eval mode and frozen, on the device; a protocol that trains it trains a copy
    image_size      px; how the run saw its pictures
    weights         a fingerprint of the encoder
    source          of the fitted images, as config.json describes it
    opened          (source, px, whether it may be downloaded) -> Images, opened as those of the run were
    run             where to compute: run.devices, run.rng("linear", ...), run.progress.advance(stage, done, total)
    scores          the memory: scores.once(protocol, set, block, follows, compute)
    on, labels      what to score on, and where its labels are; None: the fitted images
    train, train_labels   what to learn from; None: half of what `on` names
    crops           1, or 10: corners and centre, and their mirror images
    notes           what a person should know of these labels; protocols add to it
    """

    encoder: Encoder
    image_size: int
    weights: str
    source: dict[str, Any]
    opened: Callable[[str, int, bool], Images]
    run: Run
    scores: Scores
    on: str | None = None
    labels: str | None = None
    train: str | None = None
    train_labels: str | None = None
    crops: int = 1
    notes: list[str] = field(default_factory=list)

    def train_and_test(self, size: int | None = None) -> tuple[Labelled, Labelled]:
        """What to learn from and what to score on, at `size` px (None: as the run saw its pictures). Classes of the test images that
        training images lack have the numbers behind theirs: nobody can name them, and they count wrong.

        InputError: no pictures or labels to be had, or training images of one class.
        """
        test = self.labelled(self.on, self.labels, size)
        if self.train is None:
            self.note(f"no --train: {HALF}")
            train, test = halves(test, self.run.rng("half"))
        else:
            train = self.labelled(self.train, self.train_labels, size)
            test = renumbered(test, train.names)
            if strange := int((test.values >= len(train.names)).sum()):
                self.note(f"{strange:,} test images are of classes that no training image has; they count wrong")
        if len(kinds := np.unique(train.values)) < 2:
            raise InputError(f"{train.told}: all {len(train.values):,} labelled images are of one class, {train.names[kinds[0]]}; "
                             "a classifier needs two or more")  # fmt: skip
        return train, test

    def labelled(self, name: str | None, how: str | None, size: int | None = None) -> Labelled:
        """The pictures of a source, None for the fitted ones, whose labels are known."""
        images, source = self.pictures(name, size)
        labels = labels_of(source, images.paths, how)
        for told in labels.notes:
            self.note(told)
        return known(images, labels, Path(str(source["name"])).name or str(source["name"]))

    def pictures(self, name: str | None, size: int | None = None) -> tuple[Images, dict[str, Any]]:
        """The pictures of a source, None for the fitted ones, and its description. InputError when the fitted ones cannot be had again."""
        path = self.source.get("path") if name is None else name
        if "parts" in self.source and name is None:
            raise InputError("the pictures of this run come from several sources; name those to score on with --on, and their --labels")
        if not path:
            raise InputError("this run does not say where its pictures lie; name pictures to score on with --on, and their --labels")
        images = self.opened(str(path), size or self.image_size, name is not None)
        return images, {"kind": images.kind, "name": images.name, "path": str(path)}

    def note(self, text: str) -> None:
        """Something to tell, once."""
        if text not in self.notes:
            self.notes.append(text)


def known(images: Images, labels: Labels, told: str) -> Labelled:
    """Those whose label is known."""
    ids = np.flatnonzero(labels.values >= 0)
    if not len(ids):
        raise InputError(f"{told}: none of its {len(images):,} images has a label")
    return Labelled(images if len(ids) == len(images) else images[ids.tolist()], labels.values[ids], labels.names, told)


def halves(whole: Labelled, generator: torch.Generator) -> tuple[Labelled, Labelled]:
    """The two halves of each class, the first with the odd image more. InputError where no class has two images."""
    train_N = stratified(whole.values, 0.5, generator)
    if train_N.all():
        raise InputError(f"{whole.told}: no class has two labelled images, so none is left to score on; name others with --train")
    return _some(whole, train_N, "half to train"), _some(whole, ~train_N, "other half")


def stratified(labels_N: np.ndarray, share: float, generator: torch.Generator) -> np.ndarray:
    """bool (N,): of each class the `share` that is drawn, rounded up."""
    order_N = torch.randperm(len(labels_N), generator=generator).numpy()
    chosen_N = np.zeros(len(order_N), bool)
    for c in np.unique(labels_N):
        mine = order_N[labels_N[order_N] == c]
        chosen_N[mine[: math.ceil(share * len(mine) - 1e-9)]] = True
    return chosen_N


def _some(whole: Labelled, chosen_N: np.ndarray, which: str) -> Labelled:
    ids = np.flatnonzero(chosen_N)
    return Labelled(whole.images[ids.tolist()], whole.values[ids], whole.names, f"{whole.told}, {which}")


def renumbered(test: Labelled, names: list[str]) -> Labelled:
    """The same images, their classes numbered as in `names`, others behind them."""
    every = names + [name for name in test.names if name not in names]
    number = np.array([every.index(name) for name in test.names])
    return test._replace(values=number[test.values], names=every)
