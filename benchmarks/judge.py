"""Whether the protocols that judge features tell good from bad: `python -m benchmarks.judge [--only planted retrieval detection]`.

planted     perfect answers and random ones: mAP of retrieval (10 classes, 2,000 images), and on the test part of vocmini mAP of
            its classes, of its boxes, mean IoU of masks made from its boxes; `chance` is what a random answer scores on average
retrieval   mAP on the classes 50 to 99 of Caltech-101, in alphabetical order, 160 px: pixels, an untrained EfficientNet-Lite0
            and the pretrained one; its features, mean pooling, R-MAC at one scale and at three, and whitened on the classes 0 to 49
detection   voc-detection on vocmini, the convolutions as they are, untrained and pretrained: `--epochs` of pictures of `--size` px

`--runs NAME=RUN ...`: encoders of finished runs as well, at the size they were trained with, under their seed (retrieval, detection). The
rows of `scan`, `deepcluster` are of photographs that no label was read of:

    coterie fit photos -o RUN --method scan|deepcluster --encoder small --clusters 50 --seed 100 --time-budget 8m --threads 1

where photos are the classes 0 to 49 of Caltech-101, none of which is looked for.

Labels are read here, and by nothing that learned these features. `seconds` are those of a row's own work on this machine, however busy.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import folder as data_folder
from benchmarks.photos import unpacked
from benchmarks.record import done, record
from coterie.evaluate import voc_detection
from coterie.evaluate.retrieval import by_class, describe, learn_whitening, regions_of
from coterie.evaluate.voc import read
from coterie.evaluate.voc_metrics import Boxes, confusion, detection, mean_average_precision, mean_iou
from coterie.images import Images, open_images
from coterie.networks.encoder import EncoderSpec, build, colour_statistics
from coterie.networks.model import Model, load
from coterie.networks.weights import load_pretrained
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import read_config
from coterie.run.seeding import forked

PX = 160
THREE = (1.0, 0.7071, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["planted", "retrieval", "detection"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--runs", nargs="+", default=[], type=lambda pair: pair.split("="), metavar="NAME=RUN")
    options = parser.parse_args()
    runs = {name: (read_config(Path(run))["seed"], load(Path(run), Devices("cpu", "fp32"))) for name, run in options.runs}
    if "planted" in options.only:
        planted_retrieval()
        planted_voc()
    if "retrieval" in options.only:
        retrieval(runs)
    if "detection" in options.only:
        detect(options.size, options.epochs, runs)


def row(protocol: str, system: str, seed: int, metric: str, value: float, n: int, seconds: float, chance: float | str = "") -> None:
    chance = chance if chance == "" else round(float(chance), 4)
    told = {"protocol": protocol, "system": system, "seed": seed, "metric": metric, "value": round(value, 4), "chance": chance, "n": n}
    record("judge", {**told, "seconds": round(seconds, 1)})
    print(told, flush=True)


def there(protocol: str, system: str, seed: int = 0) -> bool:
    return done("judge", {"protocol": protocol, "system": system, "seed": seed})


def planted_retrieval() -> None:
    rng, labels = torch.Generator().manual_seed(100), torch.arange(2000) % 10
    systems = {"perfect": torch.eye(10)[labels], "blind": torch.ones(2000, 4), "random": torch.randn(2000, 64, generator=rng)}
    for system, rows in systems.items():
        if not there("planted retrieval", system):
            start = time.perf_counter()
            row("planted retrieval", system, 0, "mAP", by_class(rows, labels).mean_ap, 2000, time.perf_counter() - start, 199 / 1999)


def planted_voc() -> None:
    test, rng = read(data_folder() / "vocmini.zip", "test"), np.random.default_rng(100)
    n, present, truth = len(test.classes), test.present(), [image.boxes for image in test.images]
    masks = [_mask(image.boxes, image.height, image.width) for image in test.images]
    shares = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=n + 1) / sum(mask.size for mask in masks)
    random_boxes = [Boxes(_shaken(image, rng), rng.integers(0, n, 20), rng.random(20)) for image in test.images]
    perfect_boxes = [Boxes(boxes.corners, boxes.labels, np.ones(len(boxes.labels))) for boxes in truth]
    table = {
        "perfect": [
            mean_average_precision(present, present)[0],
            detection(truth, perfect_boxes, n)[0],
            mean_iou(_counts(masks, masks, n))[0],
        ],
        "random": [
            mean_average_precision(present, rng.random(present.shape))[0],
            detection(truth, random_boxes, n)[0],
            mean_iou(_counts(masks, [rng.integers(0, n + 1, mask.shape) for mask in masks], n))[0],
        ],
    }
    even = np.mean(shares / (1 + n) / (shares + 1 / (1 + n) - shares / (1 + n)))  # IoU of two independent draws
    chances = (float(present.mean()), "", float(even))
    for system, values in table.items():
        names = ("planted voc-classification", "planted voc-detection", "planted voc-segmentation")
        for name, metric, value, chance in zip(names, ("mAP_all_points", "mAP", "mean_iou"), values, chances):
            if not there(name, system):
                row(name, system, 0, metric, float(value), len(test), 0.0, chance)


def _mask(boxes: Boxes, height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.int64)
    for (left, top, right, bottom), label in zip(boxes.corners.round().astype(int), boxes.labels):
        mask[top:bottom, left:right] = 1 + label
    return mask


def _counts(truth: list[np.ndarray], found: list[np.ndarray], n: int) -> np.ndarray:
    return sum((confusion(t, f, n + 1) for t, f in zip(truth, found)), np.zeros((n + 1, n + 1), np.int64))


def _shaken(image, rng: np.random.Generator) -> np.ndarray:  # noqa: ANN001
    """20 random boxes of a picture."""
    ends = rng.random((20, 2, 2)) * [image.width, image.height]
    return np.concatenate([ends.min(1), ends.max(1)], 1)


def retrieval(runs: dict[str, tuple[int, Model]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folders = [unpacked(place / str(first), range(first, first + 50)) for first in (50, 0)]
        systems = [("pixels", 0), ("lite0", 0), ("lite0 untrained", 100)]
        systems += [(name, seed) for name, (seed, _) in runs.items()]
        for name, seed in systems:
            px = runs[name][1].image_size if name in runs else PX
            sets = [open_images(folder, px, place / "cache") for folder in folders]
            labels = np.unique([Path(path).parts[-2] for path in sets[0].paths], return_inverse=True)[1]
            encoder = runs[name][1].encoder if name in runs else _encoder(name, seed, sets[0])
            rmac = {} if name == "pixels" else {"mean": ("mean", THREE[:1]), "rmac": ("rmac", THREE[:1]), "rmac, 3 scales": ("rmac", THREE)}
            for pooling, (kind, scales) in ({"features": ("features", THREE[:1])} | rmac).items():
                for whiten in (False, True):
                    system = f"{name}, {pooling}{', whitened' if whiten else ''}"
                    if there("retrieval", system, seed):
                        continue
                    start, learned = time.perf_counter(), None
                    if whiten:
                        rows = regions_of(encoder, _pixels(sets[1])) if kind == "rmac" else describe(encoder, _pixels(sets[1]), kind)
                        learned = learn_whitening(rows, 256)
                    found = by_class(describe(encoder, _pixels(sets[0]), kind, scales, whitening=learned), labels)
                    row("retrieval", system, seed, "mAP", found.mean_ap, len(labels), time.perf_counter() - start, 29 / 1499)


def _encoder(name: str, seed: int, images: Images | None = None) -> torch.nn.Module:
    with forked(seed, "judge"):
        encoder = build(EncoderSpec(name.split()[0], PX)).eval()
    if name == "lite0":
        load_pretrained(encoder)
    elif images is not None:
        encoder.standardise(*colour_statistics(images))
    return encoder


def _pixels(images: Images) -> Iterator[Tensor]:
    return (batch.pixels_B3HW for batch in images.batches(50))


def detect(size: int, epochs: int, runs: dict[str, tuple[int, Model]]) -> None:
    source = data_folder() / "vocmini.zip"
    train = read(source, "trainval")
    test = read(source, "test", train.classes)
    networks = {"lite0 untrained": (100, None), "lite0": (100, None)}
    for name, (seed, model) in (networks | runs).items():
        system = f"{name}, fc6-8, {size} px, {epochs} epochs"
        if not there("voc-detection", system, seed):
            start = time.perf_counter()
            encoder = model.encoder if model else _encoder(name, seed)
            found = voc_detection.detection(Run(seed=seed), encoder, train, test, "fc6-8", size, epochs)
            row("voc-detection", system, seed, "mAP", found["mAP"], len(test), time.perf_counter() - start)


if __name__ == "__main__":
    main()
