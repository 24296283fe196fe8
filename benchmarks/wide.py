"""SPICE on given features of 1,280 dimensions, 300 rows, ten well-parted kinds: `python -m benchmarks.wide`. Seconds of a whole fit."""

import time

import numpy as np

from benchmarks.record import record
from coterie import SPICE
from coterie.evaluate.metrics import accuracy


def main() -> None:
    rng = np.random.default_rng(0)
    kinds = np.arange(300) % 10
    rows_ND = (rng.normal(size=(10, 1280))[kinds] + rng.normal(size=(300, 1280))).astype(np.float32)
    begun = time.monotonic()
    labels_N = SPICE(10, encoder="precomputed", random_state=0, threads=1, device="cpu").fit(rows_ND).labels_
    row = {"method": "spice", "rows": 300, "dimensions": 1280, "threads": 1, "seed": 0}
    record("wide", {**row, "fit_seconds": round(time.monotonic() - begun, 1), "acc": round(accuracy(kinds, labels_N), 4)})


if __name__ == "__main__":
    main()
