"""How many kinds are found without being told. Rows go to benchmarks/results/choosing_k.csv; true classes only make the draws.

    python -m benchmarks.choosing_k caltech --features FEATURES.npz     # 30 draws of 3 to 50 of the classes 50 to 99, seeds 100 to 129
    python -m benchmarks.choosing_k imagenette --features FEATURES.npz  # 10 draws of 3 to 10 classes, from row 5,000 on
    python -m benchmarks.choosing_k digits                              # 5 draws of 3 to 10 classes, each with a pretext of its own; so are
    python -m benchmarks.choosing_k mnist [--pictures 2000] [--epochs 40] [--draws 5]   # these, each of so many pictures
    python -m benchmarks.choosing_k fashion_mnist
    python -m benchmarks.choosing_k planted                             # noise, one, two and 200 blobs; what 10,000 x 1,280 takes

FEATURES.npz holds x (N, D) and y (N,); without it the features are those of EfficientNet-Lite0 at 192 px, made here and kept in the cache.
`epochs`: of the pretext, where it was shortened, else 0. Seconds are of the count alone, on one thread.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.data import load_packed
from benchmarks.photos import unpacked
from benchmarks.record import done, record
from coterie import fitting
from coterie.fitting.features import features
from coterie.learning.counting import count
from coterie.methods import pretext
from coterie.run import Run, seeding
from coterie.run.devices import Devices

FIRST_SEED = 100
SCRATCH = {"digits": "digits", "mnist": "glyphs", "fashion_mnist": "garments"}  # and the preset of each
PICTURES = 2000


def counted(name: str, seed: int, classes: int, z_ND: torch.Tensor, epochs: int = 0) -> None:
    """Counts and writes the row."""
    if done("choosing_k", {"set": name, "seed": seed, "images": len(z_ND), "epochs": epochs}):
        return
    start = time.perf_counter()
    found = count(z_ND, seeding.generator(seed, "counting"))
    seconds = round(time.perf_counter() - start, 1)
    row = {"set": name, "seed": seed, "classes": classes, "images": len(z_ND), "k": found.k, "low": found.low, "high": found.high}
    record("choosing_k", row | {"seconds": seconds, "epochs": epochs})
    print(*row.values(), "right" if abs(found.k - classes) <= max(1, classes / 10) else "WRONG", flush=True)


def drawn(seed: int, among: np.ndarray, most: int) -> np.ndarray:
    """3 to `most` of these classes."""
    rng = np.random.default_rng(seed)
    return rng.choice(among, int(rng.integers(3, most + 1)), replace=False)


def caltech(file: Path | None) -> None:
    x, y = known(file) if file else made_here()
    for seed in range(FIRST_SEED, FIRST_SEED + 30):
        chosen = drawn(seed, np.arange(50, 100), 50)
        counted("caltech", seed, len(chosen), x[np.isin(y, chosen)])


def imagenette(file: Path) -> None:
    x, y = (rows[5000:] for rows in known(file))
    for seed in range(FIRST_SEED, FIRST_SEED + 10):
        chosen = drawn(seed, np.arange(10), 10)
        counted("imagenette", seed, len(chosen), x[np.isin(y, chosen)])


def scratch(name: str, pictures: int, epochs: int, draws: int) -> None:
    """Subsets whose features are learned from them alone."""
    images, y = pictures_of(name)
    for seed in range(FIRST_SEED, FIRST_SEED + draws):
        chosen = drawn(seed, np.arange(10), 10)
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(y, chosen)))[:pictures]
        if not done("choosing_k", {"set": name, "seed": seed, "images": len(rows), "epochs": epochs}):
            counted(name, seed, len(chosen), learned(images[np.sort(rows)], SCRATCH[name], seed, epochs), epochs)


def pictures_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and classes of a set without a pretrained encoder."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return (load_digits().images * (255 / 16)).round().astype(np.uint8), load_digits().target
    images, y, _ = load_packed(name)
    return images, y


def learned(images: np.ndarray, preset: str, seed: int, epochs: int) -> torch.Tensor:
    """Features of SCAN's pretext on these pictures alone, on one thread."""
    run = Run(seed=seed, devices=Devices("cpu", "fp32", 1))
    opened, plan = fitting.plan(images, "scan", preset=preset, settings={"pretext_epochs": epochs} if epochs else {})
    z_ND = pretext.features_of(pretext.train(opened, plan.config, run), opened, plan.config, run)
    run.close()
    return z_ND


def planted() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + 3):
        rng = torch.Generator().manual_seed(seed)
        counted("noise", seed, 1, torch.randn(600, 64, generator=rng))
        counted("one blob", seed, 1, torch.randn(1, 64, generator=rng) * 3 + torch.randn(600, 64, generator=rng))
        for name, kinds, each, width in (("two tight blobs", 2, 100, 16), ("200 blobs", 200, 15, 16)):
            centres = torch.randn(kinds, width, generator=rng).repeat_interleave(each, 0)
            counted(name, seed, kinds, centres + 0.05 * torch.randn(centres.shape, generator=rng))
    rng = torch.Generator().manual_seed(FIRST_SEED)
    centres = torch.randn(40, 1280, generator=rng).repeat_interleave(250, 0)
    counted("10,000 x 1,280", FIRST_SEED, 40, 2 * centres + torch.randn(centres.shape, generator=rng))


def known(file: Path) -> tuple[torch.Tensor, np.ndarray]:
    with np.load(file, allow_pickle=False) as held:
        return torch.from_numpy(held["x"]).float(), held["y"]


def made_here() -> tuple[torch.Tensor, np.ndarray]:
    """The features of Caltech-101's photographs, and their classes by the alphabet."""
    with tempfile.TemporaryDirectory() as place:
        made = features(unpacked(Path(place), range(100)), "lite0", image_size=192)
    names = [Path(path).parts[-2] for path in made.paths]
    return torch.from_numpy(made.features_ND), np.unique(names, return_inverse=True)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=["caltech", "imagenette", *SCRATCH, "planted"])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--epochs", type=int, default=0, help="of the pretext; 0: as many as the preset has")
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.set == "caltech":
        caltech(args.features)
    elif args.set == "imagenette":
        if not args.features:
            parser.error("imagenette needs --features")
        imagenette(args.features)
    elif args.set == "planted":
        planted()
    else:
        scratch(args.set, args.pictures, args.epochs, args.draws)


if __name__ == "__main__":
    main()
