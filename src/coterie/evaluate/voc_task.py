"""What the three protocols on Pascal VOC's layout share: which set, what its numbers follow from, and where a killed one goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from coterie.errors import InputError
from coterie.evaluate.scores import fingerprint
from coterie.evaluate.task import Task
from coterie.evaluate.voc import VocSet, read
from coterie.run import Run

Learn = Literal["fc6-8", "all"]
Fit = Callable[[Run, Any, VocSet, VocSet, str, int, int], dict[str, float]]  # run, encoder, train, test, learn, size, epochs


def on_voc(task: Task, protocol: str, settings: Any, fit: Fit, masks: bool = False) -> None:
    """Learns and scores on the set that the task names, unless the run has these numbers already. What was learned is kept in the run's
    folder work/ after an epoch, until the numbers are there. InputError: no set is named, and what `read` and `fit` refuse."""
    if task.on is None:
        raise InputError(
            f"{protocol} needs a set in Pascal VOC's layout: --on FOLDER, or a .zip, and perhaps another to learn from: --train"
        )
    if settings.epochs < 1 or settings.size < 32:
        raise InputError(f"--set: {protocol} wants epochs of at least 1 and a size of at least 32")
    train = read(task.train or task.on, settings.train_part, masks=masks)
    test = read(task.on, settings.test_part, train.classes, masks)
    for part in (train, test):
        for told in part.notes:
            task.note(f"{part.part}: {told}")
    follows = {
        "weights": task.weights,
        "train": train.fingerprint,
        "test": test.fingerprint,
        "seed": task.run.seed,
        "settings": [settings.learn, settings.size, settings.epochs],
    }
    on = f"{Path(task.on).name}, {test.part}" + (f", trained on {Path(task.train).name}" if task.train else "")
    folder = task.scores.path.parent / "work" / f"{protocol}-{fingerprint(follows)}"

    def compute() -> dict[str, float]:
        run = Run(folder, seed=task.run.seed, devices=task.run.devices, progress=task.run.progress)
        found = fit(run, task.encoder, train, test, settings.learn, settings.size, settings.epochs)
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.parent.iterdir()):  # another protocol may have stopped halfway
            folder.parent.rmdir()
        return found

    task.scores.once(protocol, on, settings.learn, follows, compute)
