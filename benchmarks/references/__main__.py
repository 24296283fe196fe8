"""SPICE, which sees no label, beside what learns from some, on the paper's table V's plan.

    python -m benchmarks.references digits [--labels 4] [--seeds 3] [--only NAMES]

Each learns from the training pictures, with the true labels of so many of each class (`supervised, all`: of all), and is scored on pictures
that it has not seen: the test part of a set, of digits 500 that the seed draws. SPICE is fitted by the preset of the set on the same
pictures, and its clusters are matched with the classes on the test pictures. A row a reference and seed in references.csv; seeds begin at
100. Every reference has SPICE's batches, optimiser and network, and as many epochs, so that they differ in their loss alone; what its own
paper took is another matter.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import load_packed
from benchmarks.record import done, record
from benchmarks.references.learn import classes, learn
from benchmarks.references.losses import LOSSES
from benchmarks.run_cli import coterie
from coterie.fitting import presets
from coterie.images import Images, open_images
from coterie.images.named import load_named
from coterie.methods.spice import Config
from coterie.run import Run
from coterie.run.seeding import generator

PRESETS = {"digits": "digits", "mnist": "glyphs", "fashion_mnist": "garments", "cifar10": "cifar10"}
ALL, SPICE = "supervised, all", "spice, no label"
HELD_OUT = 500  # of digits
Part = tuple[np.ndarray, np.ndarray]  # pictures, classes


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("set", choices=PRESETS)
    words.add_argument("--images", type=int, help="the first N training pictures")
    words.add_argument("--labels", type=int, default=4, help="of each class")
    words.add_argument("--epochs", type=int, default=100)
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--first", type=int, default=100)
    words.add_argument("--only", nargs="*", default=[SPICE, ALL, *LOSSES], metavar="NAME")
    asked = words.parse_args()
    for seed in range(asked.first, asked.first + asked.seeds):
        train, test = parts(asked.set, asked.images, seed)
        for name in asked.only:
            key = {"set": asked.set, "images": len(train[0]), "reference": name, "seed": seed}
            key |= {"labels": {SPICE: 0, ALL: "all"}.get(name, asked.labels), "epochs": "" if name == SPICE else asked.epochs}
            if not done("references", key):
                begun = time.monotonic()
                acc = spice(asked.set, seed, train, test) if name == SPICE else reference(name, asked, seed, train, test)
                record("references", key | {"acc": round(acc, 4), "seconds": round(time.monotonic() - begun)})


def parts(name: str, n: int | None, seed: int) -> tuple[Part, Part]:
    """The pictures that are learned from, and those that are not."""
    if name != "digits":
        (x, y, _), (x_test, y_test, _) = load_packed(name), load_packed(name, "test")
        return (x[:n], y[:n]), (x_test, y_test)
    order = torch.randperm(1797, generator=generator(seed, "held out")).numpy()
    digits = load_named("digits")
    assert digits.labels is not None
    held, kept = order[:HELD_OUT], order[HELD_OUT:][:n]
    return (digits.pictures[kept], digits.labels[kept]), (digits.pictures[held], digits.labels[held])


def shown(labels_N: Tensor, each: int, seed: int) -> Tensor:
    """The labels of `each` pictures of a class, -1 for the others."""
    order = torch.randperm(len(labels_N), generator=generator(seed, "shown"))
    known = torch.cat([order[labels_N[order] == kind][:each] for kind in labels_N.unique()])
    return torch.full_like(labels_N, -1).index_copy(0, known, labels_N[known])


def reference(name: str, asked: argparse.Namespace, seed: int, train: Part, test: Part) -> float:
    """Accuracy on the test pictures."""
    config = Config(**{"encoder": "small"} | presets.settings("spice", PRESETS[asked.set], len(train[0]), gpu=torch.cuda.is_available()))
    every_N = torch.from_numpy(train[1]).long()
    labels_N = every_N if name == ALL else shown(every_N, asked.labels, seed)
    run = Run(seed=seed)
    network = learn("supervised" if name == ALL else name, opened(train, config), labels_N, config, asked.epochs, run)
    found_N = classes(network, opened(test, config), run)
    run.close()
    return float((found_N.numpy() == test[1]).mean())


def opened(part: Part, config: Config) -> Images:
    return open_images(np.ascontiguousarray(part[0]), size=config.image_size)


def spice(name: str, seed: int, train: Part, test: Part) -> float:
    """Accuracy on the test pictures, clusters matched with classes there (`evaluate`)."""
    with tempfile.TemporaryDirectory(prefix="references-") as place:
        files = {part: Path(place) / f"{part}.npy" for part in ("train", "test")}
        for part, (pictures, kinds) in (("train", train), ("test", test)):
            np.save(files[part], pictures)
            files[part].with_suffix(".csv").write_text("path,label\n" + "".join(f"#{i},{kind}\n" for i, kind in enumerate(kinds)))
        run, how = Path(place) / "run", ("--method", "spice", "--preset", PRESETS[name], "--clusters", 10, "--seed", seed)
        coterie("fit", files["train"], "-o", run, *how)
        labels = ("--labels", files["test"].with_suffix(".csv"), "--fitted-labels", files["train"].with_suffix(".csv"))
        return float(coterie("evaluate", run, "--on", files["test"], *labels)["acc"])


if __name__ == "__main__":
    main()
