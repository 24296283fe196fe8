"""What a fit says it will take beside what it took: `python -m benchmarks.estimate [--only photos scan ...]`.

A row a fit, the cache empty before each, with the seconds that the probe told and those of the fit that followed it at once, both
without the decoding, which is over when the estimate is made. Target: a ratio within 0.7 and 1.3.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import load_packed
from benchmarks.photos import unpacked
from benchmarks.record import done, record
from coterie import fitting
from coterie.fitting.estimate import estimate
from coterie.run.devices import Devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(FITS))
    options = parser.parse_args()
    for name in options.only:
        if not done("estimate", {"fit": name}):
            with tempfile.TemporaryDirectory() as temporary:
                tell(name, Path(temporary))


def tell(name: str, place: Path) -> None:
    make, method, k, settings = FITS[name]
    devices = Devices("cpu", "fp32")
    images, plan = fitting.plan(make(place), method, clusters=k, settings=settings, cache=place / "cache")
    begun = time.monotonic()
    said = estimate(images, plan, devices, place / "cache")
    probe = time.monotonic() - begun
    begun = time.monotonic()
    fitting.fit(images, plan, place / "run", devices=devices, cache=place / "cache")
    took = time.monotonic() - begun
    row: dict[str, Any] = {"fit": name, "method": method, "encoder": plan.config.encoder, "n": len(images), "clusters": k}
    row |= {"threads": torch.get_num_threads(), "probe_seconds": round(probe, 1), "told_seconds": round(said.seconds, 1)}
    record("estimate", row | {"took_seconds": round(took, 1), "ratio": round(said.seconds / took, 2)})
    print(row, took, flush=True)


def digits(place: Path) -> str:
    return "digits"


def cifar(place: Path) -> Any:
    return load_packed("cifar10", "test")[0][:2000]


FITS: dict[str, tuple[Any, str, int, dict[str, Any]]] = {
    "ten classes": (lambda place: unpacked(place, range(0, 50, 5)), "scan", 10, {}),
    "fifty classes": (lambda place: unpacked(place, range(50)), "scan", 50, {}),
    "ten classes, turtle": (lambda place: unpacked(place, range(0, 50, 5)), "turtle", 10, {}),
    "ten classes, spice": (lambda place: unpacked(place, range(0, 50, 5)), "spice", 10, {}),
    "ten classes, from scratch": (lambda place: unpacked(place, range(0, 50, 5)), "scan", 10, {"encoder": "small"}),
    "digits": (digits, "scan", 10, {}),
    "digits, deepcluster": (digits, "deepcluster", 10, {}),
    "digits, spice": (digits, "spice", 10, {}),
    "2,000 of CIFAR-10": (cifar, "scan", 10, {"encoder": "small"}),
}

if __name__ == "__main__":
    main()
