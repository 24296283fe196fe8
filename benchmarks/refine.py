"""Runs that learn from corrections. `python -m benchmarks.refine [--features FILE.npz] [--among 50:100] [--classes 20] [--seeds 100 ...]`

refine: a run of k-means on drawn features (10,000 x 1,280, 20 kinds, clusters of 0.9 of them right) refined by 100 answers in this process:
seconds by the clock and of the processor, the load of the machine, ACC before and after, pairs kept. The target is less than 10 seconds.
refine_answers, with --features (x: features, y: classes): answers until ACC is 0.95. k-means with the true number of clusters on draws of
--classes classes, or on all; then --batch pictures are asked, the true labels answer, the heads learn; again, until 0.95 or --most answers.
Asked by us, and at random. A cluster is called after the class that most of it is, one to one (a person would look and say so). A row of
refine_curves for each round. The rule was chosen on Caltech-101's classes 0 to 49, seeds 0 to 9; seeds 100 to 107 are of an earlier one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.record import done, record
from benchmarks.recut import fit
from coterie.clustering.spaces import reduced
from coterie.evaluate import metrics
from coterie.fitting import asking, teaching
from coterie.fitting.hierarchy import Sorted, read_sorted
from coterie.fitting.refine import learned, refine
from coterie.learning import constraints
from coterie.run import edits
from coterie.run.acts import replay
from coterie.run.devices import Devices
from coterie.run.files import read_assignments

ENOUGH = 0.95
ASKED = ("by us", "at random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--among", default="", help="the classes to draw from, like 50:100; default: all are taken")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(100, 110)))
    parser.add_argument("--batch", type=int, default=5)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    devices = Devices("cpu", "fp32", 1)
    with tempfile.TemporaryDirectory() as folder:
        if not chosen.features:
            times(Path(folder), chosen.repeats, devices)
            return
        for seed in chosen.seeds:
            x_ND, y_N = drawn(chosen.features, chosen.among, chosen.classes, seed)
            key = {"set": chosen.features.stem, "among": chosen.among or "all", "classes": int(y_N.max()) + 1, "seed": seed}
            if done("refine_answers", key | {"asked": ASKED[-1]}):
                continue
            fit(Path(folder) / f"{seed}", x_ND, key["classes"], devices, seed)
            found = read_sorted(Path(folder) / f"{seed}")
            on = teaching.ground_of(reduced(found.rows_ND, components=max(teaching.AXES, 2 * found.k)))
            for asked in ASKED:
                begun = 0.0
                for answers, acc, kept in play(found, on, y_N, asked, seed, chosen.batch, chosen.most):
                    record("refine_curves", key | {"asked": asked, "answers": answers, "acc": round(acc, 4), "kept": round(kept, 4)})
                    begun = acc if not answers else begun
                    if acc >= ENOUGH:
                        break
                told = {"batch": chosen.batch, "acc_at_first": round(begun, 4), "acc": round(acc, 4), "answers": answers}
                record("refine_answers", key | {"asked": asked, **told, "reached": acc >= ENOUGH})


def drawn(file: Path, among: str, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    given = np.load(file, allow_pickle=False)
    x_ND, y_N = given["x"], given["y"]
    if among:
        least, most = (int(word) for word in among.split(":"))
        some_N = np.isin(y_N, np.random.default_rng(seed).choice(np.arange(least, most), classes, replace=False))
        x_ND, y_N = x_ND[some_N], y_N[some_N]
    return x_ND, np.unique(y_N, return_inverse=True)[1]


def play(
    found: Sorted, on: teaching.Ground, y_N: np.ndarray, asked: str, seed: int, batch: int, most: int
) -> Iterator[tuple[int, float, float]]:
    """(answers, ACC, pairs kept) after each round; the first before any answer, as the run itself has it."""
    cluster_of = named(y_N, found.labels_N.numpy(), found.k)
    order = np.random.default_rng([seed, 1]).permutation(len(y_N))
    acts, answered = [], list[int]()
    yield 0, metrics.accuracy(y_N, found.labels_N.numpy()), 1.0
    while len(answered) < min(most, len(y_N)):
        given = teaching.of(found, replay(found.labels_N.numpy(), acts, found.k))
        ids = (
            asking.chosen(given, on.reduced.rows_Nd, batch)[1].tolist()
            if asked == ASKED[0]
            else [i for i in order if i not in answered][:batch]
        )
        answered += ids
        acts += [{"act": "move", "ids": [int(i)], "cluster": int(cluster_of[y_N[i]])} for i in ids]
        given = teaching.of(found, replay(found.labels_N.numpy(), acts, found.k))
        labels_N = said(learned(given, on)[1].argmax(1), given.anchors.labels_N)
        yield len(answered), metrics.accuracy(y_N, labels_N.numpy()), constraints.kept(given.anchors.labels_N, labels_N).share


def said(labels_N: Tensor, anchor_N: Tensor) -> Tensor:
    return torch.where(anchor_N >= 0, anchor_N, labels_N)


def named(y_N: np.ndarray, labels_N: np.ndarray, k: int) -> np.ndarray:
    """The cluster that is called after each class."""
    table_KK = np.zeros((k, k), int)
    np.add.at(table_KK, (y_N, labels_N), 1)
    return linear_sum_assignment(-table_KK)[1]


def times(folder: Path, repeats: int, devices: Devices) -> None:
    rng = np.random.default_rng(0)
    kinds_KD, y_N = rng.normal(size=(20, 1280)), np.arange(10_000) % 20
    x_ND = (kinds_KD[y_N] + 4 * rng.normal(size=(10_000, 1280))).astype(np.float32)
    fit(folder / "run", x_ND, 20, devices)
    labels_N = read_assignments(folder / "run")["cluster"].to_numpy()
    cluster_of = named(y_N, labels_N, 20)
    for one in asking.ask(folder / "run", 100):
        edits.append(folder / "run", {"act": "move", "ids": [one["id"]], "cluster": int(cluster_of[y_N[one["id"]]])})
    for repeat in range(repeats):
        started, busy = time.monotonic(), time.process_time()
        told = refine(folder / "run", folder / f"new-{repeat}")
        seconds, busy = time.monotonic() - started, time.process_time() - busy
        after_N = read_assignments(folder / f"new-{repeat}")["cluster"].to_numpy()
        row = {"rows": 10_000, "dimensions": 1280, "k": 20, "asked": 100, "draw": repeat, "seconds": round(seconds, 2)}
        row |= {"cpu_seconds": round(busy, 2), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)}
        scores = {"acc_before": metrics.accuracy(y_N, labels_N), "acc": metrics.accuracy(y_N, after_N), "kept": told["kept"]}
        record("refine", row | {name: round(value, 4) for name, value in scores.items()})


if __name__ == "__main__":
    main()
