"""Whole fits on tiny pictures, as short as they can be and still find the kinds."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from coterie import fitting
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_json_lines, read_table

TINY = {
    "scan": {"image_size": 16, "pretext_epochs": 4, "cluster_epochs": 3, "cluster_steps": 10, "selflabel_epochs": 1, "n_heads": 3},
    "spice": {"image_size": 16, "pretext_epochs": 4, "head_epochs": 3, "head_steps": 4, "joint_epochs": 2, "n_heads": 10},
    "temi": {"image_size": 16, "pretext_epochs": 4, "n_heads": 2},
    "turtle": {"image_size": 16, "pretext_epochs": 4, "n_heads": 2},
    "deepcluster": {"image_size": 16, "epochs": 4, "batch": 16, "draws": 4.0, "schedule": "cosine", "pseudo_clusters": 12, "restarts": 4},
    "pcp": {"image_size": 16, "epochs": 8, "batch": 16},
    "ir": {"image_size": 16, "pretext_epochs": 6, "pretext_batch": 16},
    "is": {"image_size": 16, "pretext_epochs": 6, "pretext_batch": 16},
    "and": {"image_size": 16, "pretext_epochs": 6, "pretext_batch": 16},
    "idfd": {"image_size": 16, "pretext_epochs": 6, "pretext_batch": 16},
    "iic": {"image_size": 16, "epochs": 30, "pretext_batch": 60},
    "cc": {"image_size": 16, "epochs": 20, "pretext_batch": 60},
    "pica": {"image_size": 16, "epochs": 30, "pretext_batch": 60},
    "sela": {"image_size": 16, "epochs": 12, "pretext_batch": 30, "n_heads": 2},
    "dec": {"image_size": 16, "epochs": 20, "sharpen_epochs": 4, "pretext_batch": 30},
    "idec": {"image_size": 16, "epochs": 20, "sharpen_epochs": 4, "pretext_batch": 30},
    "spectral": {"image_size": 16},
    "agglomerative": {"image_size": 16},
    "gmm": {"image_size": 16, "restarts": 2},
    "kmeans": {"image_size": 16, "restarts": 3},
}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may run after it."""


def fit(
    source: Any, folder: Path, method: str = "scan", clusters: int | None = 4, seed: int = 0, budget: float | None = None,
    precision: str = "fp32", **settings,
):  # fmt: skip
    """The summary of a tiny fit in `folder`."""
    images, plan = fitting.plan(source, method, clusters=clusters, preset="quick", settings=TINY[method] | settings, seed=seed)
    return fitting.fit(images, plan, folder, devices=Devices("cpu", precision, 1), time_budget=budget)


def made_once(folders: pytest.TempPathFactory, source: Any, method: str, **settings) -> Callable[[int], Path]:
    """seed -> the folder of an uninterrupted fit, made when somebody first asks for it."""

    @cache
    def folder(seed: int) -> Path:
        run = folders.mktemp("whole") / "run"
        fit(source, run, method, seed=seed, **settings)
        return run

    return folder


def outcome(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and probabilities (N, K) of a finished run."""
    table = read_table(folder / "assignments.parquet")
    return table["cluster"].to_numpy(), probabilities(table)


def bits(folder: Path) -> str:
    """A hash of everything a run found out: assignments, features, weights, curves, and the history but for its times."""
    digest = hashlib.sha256()
    for part in outcome(folder):
        digest.update(np.ascontiguousarray(part).tobytes())
    for name in ("features.safetensors", "model.safetensors", "trace.safetensors"):
        for key, value in sorted(load_file(folder / name).items()):  # not the file: safetensors writes its header in any order
            digest.update(key.encode() + value.tobytes())
    for row in read_json_lines(folder / "history.jsonl"):
        digest.update(repr({key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}).encode())
    return digest.hexdigest()


def rows(folder: Path) -> list[tuple[str, int]]:
    """(stage, epoch) of each line of history but notes."""
    return [(row["stage"], row["epoch"]) for row in read_json_lines(folder / "history.jsonl") if row["stage"] != "note"]


def die_after(monkeypatch, n: int) -> None:
    """The process dies right after the n-th line of history, before that epoch's state is saved."""
    log, count = Run.log, [0]

    def dying(self, **scalars):
        log(self, **scalars)
        count[0] += 1
        if count[0] == n:
            raise Killed

    monkeypatch.setattr(Run, "log", dying)
