"""Heads on frozen features: which finds the kinds best, and in what time. Rows go to benchmarks/results/heads.csv.

    python -m benchmarks.heads FEATURES.npz --set caltech --encoder "lite0 160 px" --classes 10 --of 0:50 --draws 10
    python -m benchmarks.heads FEATURES.npz --set cifar10 --encoder "lite0 160 px" --first 5000
    python -m benchmarks.heads --times                                                  # drawn rows, 10,000 x 1,280, K = 10 and 100

FEATURES.npz holds x (N, D) and y (N,), the true classes, which are read only to count and to score. A draw takes so many classes of the
given range and all their images in a random order; draw and seed are the same number. Several files: encoders side by side.
Seconds are those of the head alone (rows, neighbours, start, training, choice), by the clock, and of all its threads by the CPU.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import done, record
from coterie.evaluate.metrics import accuracy
from coterie.images.collection import open_rows
from coterie.methods import method
from coterie.run import Run
from coterie.run.devices import Devices

HEADS = {
    "k-means plain": ("kmeans", {}),
    "k-means unit": ("kmeans", {"rows": "unit"}),
    "k-means whitened": ("kmeans", {"rows": "whitened"}),
    "scan": ("scan", {}),
    "scan random start": ("scan", {"start": "random"}),
    "scan 20 heads random start": ("scan", {"start": "random", "n_heads": 20}),
    "scan all columns": ("scan", {"components": 0}),
    "temi": ("temi", {}),
    "temi spectral start": ("temi", {"start": "spectral"}),
    "temi random start": ("temi", {"start": "random", "n_heads": 16, "epochs": 60, "choice": "loss"}),
    "turtle": ("turtle", {}),
    "turtle spectral start": ("turtle", {"start": "spectral"}),
    "turtle random start": ("turtle", {"start": "random", "n_heads": 8, "epochs": 40}),
}


def one(name: str, z: np.ndarray, k: int, seed: int, widths: str, threads: int) -> tuple[np.ndarray, dict[str, float]]:
    """Labels (N,) of a head on features, and its seconds."""
    home, settings = HEADS[name]
    found = method(home)
    config = found.Config(n_clusters=k, encoder="precomputed", pretext="frozen", **settings | ({"spaces": widths} if widths else {}))
    run = Run(seed=seed, devices=Devices("cpu", "fp32", threads))
    started, worked = time.perf_counter(), time.process_time()
    labels = found.fit(open_rows(z), config, run).p_NK.argmax(1).numpy()
    seconds = {"seconds": round(time.perf_counter() - started, 2), "cpu_seconds": round(time.process_time() - worked, 2)}
    run.close()
    return labels, seconds


def draws(y: np.ndarray, classes: int, of: str, count: int, first: int) -> list[tuple[int, np.ndarray]]:
    """(number, rows) of each draw of classes; without any, all rows once a seed."""
    if not classes:
        return [(seed, np.arange(len(y))) for seed in range(first, first + count)]
    low, high = (int(word) for word in of.split(":"))
    made = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        chosen = np.sort(rng.permutation(np.arange(low, high))[:classes])
        made.append((number, rng.permutation(np.flatnonzero(np.isin(y, chosen)))))
    return made


def times(names: list[str], threads: int) -> None:
    """Seconds on drawn rows: K kinds that overlap, behind a ReLU."""
    for k in (10, 100):
        rng = np.random.default_rng(0)
        kinds = np.arange(10_000) % k
        z = np.maximum(rng.normal(size=(k, 1280))[kinds] + 3 * rng.normal(size=(10_000, 1280)), 0).astype(np.float32)
        for name in names:
            labels, seconds = one(name, z, k, 0, "", threads)
            note(name, labels, kinds, seconds, {"set": "drawn 10,000 x 1,280", "classes": k, "of": "", "draw": 0, "encoder": ""}, threads)


def note(name: str, labels: np.ndarray, kinds: np.ndarray, seconds: dict[str, float], key: dict, threads: int) -> None:
    acc = accuracy(np.unique(kinds, return_inverse=True)[1], labels)
    print(f"{key['set']} {key['classes']} classes, draw {key['draw']}, {name}: {acc:.3f}, {seconds}", flush=True)
    home, settings = HEADS[name]
    told = {"method": home, "head": name, "settings": json.dumps(settings), "seed": key["draw"], "images": len(labels)}
    record("heads", {**key, **told, "acc": round(acc, 4), **seconds, "threads": threads})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="*", type=Path)
    parser.add_argument("--set", default="")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--of", default="0:50")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="rows taken, 0: all")
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", action="store_true")
    given = parser.parse_args()
    names = given.heads.split(",")
    torch.set_num_threads(given.threads)
    if given.times:
        times(names, given.threads)
        return
    files = [np.load(path) for path in given.features]
    x, y = np.hstack([file["x"] for file in files]), files[0]["y"]
    x, y = (x[: given.first], y[: given.first]) if given.first else (x, y)
    widths = ",".join(str(file["x"].shape[1]) for file in files) if len(files) > 1 else ""
    for number, rows in draws(y, given.classes, given.of, given.draws, given.first_draw):
        k = len(np.unique(y[rows]))
        for name in names:
            of = given.of if given.classes else "all"
            key = {"set": given.set, "classes": k, "of": of, "draw": number, "encoder": given.encoder}
            if not done("heads", key | {"head": name}):
                plain = widths if HEADS[name][1].get("rows", "whitened") == "whitened" or HEADS[name][0] != "kmeans" else ""
                labels, seconds = one(name, x[rows], k, number, plain, given.threads)
                note(name, labels, y[rows], seconds, key, given.threads)


if __name__ == "__main__":
    main()
