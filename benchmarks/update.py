"""Which new kinds `coterie update` finds in what fits nowhere. Rows go to benchmarks/results/update.csv; classes only make the draws.

    python -m benchmarks.update [--features FEATURES.npz] [--draws 20]    # ten of Caltech-101's classes 50 to 99, seeds from 100 on

Of ten classes 0 to 3 are held out of what is fitted (`held_out`); of each other class 20 photographs are fitted and 10 are new, of a
held-out class all 30 are new. `classes`: that are fitted; `proposed`: kinds; `found`: share of the new pictures of held-out classes that
lie, with --new-kinds, in a cluster which is mostly of their class, -1 where none is held out; `strays`: pictures of fitted classes, fitted
or new, in a new cluster. The rules were chosen on the classes 0 to 49, seeds 0 to 29. FEATURES.npz holds x (N, D) and y (N,); without it
they are those of EfficientNet-Lite0 at 192 px.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.choosing_k import known, made_here
from benchmarks.record import done, record
from coterie.clustering import novelty
from coterie.clustering.kmeans import kmeans
from coterie.clustering.rows import unit
from coterie.fitting.hierarchy import Sorted
from coterie.fitting.new_pictures import FALSE_ALARMS
from coterie.fitting.update import grown, sorted_anew
from coterie.learning.kinds import kinds
from coterie.run.seeding import generator

FIRST_SEED, CLASSES, FITTED, EACH = 100, 10, 20, 30


def draw(y: np.ndarray, seed: int, held_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that are fitted, that are new, and the classes that were held out."""
    rng = np.random.default_rng(seed)
    classes = 50 + rng.choice(50, CLASSES, replace=False)
    rows = [rng.permutation(np.flatnonzero(y == one))[:EACH] for one in classes]
    fitted = np.concatenate([some[:FITTED] for some in rows[held_out:]])
    new = np.concatenate([some[FITTED:] for some in rows[held_out:]] + rows[:held_out])
    return fitted, new, classes[:held_out]


def measured(x_ND: torch.Tensor, y: np.ndarray, seed: int, held_out: int) -> None:
    fitted, new, strangers = draw(y, seed, held_out)
    rows_ND, n = x_ND[np.concatenate([fitted, new])], len(fitted)
    k, mean_D = CLASSES - held_out, rows_ND[:n].mean(0)
    found = kmeans(rows_ND[:n] - mean_D, k, generator(seed, "k-means"), 50, init="k-means++", restarts=3, spherical=True)
    labels_N = torch.cdist(unit(rows_ND - mean_D), unit(found.centroids_KD)).argmin(1)
    above = novelty.threshold(novelty.own_novelty(rows_ND[:n]), FALSE_ALARMS)
    strange = n + (novelty.novelty(rows_ND[:n], rows_ND[n:]) > above).nonzero().squeeze(1)
    p_NK = F.one_hot(labels_N, k).float()
    labels_N[strange] = -1
    before, whole = (Sorted(p_NK[:some], labels_N[:some], rows_ND[:some], seed) for some in (n, len(rows_ND)))
    proposed = kinds(rows_ND[:n], rows_ND[strange], generator(seed, "update"))
    if proposed:
        whole = sorted_anew(whole, grown(before, [rows_ND[strange[kind.rows]] for kind in proposed]), strange)
    truth, right = y[np.concatenate([fitted, new])], 0
    for cluster in range(k, k + len(proposed)):
        inside = truth[(whole.labels_N == cluster).numpy()]
        most = np.bincount(inside).argmax()
        right += int((inside == most).sum()) if most in strangers else 0
    strays = int(((whole.labels_N >= k).numpy() & ~np.isin(truth, strangers)).sum())
    row = {"set": "caltech", "seed": seed, "classes": k, "held_out": held_out, "fitted": n, "new": len(new), "novel": len(strange)}
    row |= {"proposed": len(proposed), "found": round(right / (EACH * held_out), 4) if held_out else -1, "strays": strays}
    record("update", row)
    print(*row.values(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x_ND, y = known(args.features) if args.features else made_here()
    x_ND = unit(x_ND).half().float()  # as a run keeps them
    for seed in range(FIRST_SEED, FIRST_SEED + args.draws):
        for held_out in range(4):
            if not done("update", {"seed": seed, "held_out": held_out}):
                measured(x_ND, y, seed, held_out)


if __name__ == "__main__":
    main()
