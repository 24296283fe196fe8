"""PCP's tables on the first 10,000 images of Fashion-MNIST: `python -m benchmarks.pcp I [--seeds 0 1 2] [--epochs 12] [--rows NAME ...]`.

I        DC, + PC, + CP_r, + CP_s (N_t0 = 100 as in the paper), and + warm-up
II       the share of a cluster that CP_r keeps, alone and with CP_s
III      N_t0 from 5 to 5,000: DC, PCP, PCP with warm-up
IV       rounds of PCP, and IR, IS and AND with N = 1, 5, 10, 20, each with as many epochs in all
purity   of the kept images and of all of the same clusters, at each epoch of one run; a row an epoch in pcp_purity.csv
plots    docs/methods/pcp-clusters.png from table III, pcp-purity.png from the purity rows; fits nothing

Every row of a table has the same network, images of 20 px, views of 16 px and epochs; its time stands beside it. A row a run in pcp.csv:
weighted kNN of the features, ACC of the clusters by diffusion and of k-means on the features, by `evaluate`, after the fit. What is done is
skipped, so that a table that was stopped goes on. In the paper's tables stands kNN on CIFAR-10 after 200 epochs of a ResNet-18.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.data import written
from benchmarks.plots import Curves, curves, rows_of
from benchmarks.record import done, record
from benchmarks.run_cli import coterie

IMAGES = 10_000
SIZES = {"image_size": 20, "view_size": 16}  # px
Rows = list[tuple[str, str, dict[str, Any]]]  # (name of the row, method, settings)

PC = {"warm_up": 0, "vote": False, "keep_share": 1.0}
TABLE_I: Rows = [
    ("DC", "pcp", PC | {"progressive": False}),
    ("+ PC", "pcp", PC),
    ("+ CP_r", "pcp", {"warm_up": 0, "vote": False}),
    ("+ CP_s", "pcp", {"warm_up": 0}),
    ("+ warm-up", "pcp", {}),
]
GAMMA = (0, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
TABLE_II: Rows = [
    (f"gamma {gamma}, {'CP_r + CP_s' if vote else 'CP_r'}", "pcp", {"warm_up": 0, "keep_share": round(1 - gamma, 2), "vote": vote})
    for vote in (False, True)
    for gamma in GAMMA
]
FLOORS = (5000, 1000, 300, 100, 30, 10, 5)
TABLE_III: Rows = [
    (f"{name}, N_t0 {floor}", "pcp", own | {"floor": floor})
    for name, own in {"DC": PC | {"progressive": False}, "PCP": {"warm_up": 0}, "PCP*": {}}.items()
    for floor in FLOORS
]
IN_THIRD = {"DC": "DC", "+ CP_s": "PCP"}  # rows of table I that belong to table III as well, N_t0 = 100
TABLES = {"I": TABLE_I, "II": TABLE_II, "III": TABLE_III}


def table_iv(epochs: int) -> Rows:
    """Rounds share the epochs; five rounds of PCP have a fifth each."""
    rows: Rows = [(f"PCP{star}, {rounds} rounds", "pcp", {"rounds": rounds, "epochs": max(3, epochs // rounds)} | own)
                  for star, own in {"": {"warm_up": 0}, "*": {}}.items() for rounds in (1, 5)]  # fmt: skip
    rows += [("IR", "ir", {}), ("IS", "is", {})]
    return rows + [(f"AND, N = {n}", "and", {"anchor_neighbors": n}) for n in (1, 5, 10, 20)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=[*TABLES, "IV", "purity", "plots"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="of a table: only these")
    options = parser.parse_args()
    if options.table == "plots":
        plots()
        return
    shared = SIZES | {"floor": 100, "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as folder:
        pictures, labels = written("fashion_mnist", "train", Path(folder), IMAGES)
        if options.table == "purity":
            if not done("pcp_purity", {"seed": options.seeds[0]}):
                purity(pictures, labels, shared, options.seeds[0], Path(folder))
            return
        for seed in options.seeds:  # a seed of every row before the next seed of any
            for name, method, own in table_iv(options.epochs) if options.table == "IV" else TABLES[options.table]:
                if options.rows and name not in options.rows:
                    continue
                settings = shared | own if method == "pcp" else SIZES | {"pretext_epochs": options.epochs, "final": "diffusion"} | own
                note = " ".join(f"{key}={value}" for key, value in settings.items())
                key = {"table": options.table, "row": name, "method": method, "seed": seed, "settings": note}
                if not done("pcp", key):
                    record("pcp", key | measured(pictures, labels, method, settings, seed, Path(folder) / f"{options.table}-{name}-{seed}"))


def measured(pictures: Path, labels: Path, method: str, settings: dict[str, Any], seed: int, run: Path) -> dict[str, Any]:
    """What a fit and its evaluation say."""
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    how = ("--method", method, "--preset", "garments", "--clusters", 10, "--seed", seed)
    fitted = coterie("fit", pictures, "-o", run, *how, *words)
    scores = coterie("evaluate", run, "--labels", labels, "--protocol", "clusters,knn")
    figures = {name: round(scores[name], 4) for name in ("knn_acc", "acc", "nmi", "ari", "features_kmeans_acc", "baseline_acc")}
    return {"images": IMAGES, "protocol": "whole", "fit_seconds": round(fitted["seconds"]), **figures}


def purity(pictures: Path, labels: Path, settings: dict[str, Any], seed: int, folder: Path) -> None:
    measured(pictures, labels, "pcp", settings, seed, folder / "purity")
    told = {
        row["epoch"]: row
        for row in map(json.loads, (folder / "purity" / "history.jsonl").read_text().splitlines())
        if row["stage"] == "purification"
    }
    for epoch, everyone, kept in json.loads((folder / "purity" / "metrics.json").read_text())["purity"]:
        shares = {name: told[epoch][name] for name in ("clusters", "kept", "removed", "added")}
        record("pcp_purity", {"seed": seed, "images": IMAGES, "epoch": epoch, **shares, "purity_all": everyone, "purity_kept": kept})


def plots() -> None:
    lines: Curves = {}
    for row in rows_of("pcp"):
        name = IN_THIRD.get(row["row"]) if row["table"] == "I" else row["row"].partition(",")[0] if row["table"] == "III" else None
        if name and row["seed"] == "0":
            floor = int(dict(pair.split("=") for pair in row["settings"].split())["floor"])
            lines[name] = sorted([*lines.get(name, []), (floor, float(row["knn_acc"]))])
    curves("pcp-clusters", f"{IMAGES:,} pictures of Fashion-MNIST, one seed", "N_t0, least clusters in training", "weighted kNN", lines)
    epochs = rows_of("pcp_purity")
    names = {"kept images": "purity_kept", "their whole clusters": "purity_all", "share kept": "kept"}
    lines = {title: [(int(row["epoch"]) + 1, float(row[name])) for row in epochs] for title, name in names.items()}
    curves("pcp-purity", "Purity of PCP's clusters over one run", "epoch", "share of images", lines, logarithmic=False)


if __name__ == "__main__":
    main()
