"""`coterie recut`: how long it takes, and what comes out. `python -m benchmarks.recut`

recut: a finished run of k-means on drawn features (60,000 x 128, 20 kinds, 10 clusters) recut in this process, which has loaded what it
needs: seconds by the clock, of the processor, and the load of the machine. The target is less than 2 seconds on an idle one.
recut_kinds, with --features FILE.npz (x: features, y: classes): draws of 15 classes, k-means with another number of clusters, recut to 15;
ACC of 15 after it, and beside it of k-means with 15. Rules were chosen on classes 0 to 49 of Caltech-101, seeds 0 to 5.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import record
from coterie import fitting
from coterie.evaluate import metrics
from coterie.fitting.recut import recut
from coterie.run.devices import Devices
from coterie.run.files import read_assignments

ASKED = {
    "--clusters 8": {"clusters": 8},
    "--clusters 14": {"clusters": 14},
    "--merge 0,1 --split 5": {"merge": [(0, 1)], "split": [(5, 2)]},
}
CLASSES, STARTS = 15, (5, 8, 12, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--among", default="0:50", help="with --features: the classes to draw from")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(6)))
    chosen = parser.parse_args()
    devices = Devices("cpu", "fp32", 1)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.features:
            kinds(Path(folder), chosen.features, chosen.among, chosen.seeds, devices)
        else:
            times(Path(folder), chosen.rows, chosen.repeats, devices)


def times(folder: Path, n: int, repeats: int, devices: Devices) -> None:
    rng = np.random.default_rng(0)
    kinds_KD = rng.normal(size=(20, 128))
    rows_ND = (kinds_KD[np.arange(n) % 20] + 1.2 * rng.normal(size=(n, 128))).astype(np.float32)
    fit(folder / "run", rows_ND, 10, devices)
    for words, how in ASKED.items():
        for repeat in range(repeats):
            started, busy = time.monotonic(), time.process_time()
            recut(folder / "run", folder / f"{words}{repeat}", **how)  # type: ignore[arg-type]
            seconds, busy = time.monotonic() - started, time.process_time() - busy
            row = {"rows": n, "dimensions": 128, "k": 10, "asked": words, "draw": repeat, "seconds": round(seconds, 2)}
            record("recut", row | {"cpu_seconds": round(busy, 2), "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1)})


def kinds(folder: Path, file: Path, among: str, seeds: list[int], devices: Devices) -> None:
    given = np.load(file, allow_pickle=False)
    least, most = (int(word) for word in among.split(":"))
    for seed in seeds:
        classes = np.random.default_rng(seed).choice(np.arange(least, most), CLASSES, replace=False)
        some = np.isin(given["y"], classes)
        x_ND, y_N = given["x"][some], given["y"][some]
        fit(folder / f"{seed}", x_ND, CLASSES, devices, seed)
        for start in STARTS:
            run = folder / f"{seed}-{start}"
            fit(run, x_ND, start, devices, seed)
            recut(run, folder / f"{run.name}-new", CLASSES)
            scores = {name: acc(folder / place, y_N) for name, place in (("acc", f"{run.name}-new"), ("features_kmeans_acc", f"{seed}"))}
            record("recut_kinds", {"set": file.stem, "among": among, "seed": seed, "k": start, "classes": CLASSES, **scores})


def fit(folder: Path, x_ND: np.ndarray, k: int, devices: Devices, seed: int = 0) -> None:
    settings = {"encoder": "precomputed", "restarts": 3}
    images, plan = fitting.plan(x_ND, "kmeans", clusters=k, preset="quick", settings=settings, seed=seed)
    fitting.fit(images, plan, folder, devices=devices)


def acc(run: Path, y_N: np.ndarray) -> float:
    return round(metrics.accuracy(y_N, read_assignments(run)["cluster"].to_numpy()), 4)


if __name__ == "__main__":
    main()
