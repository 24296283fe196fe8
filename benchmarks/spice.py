"""SPICE's ablations, one pretext a seed for all rows: `python -m benchmarks.spice digits [--tables stages losses views] [--seeds 5]`.

stages  table IV of the paper and more: k-means, SCAN before and after self-labelling, SPICE after its second and its third stage
losses  table VII: one part of the second stage replaced by another
views   table VIII: weak or strong views for making the labels, and for learning them
reliable  figure 7 and what follows it: joint training on all images, on the reliable ones, on those of other rules

Whole protocol. True labels are read after each fit, by `evaluate`; `oracle` is the best head of any traced epoch by labels; `precision`
and `share` are those of the reliable labels. Rows done are skipped; the runs stay in --keep.
"""

import argparse
from pathlib import Path

from benchmarks.data import written
from benchmarks.record import done, record
from benchmarks.run_cli import coterie
from coterie.run.files import read_json

SELF = "joint_epochs=0"
TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "stages": {"scan, heads": ("scan", "selflabel_epochs=0"), "scan": ("scan",), "spice, heads": ("spice", SELF), "spice": ("spice",)},
    "losses": {
        "spice, heads": ("spice", SELF),
        "no overlap": ("spice", SELF, "overlap=false"),
        "joint, one head": ("spice", SELF, "train_encoder=true", "n_heads=1"),
        "joint, ten heads": ("spice", SELF, "train_encoder=true"),
        "entropy": ("spice", SELF, "entropy_above=1"),
        "cross-entropy": ("spice", SELF, "double_softmax=false"),
        "cross-entropy at 0.2": ("spice", SELF, "double_softmax=false", "temperature=0.2"),
    },
    "views": {
        f"{label}, {train}": ("spice", SELF, f"label_view={label}", f"train_view={train}")
        for label, train in (("weak", "weak"), ("strong", "weak"), ("strong", "strong"), ("weak", "strong"))
    },
    "reliable": {
        "reliable": ("spice",),
        "all": ("spice", "select_reliable=false"),
        "as published": ("spice", "reliable_ratio=0.9", "reliable_bar=0.99", "reliable_balance=true"),
    },
}
PRESETS = {"digits": "digits", "fashion_mnist": "garments"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=PRESETS)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--rows", nargs="+", help="of the tables, only these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000, help="the first so many of Fashion-MNIST")
    parser.add_argument("--keep", type=Path, default=Path("runs/spice"))
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    digits = options.set == "digits"
    source, labels = ("digits", "builtin") if digits else written(options.set, "train", options.keep, options.images)
    how = ("--preset", PRESETS[options.set], "--clusters", 10)
    for seed in range(options.seeds):
        pretext = options.keep / f"{options.set}-{seed}-pretext"
        k_means = ("--method", "kmeans", "--encoder", "small", "--set", "pretext=simclr")
        row("stages", "k-means", (*k_means, *how), pretext, seed, source, labels)
        start = ("--encoder", "small", "--set", "pretext=frozen", "--weights", pretext / "model.safetensors")
        for table in options.tables:
            for name, (method, *settings) in TABLES[table].items():
                if options.rows and name not in options.rows:
                    continue
                words = [word for setting in settings for word in ("--set", setting)]
                run = options.keep / "-".join([options.set, str(seed), method, *settings])
                row(table, name, ("--method", method, *how, *start, *words), run, seed, source, labels)


def row(table: str, name: str, words: tuple[object, ...], run: Path, seed: int, source: object, labels: object) -> None:
    key = {"table": table, "set": run.name.split("-")[0], "row": name, "seed": seed}
    if done("spice", key):
        return
    fitted = coterie("fit", source, "-o", run, "--seed", seed, *words)
    scores = coterie("evaluate", run, "--labels", labels)
    curves = read_json(run / "metrics.json").get("curves", {})
    heads = [max(accuracies) for stage in ("clustering", "prototypes") for _, accuracies in curves.get(stage, [])]
    trusted = scores.get("reliable", {"share": "", "precision": ""})
    figures = {name: round(scores[name], 4) for name in ("acc", "nmi", "ari")} | {"oracle": max(heads, default="")}
    record("spice", key | {"images": fitted["n_images"], "seconds": round(fitted["seconds"], 1)} | figures | trusted)


if __name__ == "__main__":
    main()
