"""How many pseudo-clusters DeepCluster should train on: `python -m benchmarks.deepcluster [--clusters 5 ... 1000] [--plot]`.

The first 10,000 pictures of Fashion-MNIST, preset garments, v1, one seed: a row per number of pseudo-clusters in
deepcluster_clusters.csv, with the weighted kNN accuracy of the features (leave one out), the ACC of the ten clusters, and the NMI of
successive clusterings at the start and at the end. Rows that are there are skipped. --plot draws docs/methods/deepcluster-clusters.png from
the rows (the paper's figure 2c: too few and too many are both worse). True labels are read after the fit, by `evaluate`.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.data import written
from benchmarks.digits import settled
from benchmarks.plots import curves, rows_of
from benchmarks.record import done, record
from benchmarks.run_cli import coterie

TABLE, IMAGES = "deepcluster_clusters", 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="+", default=[5, 10, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=Path("runs/deepcluster"))
    parser.add_argument("--plot", action="store_true", help="draw what the table holds, fit nothing")
    options = parser.parse_args()
    if options.plot:
        plot()
        return
    pictures, labels = written("fashion_mnist", "train", options.keep, IMAGES)
    for k in options.clusters:
        key = {"images": IMAGES, "pseudo_clusters": k, "seed": options.seed, "set": f"epochs={options.epochs}"}
        if done(TABLE, key):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            how = ("--method", "deepcluster", "--preset", "garments", "--clusters", 10, "--seed", options.seed)
            fitted = coterie("fit", pictures, "-o", run, *how, "--set", f"epochs={options.epochs}", "--set", f"pseudo_clusters={k}")
            scores = coterie("evaluate", run, "--labels", labels, "--protocol", "clusters,knn")
            figures = {name: round(scores[name], 4) for name in ("knn_acc", "acc", "nmi")}
            record(TABLE, {**key, "fit_seconds": round(fitted["seconds"]), **figures, **settled(run)})


def plot() -> None:
    rows = sorted(rows_of(TABLE), key=lambda row: int(row["pseudo_clusters"]))
    lines = {
        title: [(int(row["pseudo_clusters"]), float(row[name])) for row in rows]
        for name, title in (("knn_acc", "weighted kNN"), ("acc", "ACC of ten clusters"))
    }
    curves("deepcluster-clusters", f"{IMAGES:,} pictures of Fashion-MNIST, one seed", "pseudo-clusters in training", "accuracy", lines)


if __name__ == "__main__":
    main()
