"""Kinds of different size: `python -m benchmarks.tails FEATURES.npz [--draws 10] [--ratios 1 4 10 50] [--methods scan diffusion]`.

FEATURES.npz holds x (N, D) and y (N,): features of EfficientNet-Lite0 and the classes of Caltech-101's photographs, 30 of each; or with
`--set digits` or `mnist` what benchmarks.learned made of these (the pretext saw the whole set, of even classes). A draw takes ten of the
classes 50 to 99 (settings were chosen on 0 to 49), 30 photographs of the first down to 30 / ratio of the last; of digits all ten in a
random order, from 150 on, of MNIST from 800 on. A fit of SCAN's heads, of SPICE's, or of the last step of DeepCluster, PCP, IR, IS and AND
(diffusion: `--method kmeans --set final=diffusion`), then has `sizes=auto`, the default; `even`, as published; and SCAN's the true sizes
as `prior`, or another prior that needs no truth. `returned`: what the fit gave back in the end. Rows: results/tails.csv.
"""

import argparse
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.choosing_k import FIRST_SEED
from benchmarks.record import done, record
from coterie import fitting
from coterie.evaluate.metrics import accuracy, balanced_accuracy
from coterie.run.devices import Devices
from coterie.run.files import read_assignments, read_json

CLASSES = 10
MOST = {"caltech": 30, "digits": 150, "mnist": 800}  # of the largest class
METHODS = {"scan": ("scan", {}), "spice": ("spice", {}), "diffusion": ("kmeans", {"final": "diffusion"})}
TOLD = {"auto": {}, "even": {"sizes": "even"}, "uneven": {"sizes": "uneven"}}
PRIORS = ("prior", "estimated", "power-law")  # the true sizes, and what SCAN finds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features")
    parser.add_argument("--set", choices=MOST, default="caltech")
    parser.add_argument("--encoder", default="lite0 192 px")
    parser.add_argument("--of", default="50:100", help="the classes to draw from")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first-draw", type=int, default=FIRST_SEED)
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 4, 10, 50])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["scan", "diffusion"])
    parser.add_argument("--sizes", nargs="+", choices=[*TOLD, *PRIORS], default=["auto", "even", "prior"])
    options = parser.parse_args()
    with np.load(options.features) as file:
        x, y = file["x"], file["y"]
    low, high = (int(word) for word in options.of.split(":"))
    for ratio, seed in product(options.ratios, range(options.first_draw, options.first_draw + options.draws)):
        rng = np.random.default_rng(seed)
        chosen = rng.choice(np.arange(low, high), CLASSES, replace=False)
        counts = np.round(MOST[options.set] * float(ratio) ** (-np.arange(CLASSES) / (CLASSES - 1))).astype(int)
        rows = np.concatenate([rng.permutation(np.flatnonzero(y == one))[:count] for one, count in zip(chosen, counts, strict=True)])
        kinds = np.unique(y[rows], return_inverse=True)[1]
        priors = {name: {"prior": ",".join(map(str, counts)) if name == "prior" else name} for name in PRIORS}
        for method, sizes in product(options.methods, options.sizes):
            key = {"set": options.set, "encoder": options.encoder, "of": options.of, "ratio": ratio, "seed": seed}
            key |= {"sizes": sizes, "method": method}
            if (method == "scan" or sizes in TOLD) and not done("tails", key):
                tell(key, x[rows], kinds, (TOLD | priors)[sizes])


def tell(key: dict, x: np.ndarray, kinds: np.ndarray, settings: dict) -> None:
    """What a fit through the door returns."""
    method, own = METHODS[key["method"]]
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        given = {"encoder": "precomputed", **own, **settings}
        images, plan = fitting.plan(np.ascontiguousarray(x), method, clusters=CLASSES, settings=given, seed=key["seed"])
        fitting.fit(images, plan, run, devices=Devices("cpu", "fp32", 1))
        labels = read_assignments(run)["cluster"].to_numpy()
        returned = read_json(run / "environment.json")["evidence"]["returned"]
    sizes = np.sort(np.bincount(labels, minlength=CLASSES))[::-1]
    scores = {"acc": accuracy(kinds, labels), "balanced_acc": balanced_accuracy(kinds, labels)}
    row = key | {"images": len(x), "returned": returned, "largest": sizes[0], "smallest": sizes[-1]}
    record("tails", row | {name: round(float(value), 4) for name, value in scores.items()})
    print(row, scores, flush=True)


if __name__ == "__main__":
    main()
