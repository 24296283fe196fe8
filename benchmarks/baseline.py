"""k-means on many small pictures in many clusters, which every run has beside it: on all numbers of a picture, or on 256 principal axes.

    python -m benchmarks.baseline            # -> results/baseline.csv

CIFAR-100's test images in 100 clusters, Imagenette's in 50, 3 seeds each, both ways one after the other in one process; `inertia` is the
mean squared distance to the mean of a picture's cluster, in all numbers, `acc` is read afterwards.
"""

import time

import torch
import torch.nn.functional as F

from benchmarks.data import load_packed
from benchmarks.record import done, record
from coterie.clustering.rows import means
from coterie.evaluate.metrics import accuracy
from coterie.fitting import assignments
from coterie.run.devices import Devices

SETS = {"cifar100": ("cifar100", "test", 100), "imagenette": ("imagenette96", "train", 50)}
WAYS = {"all numbers": 1 << 60, "axes": assignments.BASELINE_WHOLE}


def main() -> None:
    Devices("cpu", "fp32")
    for name, (file, split, k) in SETS.items():
        pictures, kinds, _ = load_packed(file, split)
        small_NCHW = F.adaptive_avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, 32)
        for seed in range(3):
            for way, whole in WAYS.items():
                if done("baseline", {"set": name, "seed": seed, "way": way}):
                    continue
                assignments.BASELINE_WHOLE, start = whole, time.perf_counter()
                labels_N = assignments.baseline_labels(small_NCHW, k, seed)
                seconds, rows_ND = time.perf_counter() - start, small_NCHW.flatten(1)
                inertia = float((rows_ND - means(rows_ND, labels_N, k)[labels_N]).square().sum(1).mean())
                row = {"set": name, "seed": seed, "way": way, "clusters": k, "n": len(rows_ND), "seconds": round(seconds, 1)}
                record("baseline", row | {"inertia": round(inertia, 3), "acc": round(float(accuracy(kinds, labels_N.numpy())), 4)})


if __name__ == "__main__":
    main()
