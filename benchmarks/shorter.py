"""What a pretext gives in the same time: `python -m benchmarks.shorter cifar10 50000 --seconds 150 [--seeds 3] [--first 100] SETTINGS ...`.

SETTINGS is one word a line of the table, "pretext_optimizer=muon,pretext_rate=0.04"; "default" changes nothing. SimCLR learns for so many
seconds, its schedule by the clock, on the first N training images. Then, on the first 10,000 of these: how many of an image's 20 nearest
ones have its label by their majority (majority_acc), k-means (kmeans_acc) and SCAN's heads (heads_acc) by labels that chose nothing.
A row a line and seed; rows that are there are not measured again. Pin it to a core (taskset) where others work.
"""

import argparse
import time

import numpy as np
import torch

from benchmarks.data import load_packed
from benchmarks.record import done, record
from coterie.clustering.kmeans import kmeans
from coterie.evaluate.knn import weighted_knn
from coterie.evaluate.metrics import accuracy
from coterie.fitting import presets
from coterie.images import open_images
from coterie.methods import pretext, scan
from coterie.methods.pretext.loop import SHARE
from coterie.networks.encoder import features
from coterie.run import Run
from coterie.run.devices import Devices

PRESETS = {"mnist": "glyphs", "fashion_mnist": "garments", "cifar10": "cifar10", "cifar100": "cifar10", "imagenette96": "photos"}
JUDGED, NEAREST, ALIKE = 10_000, 20, 1e3  # images; neighbours, and a temperature at which they count alike
MANY = 100_000  # epochs, more than the clock allows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=PRESETS)
    parser.add_argument("images", type=int)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=100)
    asked = parser.parse_args()
    pixels, labels, _ = load_packed(asked.set)
    devices = Devices()
    for seed in range(asked.first, asked.first + asked.seeds):
        for words in asked.settings:
            key = {"set": asked.set, "images": asked.images, "settings": words, "budget": asked.seconds, "threads": torch.get_num_threads()}
            key["seed"] = seed
            if not done("shorter", key):
                config = configured(asked.set, asked.images, words)
                figures = measured(pixels[: asked.images], labels[: min(JUDGED, asked.images)], config, asked.seconds, seed, devices)
                record("shorter", key | figures)


def configured(name: str, n: int, words: str) -> scan.Config:
    """The preset of the set, with what the words change."""
    told = dict(word.split("=", 1) for word in words.split(",") if "=" in word)
    own = presets.settings("scan", PRESETS[name], n, gpu=False)
    told = {field: type(getattr(scan.Config(), field))(value) for field, value in told.items()}
    small = {} if own.get("encoder", "auto") != "auto" else {"encoder": "small"}  # from scratch, whatever is installed
    return scan.Config(**own | small | {"n_clusters": 10} | told | {"pretext_epochs": MANY})


def measured(pixels: np.ndarray, labels: np.ndarray, config: scan.Config, seconds: float, seed: int, devices: Devices) -> dict:
    images = open_images(np.ascontiguousarray(pixels), size=config.image_size)
    run = Run(seed=seed, devices=devices, time_budget=seconds / SHARE)
    begun = time.monotonic()
    encoder = pretext.train(images, config, run)
    took = time.monotonic() - begun
    some, run.ends = images[: len(labels)], float("inf")
    z_ND = features(encoder, some, run)
    heads = scan.cluster(z_ND, scan.neighbours(z_ND, config, run), config, run)
    theirs_N = weighted_knn(z_ND - z_ND.mean(0), labels, n_neighbors=NEAREST, temperature=ALIKE).numpy()
    found = kmeans(z_ND, config.n_clusters, run.rng("k-means"))
    shown = [row for row in run.history if row["stage"] == "pretext"]
    seen = sum(row["images_per_second"] * row["seconds"] for row in shown)
    run.close()
    return {
        "seconds": round(took, 1),
        "images_per_second": round(seen / took),
        "loss": shown[-1]["loss"],
        "majority_acc": round(float((theirs_N == labels).mean()), 4),
        "kmeans_acc": round(accuracy(labels, found.labels_N.numpy()), 4),
        "heads_acc": round(accuracy(labels, heads(z_ND)[0].argmax(1).numpy()), 4),
    }


if __name__ == "__main__":
    main()
