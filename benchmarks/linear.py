"""The linear protocol: `python -m benchmarks.linear [--rows planted speed] [--threads 2]` -> results/linear.csv, linear_speed.csv.

planted   10 classes, 5,000 rows train, 5,000 test: perfect features (the class itself), random ones, and classes that overlap by both ways
speed     50,000 rows of 512 numbers, 10 classes that overlap: L-BFGS of the house with its choice of l2 and without, and scikit-learn's
          LogisticRegression (lbfgs, its default C, tolerance and at most 200 iterations) on the same standardised rows; three rounds in
          turns, of which `cpu_seconds` are what was computed and say less about who else was there -> results/linear_speed.csv

What the paper's table asks, conv1 .. conv5 of a random network beside those of a trained one, is four commands; --threads and a GPU decide
how long they take. `photos` is the folder of imagenette96's pictures, one folder a class.

    coterie fit photos -o random --method deepcluster --encoder alexnet-sobel --set image_size=96 --set epochs=0
    coterie fit photos -o trained --method deepcluster --encoder alexnet-sobel --set image_size=96 --time-budget 20m
    coterie evaluate random --protocol linear --labels folders
    coterie evaluate trained --protocol linear --labels folders
"""

import argparse
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.record import done, record
from coterie.evaluate import classifier
from coterie.run import seeding

CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=["planted", "speed"], choices=["planted", "speed"])
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.rows:
        (planted if name == "planted" else speed)(asked.threads)


def planted(threads: int) -> None:
    for features in ("perfect", "random", "overlapping"):
        for how in ("lbfgs", "sgd"):
            train, test = (made(features, 5000, 64, part) for part in ("train", "test"))
            measure("planted " + features, how, threads, train, test)


def speed(threads: int) -> None:
    for turn in range(3):
        for how in ("lbfgs", "lbfgs, one l2", "scikit-learn"):
            train, test = made("overlapping", 50_000, 512, "train"), made("overlapping", 10_000, 512, "test")
            measure("speed", how, threads, train, test, turn)


def made(features: str, n: int, d: int, part: str) -> tuple[torch.Tensor, np.ndarray]:
    """n rows float32 of d numbers, and their classes."""
    rng = seeding.generator(0, "linear", features, part)
    labels_N = torch.randint(CLASSES, (n,), generator=rng)
    noise_ND = torch.randn(n, d, generator=rng)
    if features == "perfect":
        return torch.nn.functional.one_hot(labels_N, d).float(), labels_N.numpy()
    if features == "random":
        return noise_ND, labels_N.numpy()
    means_CD = torch.randn(CLASSES, d, generator=seeding.generator(0, "linear", "means")) * (6 / d) ** 0.5
    return means_CD[labels_N] + noise_ND, labels_N.numpy()


def measure(
    table: str,
    how: str,
    threads: int,
    train: tuple[torch.Tensor, np.ndarray],
    test: tuple[torch.Tensor, np.ndarray],
    turn: int | None = None,
) -> None:
    table_file, turns = ("linear", {}) if turn is None else ("linear_speed", {"turn": turn})
    key = {"what": table, "how": how, "threads": threads, "n": len(train[1]), "d": train[0].shape[1], "classes": CLASSES, **turns}
    if done(table_file, key):
        return
    (rows_ND, labels_N), (rows_MD, labels_M) = train, test
    started, computed, rng = time.monotonic(), time.process_time(), seeding.generator(0, "linear", how)
    if how == "scikit-learn":
        mean_D, deviation_D = classifier.standardise(rows_ND)
        found = LogisticRegression(max_iter=200).fit(rows_ND.numpy(), labels_N)
        seconds, used, l2 = time.monotonic() - started, time.process_time() - computed, 1 / len(labels_N)
        told_M = found.predict(((rows_MD - mean_D) / deviation_D).numpy())
    else:
        before = classifier.L2
        classifier.L2 = (1 / len(labels_N),) if how == "lbfgs, one l2" else before
        try:
            fitted = (classifier.sgd if how == "sgd" else classifier.lbfgs)(rows_ND, labels_N, CLASSES, rng)
        finally:
            classifier.L2 = before
        seconds, used, l2 = time.monotonic() - started, time.process_time() - computed, fitted.l2
        told_M = fitted.probabilities(rows_MD).argmax(1).numpy()
    accuracy = float((told_M == labels_M).mean())
    clock = {"seconds": round(seconds, 2)} | ({} if turn is None else {"cpu_seconds": round(used, 2)})
    record(table_file, key | {"accuracy": round(accuracy, 4), "l2": l2, **clock})


if __name__ == "__main__":
    main()
