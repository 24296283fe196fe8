"""Features of the methods beside each other: `python -m benchmarks.transfer methods|blocks [...]` -> results/transfer.csv.

methods   SCAN, SPICE, DeepCluster v1 and v2, PCP, IR, IS, AND and an untrained network, one encoder ("small"), one time budget a fit, on
          the first --images of a set's train part: weighted kNN and the linear protocol on the features, tested on the first --images
          of its test part
blocks    runs of one AlexNet that lie in --keep as blocks-NAME (the commands are in benchmarks/linear.py, as arrays of imagenette96): the
          linear protocol on conv1 .. conv5, which learns from the first --images of train and is tested on val

The budget is of the clock; `cpu_seconds` says what a fit got of it. A fit that got less than half of budget x threads, as on a machine
that was stopped meanwhile, is made again, thrice at most; no label is looked at for that. Rows that are there are skipped.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.data import written
from benchmarks.photos import computed
from benchmarks.record import done, record
from benchmarks.run_cli import coterie

PRESETS = {"fashion_mnist": "garments", "cifar10": "cifar10"}
METHODS: dict[str, tuple[str, ...]] = {
    "random": ("deepcluster", "epochs=0"),
    "deepcluster": ("deepcluster",),
    "deepcluster v2": ("deepcluster", "variant=v2"),
    "pcp": ("pcp",),
    "ir": ("ir",),
    "is": ("is",),
    "and": ("and",),
    "scan": ("scan",),
    "spice": ("spice",),
}
CONVOLUTIONS = [f"conv{i}" for i in range(1, 6)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["methods", "blocks"])
    parser.add_argument("--set", choices=PRESETS, default="fashion_mnist")
    parser.add_argument("--only", nargs="+", help="methods, or names of runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=60, help="the time budget of a fit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("runs/transfer"))
    options = parser.parse_args()
    if options.what == "blocks":
        for name in options.only or ["random", "deepcluster"]:
            blocks(name, options)
        return
    for seed in options.seeds:
        for name in options.only or METHODS:
            fit_and_judge(name, seed, options)


def fit_and_judge(name: str, seed: int, options: argparse.Namespace) -> None:
    key = {
        "table": "methods", "set": options.set, "images": options.images, "run": name, "seed": seed,
        "budget_seconds": options.seconds, "threads": options.threads,
    }  # fmt: skip
    if done("transfer", key):
        return
    (train, train_labels), (test, test_labels) = (written(options.set, which, options.keep, options.images) for which in ("train", "test"))
    method, *settings = METHODS[name]
    run = options.keep / f"{name.replace(' ', '-')}-{options.set}-{options.images}-{seed}"
    words = ("--preset", PRESETS[options.set], "--encoder", "small", "--clusters", 10, "--seed", seed, "--threads", options.threads)
    words += ("--time-budget", f"{options.seconds}s", *(word for pair in settings for word in ("--set", pair)))
    for _ in range(3):
        shutil.rmtree(run, ignore_errors=True)
        before = computed()
        fitted = coterie("fit", train, "-o", run, "--method", method, *words)
        used = computed() - before
        if used > options.seconds * options.threads / 2 or fitted["seconds"] < options.seconds / 2:  # the second: it was done sooner
            break
    scores = coterie(
        "evaluate", run, "--on", test, "--labels", test_labels, "--fitted-labels", train_labels, "--train", train, "--train-labels",
        train_labels, "--protocol", "knn,linear", "--set", "blocks=features", "--device", "cpu",
    )  # fmt: skip
    row = {"block": "features", "linear": linear(run, "features"), "knn_acc": round(scores["knn_acc"], 4), "stages": epochs_of(run)}
    record("transfer", {**key, **row, "fit_seconds": round(fitted["seconds"], 1), "cpu_seconds": round(used, 1)})
    shutil.rmtree(run)


def blocks(name: str, options: argparse.Namespace) -> None:
    run = options.keep / f"blocks-{name}"
    train, train_labels = written("imagenette96", "train", options.keep, options.images)
    val, val_labels = written("imagenette96", "val", options.keep, None)
    machine = json.loads((run / "environment.json").read_text())
    config = json.loads((run / "config.json").read_text())
    for block in CONVOLUTIONS:
        key = {
            "table": "blocks", "set": "imagenette96", "images": options.images, "run": name, "seed": config["seed"],
            "budget_seconds": "", "threads": options.threads, "block": block,
        }  # fmt: skip
        if done("transfer", key):
            continue
        words = ("--labels", val_labels, "--train", train, "--train-labels", train_labels, "--set", f"blocks={block}")
        coterie("evaluate", run, "--protocol", "linear", "--on", val, *words)
        row = {"linear": linear(run, block), "knn_acc": "", "stages": epochs_of(run)}
        record("transfer", {**key, **row, "fit_seconds": round(machine["seconds"], 1), "cpu_seconds": ""})


def linear(run: Path, block: str) -> float:
    with (run / "evaluation.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "linear" and row["block"] == block]
    (value,) = [float(row["value"]) for row in rows if row["metric"] == "accuracy"]
    return round(value, 4)


def epochs_of(run: Path) -> str:
    """How many epochs of each stage were done."""
    counted: dict[str, int] = {}
    for line in (run / "history.jsonl").read_text().splitlines():
        told: dict[str, Any] = json.loads(line)
        if "images_per_second" in told:
            counted[told["stage"]] = counted.get(told["stage"], 0) + 1
    return " ".join(f"{stage.replace(' ', '-')}={epochs}" for stage, epochs in counted.items())


if __name__ == "__main__":
    main()
