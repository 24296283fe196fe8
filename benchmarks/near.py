"""Approximate neighbours beside exact ones: time, recall, and what SCAN makes of them. Rows go to benchmarks/results/near.csv and
benchmarks/results/near_scan.csv.

    python -m benchmarks.near 100000 --faiss  # rows of 128 dimensions: the pixels of CIFAR-10 and CIFAR-100 on their main axes
    python -m benchmarks.near 1000000         # and views of them: mirrored, moved by some pixels
    python -m benchmarks.near mnist [--draws 3]     # SCAN's heads on 20,000 pictures of MNIST, exact and approximate neighbours

`exact_seconds`: of all rows; above 100,000 of 20,000 of them, times N / 20,000, since each costs the same. `recall`: share of the 20
nearest of these that are found. `load`: of the machine at the end; above the number of cores other work shared them.
"""

import argparse
import os
import time

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import load_packed
from benchmarks.record import done, record
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import unit
from coterie.evaluate import metrics
from coterie.images.collection import open_rows
from coterie.learning.evidence import axes, seen
from coterie.methods import scan
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.seeding import generator

K, WIDTH, ASKED, SOME, FIRST_SEED = 20, 128, 20_000, 20_000, 100


def rows_of(n: int) -> Tensor:
    """(n, 128) float32."""
    pictures = np.concatenate([load_packed(name)[0] for name in ("cifar10", "cifar100")])
    rng = np.random.default_rng(0)
    parts, base = [], torch.from_numpy(pictures)
    some = base[torch.from_numpy(rng.permutation(len(base))[:20_000])].flatten(1).float()
    mean_axes = axes(some, generator(0, "axes"), WIDTH)
    for view in range(-(-n // len(base))):
        shown = base if not view else torch.roll(base, (int(rng.integers(-3, 4)), int(rng.integers(-3, 4))), (1, 2))
        shown = shown.flip(2) if view % 2 else shown
        parts.append(torch.cat([seen(part.flatten(1).float(), *mean_axes) for part in shown.split(10_000)]))
    return torch.cat(parts)[:n]


def compared(n: int, threads: int, beside: bool) -> None:
    z_ND = rows_of(n)
    asked = torch.arange(n) if n <= 100_000 else torch.from_numpy(np.random.default_rng(1).permutation(n)[:ASKED])
    begun = time.perf_counter()
    exact = nearest(z_ND, K) if len(asked) == n else nearest(z_ND, K + 1, z_ND[asked])
    exact_seconds = (time.perf_counter() - begun) * n / len(asked)
    index_AK = exact.index_NK
    if len(asked) < n:  # queries find themselves
        mine = index_AK == asked[:, None]
        mine[:, -1] |= ~mine.any(1)
        index_AK = index_AK[~mine].view(len(asked), K)
    begun = time.perf_counter()
    found = nearest(z_ND, K, approximate=True).index_NK[asked]
    seconds = time.perf_counter() - begun
    row = {"n": n, "d": WIDTH, "k": K, "threads": threads, "asked": len(asked), "exact_seconds": round(exact_seconds, 1)}
    row |= {"seconds": round(seconds, 1), "ratio": round(seconds / exact_seconds, 4), "recall": recall(found, index_AK)}
    row |= {"faiss_seconds": "", "faiss_recall": ""}
    if beside:
        begun = time.perf_counter()
        found = by_faiss(z_ND, threads)[asked]
        row |= {"faiss_seconds": round(time.perf_counter() - begun, 1), "faiss_recall": recall(found, index_AK)}
    row["load"] = round(os.getloadavg()[0], 1)
    record("near", row)
    print(row)


def recall(found_AK: Tensor, truth_AK: Tensor) -> float:
    """The share of the true neighbours among those that were found."""
    return round(float(np.mean([np.isin(truth, found).mean() for truth, found in zip(truth_AK.numpy(), found_AK.numpy())])), 4)


def by_faiss(z_ND: Tensor, threads: int) -> Tensor:
    """The neighbours of all rows through faiss' inverted file: four times the root of N cells, 48 looked into. (N, K)"""
    import faiss

    faiss.omp_set_num_threads(threads)
    rows = unit(z_ND).numpy()
    index = faiss.index_factory(rows.shape[1], f"IVF{round(4 * len(rows) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.niter, index.nprobe = 64, 10, 48
    index.train(rows)
    index.add(rows)
    found = torch.from_numpy(index.search(rows, K + 1)[1])
    mine = found == torch.arange(len(found))[:, None]
    mine[:, -1] |= ~mine.any(1)
    return found[~mine].view(len(found), K)


def mnist(draws: int, threads: int) -> None:
    """SCAN's heads on the pictures' main axes."""
    pictures, labels, _ = load_packed("mnist")
    pictures, labels = pictures[:SOME], labels[:SOME]
    flat = torch.from_numpy(pictures).flatten(1).float()
    z_ND = seen(flat, *axes(flat[::6], generator(0, "axes"), 64))
    for seed in range(FIRST_SEED, FIRST_SEED + draws):
        for how in ("false", "true"):
            if done("near_scan", {"seed": seed, "approximate": how}):
                continue
            run = Run(seed=seed, devices=Devices("cpu", "fp32", threads))
            config = scan.Config(n_clusters=10, encoder="precomputed", pretext="frozen", approximate=how)  # type: ignore[arg-type]
            fitted = scan.fit(open_rows(z_ND), config, run)
            acc = metrics.accuracy(labels, fitted.p_NK.argmax(1).cpu().numpy())
            row = {"set": "mnist", "n": len(labels), "seed": seed, "approximate": how, "acc": round(acc, 4)}
            record("near_scan", row)
            print(row)
            run.close()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("what")
    words.add_argument("--draws", type=int, default=3)
    words.add_argument("--threads", type=int, default=2)
    words.add_argument("--faiss", action="store_true", help="its inverted file beside ours")
    given = words.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "mnist":
        mnist(given.draws, given.threads)
    else:
        compared(int(given.what), given.threads, given.faiss)


if __name__ == "__main__":
    main()
