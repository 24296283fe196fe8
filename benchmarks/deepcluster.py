"""How many pseudo-clusters DeepCluster should train on: `python -m benchmarks.deepcluster [--clusters 5 ... 1000] [--plot]`.

The first 10,000 pictures of Fashion-MNIST, preset garments, 20 epochs of v1, one seed: a row per number of pseudo-clusters in
deepcluster_clusters.csv, with the weighted kNN accuracy of the features (leave one out), the ACC of the ten clusters, and the NMI of
successive clusterings at the start and at the end. Rows that are there are skipped. --plot draws docs/methods/deepcluster-clusters.png from
the rows (the paper's figure 2c: too few and too many are both worse). True labels are read after the fit, by `evaluate`.
"""

import argparse
import csv
import io
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.digits import settled
from benchmarks.headline import unpacked
from benchmarks.record import RESULTS, done, record
from benchmarks.run_cli import coterie

TABLE, IMAGES = "deepcluster_clusters", 10_000
PICTURE = Path(__file__).parent.parent / "docs" / "methods" / "deepcluster-clusters.png"
BLUE, ORANGE, SOFT = "#3a6fb0", "#c2571a", "#68686e"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="+", default=[5, 10, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--keep", type=Path, default=Path("runs/deepcluster"))
    parser.add_argument("--plot", action="store_true", help="draw what the table holds, fit nothing")
    options = parser.parse_args()
    if options.plot:
        plot()
        return
    pictures, labels = unpacked("fashion_mnist", "train", options.keep, IMAGES)
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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with (RESULTS / f"{TABLE}.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["pseudo_clusters"]))
    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT}
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for name, title, colour in (("knn_acc", "weighted kNN", BLUE), ("acc", "ACC of ten clusters", ORANGE)):
        axes.plot([int(row["pseudo_clusters"]) for row in rows], [float(row[name]) for row in rows], "o-", color=colour, label=title)
    axes.set(xscale="log", xlabel="pseudo-clusters in training", ylabel="accuracy")
    axes.set_title(f"{IMAGES:,} pictures of Fashion-MNIST, one seed", loc="left", fontsize=9.5)
    axes.legend(frameon=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    Image.open(drawn).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
