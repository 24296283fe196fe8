"""What it costs not to say K, and what several seeds gain. Rows: results/known_k.csv, consensus.csv; classes make draws and scores.

    python -m benchmarks.known_k FEATURES.npz                        # Caltech-101: 30 draws of 3 to 50 of the classes 50 to 99
    python -m benchmarks.known_k FEATURES.npz --set digits --seed 100   # all rows, under this seed
    python -m benchmarks.known_k FEATURES.npz --seeds 5 [...]        # instead: the consensus of five fits, beside their mean

known_k: the same fit through the door (SCAN's heads on given features, calibrated, checked) with `--clusters auto` and with the number of
classes; `lost` is the second's ACC less the first's. consensus: five fits with the number of classes, as `--seeds 5` joins them; `mean`
and `worst` are ACC of single fits, `alike` their mean adjusted Rand index. FEATURES.npz holds x (N, D) and y (N,).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.choosing_k import FIRST_SEED, drawn
from benchmarks.record import done, record
from coterie import fitting
from coterie.evaluate.metrics import accuracy
from coterie.learning.consensus import consensus
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_assignments


def fitted(x_ND: np.ndarray, clusters: int | str, seed: int) -> torch.Tensor:
    """What a run of SCAN's heads says, (N, K)."""
    with tempfile.TemporaryDirectory() as place:
        images, plan = fitting.plan(x_ND, "scan", clusters=clusters, settings={"encoder": "precomputed"}, seed=seed)
        fitting.fit(images, plan, Path(place) / "run", devices=Devices("cpu", "fp32", 1))
        return torch.tensor(probabilities(read_assignments(Path(place) / "run")))


def unsaid(key: dict, x_ND: np.ndarray, y_N: np.ndarray) -> None:
    found = {clusters: fitted(x_ND, clusters, key["seed"]) for clusters in ("auto", key["classes"])}
    auto, known = (accuracy(y_N, p_NK.argmax(1).numpy()) for p_NK in found.values())
    scores = {"acc": auto, "known_acc": known, "lost": known - auto}
    tell("known_k", {**key, "images": len(y_N), "k": found["auto"].shape[1]}, scores)


def agreed(key: dict, x_ND: np.ndarray, y_N: np.ndarray) -> None:
    fits = [fitted(x_ND, key["classes"], key["seed"] + i) for i in range(key["fits"])]
    told = consensus(fits)
    single = [accuracy(y_N, p_NK.argmax(1).numpy()) for p_NK in fits]
    scores = {"acc": accuracy(y_N, told.p_NK.argmax(1).numpy()), "mean": np.mean(single), "worst": min(single), "alike": told.alike}
    tell("consensus", {**key, "images": len(y_N)}, scores)


def tell(table: str, key: dict, scores: dict) -> None:
    row = key | {name: round(float(value), 4) for name, value in scores.items()}
    record(table, row)
    print(*row.values(), flush=True)


def sets(name: str, y: np.ndarray, seed: int, draws: int) -> Iterator[tuple[int, np.ndarray]]:
    """Seeds and rows."""
    if name != "caltech":
        yield seed, np.arange(len(y))
        return
    for number in range(FIRST_SEED, FIRST_SEED + draws):
        yield number, np.flatnonzero(np.isin(y, drawn(number, np.arange(50, 100), 50)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--set", default="caltech")
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(args.features, allow_pickle=False) as held:
        x, y = held["x"], held["y"]
    table, measure = ("consensus", agreed) if args.seeds else ("known_k", unsaid)
    for seed, rows in sets(args.set, y, args.seed, args.draws):
        key = {"set": args.set, "seed": seed, "classes": len(np.unique(y[rows]))} | ({"fits": args.seeds} if args.seeds else {})
        if not done(table, key):
            measure(key, x[rows], np.unique(y[rows], return_inverse=True)[1])


if __name__ == "__main__":
    main()
