"""Folders of photographs through the command a person types: `python -m benchmarks.photos [--only NAME ...] [--method scan]`.

    ten, five, twenty, fifty   draws of so many classes out of the last fifty of Caltech-101 (30 photographs each); settings were
                               chosen on the first fifty
    all                        the hundred classes, 3,000 photographs
    scratch                    every tenth class, without a pretrained encoder, as before there was one
    imagenette, cifar10, cifar20   arrays of other sets, with the same encoder
    large                      10,000 photographs of 160 px, from the folder to the report, and a second number of clusters

Every fit is a new process with an empty cache; labels are read afterwards, by `evaluate`. Rows: benchmarks/results/photos.csv.
"""

import argparse
import csv
import resource
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import folder as data_folder
from benchmarks.data import load_packed
from benchmarks.record import done, record
from benchmarks.run_cli import coterie

DRAWS = {"five": (5, 5), "ten": (10, 10), "twenty": (20, 5), "fifty": (50, 5)}  # classes, draws
ARRAYS = {"imagenette": ("imagenette96", "train", 10), "cifar10": ("cifar10", "test", 10), "cifar20": ("cifar100", "test", 20)}
FIRST_SEED = 100  # of what is reported; settings were chosen on seeds 0 to 9
KEPT = ("acc", "nmi", "ari", "baseline_acc", "features_kmeans_acc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[*DRAWS, "all", "imagenette", "cifar10", "cifar20", "scratch", "large"])
    parser.add_argument("--method", nargs="*", default=[""], help='"" is the default command')
    parser.add_argument("--draws", type=int, default=0, help="fewer draws than the table has")
    options = parser.parse_args()
    for name in options.only:
        for method in options.method:
            with tempfile.TemporaryDirectory() as temporary:
                _rows(name, method, options.draws, Path(temporary))


def _rows(name: str, method: str, draws: int, temporary: Path) -> None:
    if name in DRAWS:
        n_classes, most = DRAWS[name]
        for draw in range(draws or most):
            classes = np.random.default_rng(FIRST_SEED + draw).choice(np.arange(50, 100), n_classes, replace=False)
            photos = lambda place, chosen=classes: unpacked(place, chosen)  # noqa: E731
            _row(name, FIRST_SEED + draw, n_classes, method, photos, "folders", temporary)
    elif name == "all":
        _row(name, FIRST_SEED, 100, method, lambda place: unpacked(place, range(100)), "folders", temporary)
    elif name == "scratch":
        for seed in range(3):
            every_tenth = lambda place: unpacked(place, range(0, 100, 10))  # noqa: E731
            _row(name, FIRST_SEED + seed, 10, method, every_tenth, "folders", temporary, "--encoder", "small")
    elif name == "large":
        _row(name, FIRST_SEED, 100, method, ten_thousand, "folders", temporary)
    else:
        file, split, k = ARRAYS[name]
        _row(name, FIRST_SEED, k, method, lambda place: _array(place, file, split, k), "labels.csv", temporary)


def _row(name: str, seed: int, k: int, method: str, make: Any, labels: str, temporary: Path, *words: str) -> None:
    """One fit, timed from the command to its end, and its scores."""
    key = {"set": name, "seed": seed, "asked": method or "default"}
    if done("photos", key):
        return
    place = temporary / f"{name}-{seed}"
    source, run, cache = make(place), place / "run", place / "cache"
    chosen = ("--method", method) if method else ()
    start, before = time.monotonic(), computed()
    fitted = coterie("fit", source, "-o", run, "--clusters", k, "--seed", seed, "--cache", cache, *chosen, *words)
    whole, cores = time.monotonic() - start, computed() - before
    start = time.monotonic()
    coterie("report", run)
    reported = time.monotonic() - start
    truth = labels if labels == "folders" else place / labels
    scores = coterie("evaluate", run, "--labels", truth)
    again: float | str = ""
    if name == "large":
        start = time.monotonic()
        coterie("fit", source, "-o", place / "again", "--clusters", 50, "--seed", seed, "--cache", cache, *chosen, *words)
        again = round(time.monotonic() - start, 1)
    settings = coterie("show", run)
    record(
        "photos",
        {
            **key, "method": fitted["method"], "encoder": settings["encoder"], "px": settings["image_size"], "n": fitted["n_images"],
            "clusters": k, "protocol": "whole", **{figure: round(scores[figure], 4) for figure in KEPT}, "fit_seconds": round(whole, 1),
            "fit_cpu_seconds": round(cores, 1),
            "report_seconds": round(reported, 1), "second_k_seconds": again, "verdict": fitted.get("verdict", ""),
        },
    )  # fmt: skip


def computed() -> float:
    """Seconds that all ended child processes have computed, on all cores: unlike those of the clock the same on a busy machine, nearly."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def unpacked(place: Path, numbers: Any) -> Path:
    """A folder with these classes of the file, by their place in the alphabet."""
    with zipfile.ZipFile(data_folder() / "caltech101_photos160.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        classes = sorted({name.split("/")[-2] for name in names})
        chosen = {classes[int(number)] for number in numbers}
        archive.extractall(place, [name for name in names if name.split("/")[-2] in chosen])
    return place / "photos"


def ten_thousand(place: Path) -> Path:
    """10,000 different photographs of 160 px: the 3,000, mirrored ones and enlarged middles of them, as JPEG files."""
    from PIL import Image, ImageOps

    photos = unpacked(place, range(100))
    originals = sorted(photos.rglob("*.jpg"))
    made = [lambda picture: ImageOps.mirror(picture), lambda picture: _middle(picture), lambda picture: ImageOps.mirror(_middle(picture))]
    for i in range(10_000 - len(originals)):
        path = originals[i % len(originals)]
        with Image.open(path) as picture:
            made[i // len(originals)](picture).save(path.with_name(f"{path.stem}-{i // len(originals)}.jpg"), quality=90)
    return photos


def _middle(picture: Any) -> Any:
    wide, high = picture.size
    return picture.crop((wide // 10, high // 10, wide - wide // 10, high - high // 10)).resize((wide, high))


def _array(place: Path, file: str, split: str, k: int) -> Path:
    """An .npy of the set's pictures, and its labels beside it as labels.csv."""
    place.mkdir()
    pictures, labels, _ = load_packed(file, split)
    if k == 20:
        with np.load(data_folder() / f"{file}.npz") as packed:
            labels = packed[f"{split}_coarse_labels"]
    np.save(place / "pictures.npy", pictures)
    with open(place / "labels.csv", "w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["path", "label"])
        rows.writerows((f"#{i}", int(label)) for i, label in enumerate(labels))
    return place / "pictures.npy"


if __name__ == "__main__":
    main()
