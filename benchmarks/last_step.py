"""Features parted from the last step, digits: `python -m benchmarks.last_step [--features is pcp] [--seeds 5] [--keep DIR] [--set ...]`.

A fit a method and seed, with the preset `digits` and what `--set` changes in it; `--keep` a folder where fits stay, and are found again.
Its own result is a row ("own"). Then the same encoder, frozen, ends in each last step, by `--method kmeans --weights RUN`, whose own rule
never puts another clustering in its place: whitened features, but where the row says "as they are". "diffusion, its own labels" are those
of k-means where the rows have moved to, in place of the nearest mean of the features before they moved. True labels are read after the
fits, by `evaluate`; by the last row's own count from scikit-learn.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from benchmarks.record import done, record
from benchmarks.run_cli import coterie
from coterie.evaluate import metrics
from coterie.methods.final import Config, clusters_of
from coterie.run import Run
from coterie.run.devices import Devices

STEPS = {
    "k-means": ("final=k-means", "whiten=true"),
    "k-means as they are": ("final=k-means", "whiten=false"),
    "heads": ("final=heads", "whiten=true"),
    "heads as they are": ("final=heads", "whiten=false"),
    "diffusion": ("final=diffusion", "whiten=true"),
}
WALK = "diffusion, its own labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", nargs="+", default=["scan", "spice", "deepcluster", "pcp", "ir", "is", "and"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        keep = options.keep or Path(fresh)
        for method in options.features:
            for seed in range(options.seeds):
                ends(method, seed, " ".join(options.set), keep / f"{method}-{seed}")


def ends(method: str, seed: int, settings: str, run: Path) -> None:
    """The rows of one fit."""
    key = {"features": method, "settings": settings, "seed": seed}
    if all(done("last_step", key | {"step": step}) for step in ("own", *STEPS, WALK)):
        return
    if not (run / "assignments.parquet").exists():
        words = [word for setting in settings.split() for word in ("--set", setting)]
        coterie("fit", "digits", "-o", run, "--method", method, "--seed", seed, "--device", "cpu", *words)
    tell(key | {"step": "own"}, run)
    for step, choice in STEPS.items():
        end = run.with_name(f"{run.name}-{step.replace(' ', '-')}")
        if not (end / "assignments.parquet").exists():
            words = [word for setting in ("pretext=frozen", "image_size=16", *choice) for word in ("--set", setting)]
            coterie("fit", "digits", "-o", end, "--method", "kmeans", "--encoder", "small", "--weights", run, "--seed", seed, *words)
        tell(key | {"step": step}, end)
    z_ND = load_file(end / "features.safetensors")["features"].float()
    labels_N = walked(z_ND, seed).numpy()
    true_N = load_digits().target
    scores = {name: getattr(metrics, name)(true_N, labels_N) for name in ("accuracy", "nmi", "ari")}
    write(key | {"step": WALK}, {"acc": scores["accuracy"], **scores})


def walked(z_ND: torch.Tensor, seed: int) -> torch.Tensor:
    """k-means where diffusion ends, as coterie.methods.final does it, (N,)."""
    return clusters_of(z_ND, 10, "diffusion", Config.final_neighbors, Config.final_steps, Config.restarts,
                       Run(seed=seed, devices=Devices("cpu", "fp32", 1)))  # fmt: skip


def tell(key: dict, run: Path) -> None:
    write(key, coterie("evaluate", run, "--labels", "builtin", "--protocol", "clusters"))


def write(key: dict, scores: dict) -> None:
    if not done("last_step", key):
        record("last_step", {**key, **{name: round(scores[name], 4) for name in ("acc", "nmi", "ari")}})


if __name__ == "__main__":
    main()
