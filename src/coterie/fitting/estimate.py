"""What a fit will take, before it begins: its stages are tried for two epochs each on a few of the pictures.

The stages that look at pictures cost in proportion to their number, and are tried on a sample. Those that only look at features (heads,
neighbours, k-means) are tried on as many made-up features as there are pictures, where the method can do without an encoder.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from coterie import methods
from coterie.errors import InputError
from coterie.fitting.planning import Plan
from coterie.images import Images
from coterie.images.collection import open_rows
from coterie.learning import counting
from coterie.networks.encoder import PRECOMPUTED
from coterie.run import seeding
from coterie.run.devices import Devices
from coterie.run.run import Run

SAMPLE = 512  # pictures that a network which learns is tried on: two batches of 256
FROZEN_SAMPLE = 96  # pictures that a frozen encoder is tried on, where its features are not in the cache
CLOSING = 2.0, 4e-4  # seconds, and seconds a picture, for baseline, thumbnails and files
COUNTING = 2e-3  # seconds for each picture that kinds are counted on
BASE = 0.7e9  # bytes of memory of a process that has loaded torch and has done nothing


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`seconds` by stage, in the order of the stages; `memory` and `disk` in bytes, the store of decoded pictures left out."""

    stages: dict[str, float]
    memory: float
    disk: float

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


class Probe(Run):
    """A run whose stages have two epochs, of which the second is timed: `told` has the seconds of each stage in full."""

    def __init__(self, devices: Devices, seed: int, cache: Path | None):
        super().__init__(devices=devices, seed=seed, cache=cache)
        self.told: dict[str, float] = {}

    def epochs(self, stage: str, total: int, share: float = 1.0, **state: Any) -> Iterator[int]:
        self._stage, self._total = stage, total
        for epoch in range(min(2, total)):
            with seeding.forked(self.seed, stage, epoch):
                self._epoch, self._seen, self._epoch_start = epoch, 0, time.monotonic()
                self._updates.begin()
                yield epoch
                self.told[stage] = (time.monotonic() - self._epoch_start) * total

    def end(self, stage: str, **state: Any) -> None:
        self.told[stage] = (time.monotonic() - self._epoch_start) * self._total

    def log(self, **scalars: Any) -> None:
        """Nothing of it is kept."""

    def trace(self, labels_HN: torch.Tensor, name: str = "") -> None:
        """Nothing of it is kept."""

    def once(self, name: str, make: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
        begun = time.monotonic()
        made = make(*inputs, **settings)
        self.told[name] = time.monotonic() - begun
        return made


def estimate(images: Images, plan: Plan, devices: Devices, cache: Path | None = None) -> Estimate:
    """Seconds, memory and disk of a fit of `plan`; takes some seconds itself, about five on two cores."""
    n, config = len(images), plan.config
    frozen = config.pretext == "frozen"
    count = min(n, FROZEN_SAMPLE if frozen else SAMPLE)
    sample = images[torch.linspace(0, n - 1, count).long()] if count < n else images
    told, width = _tried(sample, plan, devices, cache if count == n else None)
    stages = {name: seconds * n / count for name, seconds in told.items()}
    if count < n and frozen:
        whole = _tried_on_features(n, width, plan, devices)
        stages |= {name: whole[name] for name in stages if name in whole and not name.startswith("features")}
    if plan.asked:
        stages["counting"] = COUNTING * min(n, counting.SAMPLE)
    first, each = CLOSING
    stages["closing"] = first + each * n
    once = ("features", "counting") if frozen else ("counting",)  # a frozen encoder's features are kept in the cache
    stages = {name: seconds * (1 if name.startswith(once) else plan.seeds) for name, seconds in stages.items()}
    pixels = images.pixels.numel() if images.kind != "features" else 0
    return Estimate(
        stages, BASE + 8.0 * n * (width + config.n_clusters) + min(pixels, 2e9), n * (2.0 * width + 4.0 * config.n_clusters + 60)
    )


def _tried(images: Images, plan: Plan, devices: Devices, cache: Path | None) -> tuple[dict[str, float], int]:
    """Seconds of each stage, and the width of the features."""
    run = Probe(devices, plan.seed, cache)
    config = dataclasses.replace(plan.config, n_clusters=min(plan.config.n_clusters, len(images)))
    try:
        with torch.random.fork_rng():
            width = methods.method(plan.method).fit(images, config, run).features_ND.shape[1]
    except InputError:  # so few pictures, hardly trained: what was tried until then is all that can be told
        width = 512
    finally:
        run.close()
    return run.told, width


def _tried_on_features(n: int, width: int, plan: Plan, devices: Devices) -> dict[str, float]:
    rows = torch.randn(n, width, generator=seeding.generator(plan.seed, "estimate"))
    config = dataclasses.replace(plan.config, encoder=PRECOMPUTED, pretrained=False, weights="")
    return _tried(open_rows(rows.numpy()), dataclasses.replace(plan, config=config), devices, None)[0]
