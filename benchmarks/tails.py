"""Kinds of different size: `python -m benchmarks.tails FEATURES.npz [--draws 10] [--ratios 1 4 10 50] [--methods scan diffusion]`.

FEATURES.npz holds x (N, D), features of EfficientNet-Lite0, and y (N,), the classes of Caltech-101's photographs, 30 of each. A draw
takes ten of the classes 50 to 99 (settings were chosen on 0 to 49), 30 photographs of the first down to 30 / ratio of the last. SCAN's
clustering stage, or the last step of DeepCluster, PCP, IR, IS and AND (diffusion: `--method kmeans --set final=diffusion`), then has
`sizes=auto`, the default; `even`, as published; and SCAN's the true sizes as `prior`. Rows: results/tails.csv.
"""

import argparse
from itertools import product

import numpy as np

from benchmarks.record import done, record
from coterie import methods
from coterie.evaluate.metrics import accuracy, balanced_accuracy
from coterie.images.collection import open_rows
from coterie.run import Run
from coterie.run.devices import Devices

FIRST_SEED, CLASSES, MOST = 100, 10, 30
METHODS = {"scan": ("scan", {}), "diffusion": ("kmeans", {"final": "diffusion"})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 4, 10, 50])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    with np.load(options.features) as file:
        x, y = file["x"], file["y"]
    for ratio in options.ratios:
        for seed in range(FIRST_SEED, FIRST_SEED + options.draws):
            rng = np.random.default_rng(seed)
            chosen = rng.choice(np.arange(50, 100), CLASSES, replace=False)
            counts = np.round(MOST * float(ratio) ** (-np.arange(CLASSES) / (CLASSES - 1))).astype(int)
            rows = np.concatenate([rng.permutation(np.flatnonzero(y == one))[:count] for one, count in zip(chosen, counts, strict=True)])
            kinds = np.unique(y[rows], return_inverse=True)[1]
            prior = ",".join(map(str, counts))
            told = {"auto": {}, "even": {"sizes": "even"}, "prior": {"prior": prior}}
            for method, sizes in product(options.methods, told):
                key = {"set": "caltech", "encoder": "lite0 192 px", "ratio": ratio, "seed": seed, "sizes": sizes, "method": method}
                if (method, sizes) != ("diffusion", "prior") and not done("tails", key):
                    tell(key, x[rows], kinds, told[sizes])


def tell(key: dict, x: np.ndarray, kinds: np.ndarray, settings: dict) -> None:
    run = Run(devices=Devices("cpu", "fp32"), seed=key["seed"])
    name, own = METHODS[key["method"]]
    method = methods.method(name)
    config = method.Config(n_clusters=CLASSES, encoder="precomputed", pretext="frozen", **own, **settings)
    labels = method.fit(open_rows(np.ascontiguousarray(x)), config, run).p_NK.argmax(1).numpy()
    noted = any("evenness" in row["text"] for row in run.history if row["stage"] == "note")
    run.close()
    sizes = np.sort(np.bincount(labels, minlength=CLASSES))[::-1]
    scores = {"acc": accuracy(kinds, labels), "balanced_acc": balanced_accuracy(kinds, labels)}
    row = key | {"images": len(x), "found_uneven": noted, "largest": sizes[0], "smallest": sizes[-1]}
    record("tails", row | {name: round(float(value), 4) for name, value in scores.items()})
    print(row, scores, flush=True)


if __name__ == "__main__":
    main()
