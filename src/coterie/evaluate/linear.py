"""linear: a classifier on the frozen features of each block of the encoder (DeepCluster, 2018, table 1; PCP, tables VI and VII).

Shapes: N training images, M test images, D numbers of a block, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from coterie.errors import InputError
from coterie.evaluate import classifier, metrics
from coterie.evaluate.task import Labelled, Task
from coterie.networks.blocks import block_features, blocks
from coterie.networks.encoder import PRECOMPUTED

LARGER = 8 / 7  # pictures that crops are cut from: 256 px for crops of 224 (DeepCluster, 2018, sec. 4)
TOP = 5
CENTRE = 4  # of the crops: 0 to 3 are the corners, and five more mirror images
ONE, TEN = (CENTRE,), tuple(range(10))


@dataclass(frozen=True)
class Settings:
    solver: Literal["lbfgs", "sgd"] = "lbfgs"
    blocks: str = ""  # some of them, with commas between; "": all
    epochs: int = 90  # of sgd, and the next two
    lr: float = 0.01
    weight_decay: float = 1e-4


def judge(task: Task, settings: Settings) -> None:
    """Scores each block: accuracy, balanced accuracy, and with more than 5 classes top-5, of the test images; beside them how many images
    trained and tested, and the l2 that was chosen. With 10 crops the classifier learns from the central crop, and the probabilities of a
    test image are the mean over the four corners, the centre and their mirror images."""
    if task.encoder.spec.name == PRECOMPUTED:
        raise InputError("this run was fitted on features, not on pictures; linear needs an encoder")
    if settings.epochs < 1 or settings.lr <= 0 or settings.weight_decay < 0:
        raise InputError("--set: linear wants epochs of at least 1, a positive lr and no negative weight_decay")
    names = _chosen(list(blocks(task.encoder)), settings.blocks)
    train, test = task.train_and_test(None if task.crops == 1 else round(LARGER * task.image_size))
    follows = {
        "weights": task.weights,
        "train": train.fingerprint,
        "test": test.fingerprint,
        "seed": task.run.seed,
        "size": task.image_size,
        "crops": task.crops,
        "settings": [settings.solver, *([settings.epochs, settings.lr, settings.weight_decay] if settings.solver == "sgd" else [])],
    }
    on = test.told if task.train is None else f"{test.told}, trained on {train.told}"
    on += (", 10 crops" if task.crops > 1 else "") + (", sgd" if settings.solver == "sgd" else "")
    for name in names:
        task.scores.once("linear", on, name, follows, lambda name=name: _block(task, settings, name, train, test))  # type: ignore[misc]


def _block(task: Task, settings: Settings, name: str, train: Labelled, test: Labelled) -> dict[str, float]:
    run, crop = task.run, task.image_size
    rows_ND = block_features(task.encoder, name, train.images, run, _view(crop, CENTRE), f"linear {name}: training images")
    n_classes = int(train.values.max()) + 1
    told = lambda done, total: run.progress.advance(f"linear {name}: classifier", done, total)  # noqa: E731
    rows_ND, rng = rows_ND.to(run.devices.device), run.rng("linear", name)
    if settings.solver == "sgd":
        more: dict[str, Any] = {"epochs": settings.epochs, "lr": settings.lr, "weight_decay": settings.weight_decay}
        fitted = classifier.sgd(rows_ND, train.values, n_classes, rng, told, **more)
    else:
        fitted = classifier.lbfgs(rows_ND, train.values, n_classes, rng, told)
    del rows_ND
    p_MC, stage = torch.zeros(len(test.images), n_classes), f"linear {name}: test images"
    for i, number in enumerate(TEN if task.crops == 10 else ONE):
        rows_MD = block_features(task.encoder, name, test.images, run, _view(crop, number), stage if task.crops == 1 else "")
        p_MC += fitted.probabilities(rows_MD)
        if task.crops > 1:
            run.progress.advance(f"{stage}, crops", i + 1, task.crops)
    return scored(test.values, (p_MC / task.crops).numpy()) | {"l2": fitted.l2, "n_train": len(train.images), "n_test": len(test.images)}


def scored(values_M: np.ndarray, p_MC: np.ndarray) -> dict[str, float]:
    """The numbers of a classifier: what it says against the classes."""
    told_M = p_MC.argmax(1)
    top = {"top_5": metrics.top_k_accuracy(values_M, p_MC, TOP, matched=True)} if p_MC.shape[1] > TOP else {}
    return {
        "accuracy": float((told_M == values_M).mean()),
        "balanced_accuracy": metrics.balanced_accuracy(values_M, told_M, matched=True),
        **top,
    }


def _view(crop: int, number: int) -> Callable[[Tensor], Tensor]:
    """Crop `number` of ten: four corners, the centre, and from 5 on the mirror images of these. Pictures of that size: themselves."""

    def seen(pixels_B3HW: Tensor) -> Tensor:
        height, width = pixels_B3HW.shape[2] - crop, pixels_B3HW.shape[3] - crop
        corner = number % 5
        top, left = (height // 2, width // 2) if corner == CENTRE else (height * (corner // 2), width * (corner % 2))
        part = pixels_B3HW[:, :, top : top + crop, left : left + crop]
        return part.flip(3) if number >= 5 else part

    return seen


def _chosen(names: list[str], asked: str) -> list[str]:
    wanted = [word.strip() for word in asked.split(",") if word.strip()]
    if strange := [word for word in wanted if word not in names]:
        raise InputError(f"--set blocks={asked}: no block of this encoder is called {strange[0]!r}; there are {', '.join(names)}")
    return [name for name in names if name in wanted] if wanted else names
