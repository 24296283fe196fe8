"""The large sets, split protocol: fitted on train, scored on test. `python -m benchmarks.headline mnist [--methods scan spice]`.

A row per seed in headline.csv, one per stage in stages.csv (seconds, images per second); what is done is skipped. The run folders stay in
--keep (default runs/headline), where a fit that was killed is continued. True labels are read after the fit, by `evaluate`.
--images takes the first so many of train, a random sample in these files; --time-budget bends the preset's schedules to it.
With --shared-pretext each seed trains the preset's pretext once, with k-means on its features as a row of its own, and every method starts
from that encoder; its fit_seconds then count the pretext in. --pretext holds settings of the pretext for that.
On a GPU: `python -m benchmarks.headline cifar10 --seeds 0 --time-budget 15m`, and once more with the carried run folder to go on.
"""

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.data import written
from benchmarks.record import done, record
from benchmarks.run_cli import coterie
from coterie.run.files import read_json_lines

PRESETS = {"mnist": "glyphs", "fashion_mnist": "garments", "cifar10": "cifar10"}
Files = dict[str, tuple[Path, Path]]  # split -> pictures, labels
FIGURES = ("acc", "nmi", "ari", "many_to_one", "knn_acc", "baseline_acc", "features_kmeans_acc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=PRESETS)
    parser.add_argument("--methods", nargs="+", default=["scan"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shared-pretext", action="store_true")
    parser.add_argument("--encoder", default="small", help="of the shared pretext")
    parser.add_argument("--pretext", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--images", type=int)
    parser.add_argument("--setting", nargs="*", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--time-budget")
    parser.add_argument("--keep", type=Path, default=Path("runs/headline"))
    options = parser.parse_args()
    files = {split: written(options.set, split, options.keep, options.images if split == "train" else None) for split in ("train", "test")}
    for seed in options.seeds:
        before: tuple[object, ...] = ()
        seconds = 0.0  # of the pretext
        if options.shared_pretext:
            trained = options.keep / f"pretext-{options.set}-{options.images or 'all'}-{seed}"
            words = ("--encoder", options.encoder, *settings(["pretext=simclr", *options.pretext]))
            seconds = row_of("kmeans", seed, trained, words, " ".join(["shared pretext", *options.pretext]), files, options)
            before = ("--encoder", options.encoder, "--weights", trained / "model.safetensors", *settings(["pretext=frozen"]))
        for method in options.methods:
            run = options.keep / f"{method}-{options.set}-{options.images or 'all'}-{seed}"
            budget = ("--time-budget", options.time_budget) if options.time_budget else ()
            shared = ["shared pretext"] if options.shared_pretext else []
            note = " ".join([*shared, *options.setting, *map(str, budget)])
            row_of(method, seed, run, (*before, *settings(options.setting), *budget), note, files, options, seconds)


def settings(pairs: list[str]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def row_of(
    method: str, seed: int, run: Path, words: tuple[object, ...], note: str, files: Files, options: argparse.Namespace, earlier: float = 0.0
) -> float:
    """Fits, evaluates and records what has no row yet. Returns the seconds of the fit, without the `earlier` ones that the row adds."""
    key = {"set": options.set, "method": method, "seed": seed, "images": options.images or "all", "settings": note}
    if not done("headline", key):
        how = ("--method", method, "--preset", PRESETS[options.set], "--clusters", 10, "--seed", seed)
        fitted = coterie("fit", files["train"][0], "-o", run, *how, *words)
        before = stage_accuracy(run, files)
        labels = ("--labels", files["test"][1], "--fitted-labels", files["train"][1])
        scores = coterie("evaluate", run, "--on", files["test"][0], *labels, "--protocol", "clusters,knn")
        row = {**key, "protocol": "split", "fit_seconds": round(earlier + fitted["seconds"]), **{f: round(scores[f], 4) for f in FIGURES}}
        record("headline", row | before)
        for stage in stages(run):
            record("stages", key | stage)
    return json.loads((run / "environment.json").read_text())["seconds"]


def stages(run: Path) -> list[dict[str, float | str]]:
    """Epochs, seconds and the median of images per second of each stage that went through the images."""
    rows: dict[str, list[dict]] = {}
    for row in read_json_lines(run / "history.jsonl"):
        if "images_per_second" in row:
            rows.setdefault(row["stage"], []).append(row)
    return [
        {
            "stage": stage,
            "epochs": len(epochs),
            "seconds": round(sum(row["seconds"] for row in epochs), 1),
            "images_per_second": round(median(row["images_per_second"] for row in epochs)),
        }
        for stage, epochs in rows.items()
    ]


def stage_accuracy(run: Path, files: Files) -> dict[str, float | str]:
    """ACC on the fitted images: of the last stage, of the heads before it (chosen without labels, and the best by labels: oracle)."""
    scores = coterie("evaluate", run, "--labels", files["train"][1])
    history = [row for row in read_json_lines(run / "history.jsonl") if "scores" in row and row["stage"] == "clustering"]
    curves = dict(scores_of(run).get("clustering", []))
    best = min(history, key=lambda row: (min(row["scores"]), row["epoch"])) if history else None
    heads = curves.get(best["epoch"]) if best else None
    return {
        "train_acc": round(scores["acc"], 4),
        "clustering_acc": heads[int(np.argmin(best["scores"]))] if best and heads else "",
        "clustering_oracle": max(max(heads) for heads in curves.values()) if curves else "",
    }


def scores_of(run: Path) -> dict[str, list]:
    return json.loads((run / "metrics.json").read_text()).get("curves", {})


if __name__ == "__main__":
    main()
