"""What confidence is worth before and after it is calibrated without labels. Rows go to benchmarks/results/confidence.csv.

    python -m benchmarks.confidence FEATURES.npz --set caltech --classes 10 --of 50:100 --draws 5 --first-draw 100
    python -m benchmarks.confidence FEATURES.npz --set cifar10 --first 5000 [--method kmeans]
    python -m benchmarks.confidence RUN ... --set digits                                  # finished runs: their own clusters

FEATURES.npz holds x (N, D) and y (N,), the true classes, which are read only to count and to score; heads of `--method` learn on x.
ece: expected calibration error (15 bins) of the probabilities as the method gives them, calibrated, and with the temperature that knows
the accuracy. aurc: area under the risk-coverage curve. errors: share of all errors among the least certain 5 %, by the rule of
`--unsure`, by calibrated confidence alone, and the most that 5 % can hold; 1 where there is no error. by_diffusion: whether the witness was
k-means after diffusion.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.heads import draws
from benchmarks.record import done, record
from coterie.evaluate.labels import Labels, labels_of
from coterie.evaluate.metrics import accuracy, expected_calibration_error, risk_coverage_area
from coterie.evaluate.protocol import without
from coterie.fitting.confidence import assured
from coterie.images.collection import open_rows
from coterie.learning.calibration import temperature
from coterie.learning.witness import KINDS
from coterie.methods import method
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_assignments, read_config, read_features, read_json

SHARE = 0.05


class Given(nn.Module):
    """A head that knows its answer."""

    def __init__(self, logits_NK: Tensor):
        super().__init__()
        self.logits_NK = logits_NK

    def forward(self, features_ND: Tensor) -> Tensor:
        return self.logits_NK[None]


def measured(fitted: Fitted, y: np.ndarray, k: int, seed: int) -> dict[str, float]:
    run = Run(seed=seed, devices=Devices("cpu", "fp32", 1))
    begun = time.perf_counter()
    sure = assured(fitted, PretextConfig(n_clusters=k, unsure=SHARE), run)
    seconds = time.perf_counter() - begun
    run.close()
    raw, p = fitted.p_NK.numpy(), sure.fitted.p_NK.numpy()
    acc = accuracy(y, p.argmax(1))
    logits_NK = fitted.head(fitted.features_ND)[0].detach().float()
    knowing = (logits_NK / temperature(logits_NK, acc)).softmax(1).numpy()
    truth, count = Labels(y, [str(c) for c in range(int(y.max()) + 1)]), int(sure.unsure_N.sum())
    by_confidence = np.isin(np.arange(len(y)), np.argsort(p.max(1), kind="stable")[:count])
    held = {
        f"errors_{name}": without(truth, p, some)["share_of_errors"]
        for name, some in (("unsure", sure.unsure_N.numpy()), ("confidence", by_confidence))
    }
    wrong = round((1 - acc) * len(y))
    found = {"acc": acc, "agreed": sure.told.get("agreed", 0.0), "temperature": sure.temperature}
    found |= {f"ece_{name}": expected_calibration_error(y, q) for name, q in (("raw", raw), ("calibrated", p), ("knowing", knowing))}
    found |= {"aurc_raw": risk_coverage_area(y, raw), "aurc_calibrated": risk_coverage_area(y, p)}
    found |= held | {"errors_most": min(1.0, count / wrong) if wrong else 1.0}
    found |= {"by_diffusion": float(sure.told["witness"] == KINDS[1])}
    return {name: 1.0 if value is None else round(float(value), 4) for name, value in found.items()} | {"seconds": round(seconds, 2)}


def of_features(x: np.ndarray, k: int, seed: int, name: str) -> Fitted:
    home = method(name)
    run = Run(seed=seed, devices=Devices("cpu", "fp32", 1))
    fitted = home.fit(open_rows(x), home.Config(n_clusters=k, encoder="precomputed", pretext="frozen"), run)
    run.close()
    return fitted


def of_run(folder: Path) -> tuple[Fitted, np.ndarray, dict]:
    """The clusters of a finished run with the probabilities of its method, and the labels of its source."""
    table, made = read_assignments(folder), read_config(folder)
    told = read_json(folder / "environment.json").get("confidence", {})
    logits_NK = torch.from_numpy(probabilities(table)).clamp(min=1e-30).log() * told.get("temperature", 1.0)
    z_ND = torch.from_numpy(read_features(folder, len(table)).astype(np.float32))
    y = labels_of(made["source"], table["path"].to_pylist(), None).values
    return Fitted(nn.Identity(), Given(logits_NK), z_ND, logits_NK.softmax(1)), y, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--set", required=True)
    parser.add_argument("--classes", type=int, default=0)
    parser.add_argument("--of", default="0:50")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--first-draw", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="rows taken, 0: all")
    parser.add_argument("--method", default="scan")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for path in given.sources:
        if path.suffix != ".npz":
            fitted, y, made = of_run(path)
            key = {"set": given.set, "method": made["method"], "classes": fitted.p_NK.shape[1], "of": "all", "draw": made["seed"]}
            tell(key, lambda one=(fitted, y): one)
            continue
        with np.load(path, allow_pickle=False) as file:
            x, y = (file[name][: given.first or None] for name in "xy")
        for number, rows in draws(y, given.classes, given.of, given.draws, given.first_draw):
            k, of = len(np.unique(y[rows])), given.of if given.classes else "all"
            key = {"set": given.set, "method": given.method, "classes": k, "of": of, "draw": number}
            tell(key, partial(drawn, x[rows], y[rows], k, number, given.method))


def drawn(x: np.ndarray, y: np.ndarray, k: int, seed: int, name: str) -> tuple[Fitted, np.ndarray]:
    return of_features(x, k, seed, name), y


def tell(key: dict, make) -> None:
    if done("confidence", key):
        return
    fitted, y = make()
    found = measured(fitted, np.unique(y, return_inverse=True)[1], key["classes"], key["draw"])
    record("confidence", {**key, "images": len(y), **found})
    print(*(f"{name} {value}" for name, value in {**key, **found}.items()), flush=True)


if __name__ == "__main__":
    main()
