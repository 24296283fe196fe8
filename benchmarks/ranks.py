"""Two ranks beside one process, on digits. Rows go to benchmarks/results/ranks.csv.

    python -m benchmarks.ranks [scan spice ...] [--seeds 2]

A row for each method and seed, by the preset `quick`: ACC of one process and of two (torchrun, gloo), on two threads and on one each;
their difference; and, for k-means on pixels, whose features do not learn, how far features and clusters of the two lie apart.
True labels are read after the fits, by `evaluate`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.record import done, record
from benchmarks.run_cli import coterie
from coterie.run.files import read_table, read_tensors

METHODS = ("kmeans", "scan", "spice", "deepcluster", "pcp")


def compared(method: str, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ranks-") as place:
        one, two = Path(place) / "one", Path(place) / "two"
        words = ["fit", "digits", "--method", method, "--preset", "quick", "--seed", seed]
        seconds = [coterie(*words, "-o", one)["seconds"]]
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "coterie"]
        subprocess.run([*launch, *map(str, words), "-o", two, "--threads", "1"], check=True, stdout=subprocess.DEVNULL)
        scores = [coterie("evaluate", run, "--labels", "builtin") for run in (one, two)]
        z, other = (read_tensors(run / "features.safetensors", "features")["features"].astype(np.float32) for run in (one, two))
        labels, others = (read_table(run / "assignments.parquet", "cluster")["cluster"].to_numpy() for run in (one, two))
        row = {"acc_one": round(scores[0]["acc"], 4), "acc_two": round(scores[1]["acc"], 4), "seconds_one": seconds[0]}
        row |= {"features_apart": float(abs(z - other).max()), "labels_alike": round(float((labels == others).mean()), 4)}
        record("ranks", {"method": method, "seed": seed, **row})
        print(method, seed, row, flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("methods", nargs="*", default=METHODS)
    words.add_argument("--seeds", type=int, default=2)
    given = words.parse_args()
    for seed in range(100, 100 + given.seeds):
        for method in given.methods:
            if not done("ranks", {"method": method, "seed": seed}):
                compared(method, seed)


if __name__ == "__main__":
    main()
