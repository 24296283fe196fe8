"""Two works that take turns in one process, and what each took."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from coterie.run import Run
from coterie.run.devices import Devices

Spent = tuple[float, float]  # seconds by the wall, and of computing
Pairs = list[tuple[Spent, Spent]]  # ours, other


class Timed(Run):
    """A run that has the other one take a turn after each epoch."""

    def __init__(self, devices: Devices, other: Callable[[], object]):
        super().__init__(devices=devices)
        self.other = other
        self.pairs: Pairs = []

    def epochs(self, stage: str, total: int, share: float = 1.0, **state: Any) -> Iterator[int]:
        for epoch in super().epochs(stage, total, share, **state):
            begun = now(self.devices)
            yield epoch
            self.pairs.append((since(begun, self.devices), spent(self.other, self.devices)))


def alternate(ours: Callable[[], object], other: Callable[[], object], turns: int, devices: Devices) -> Pairs:
    return [(spent(ours, devices), spent(other, devices)) for _ in range(turns + 1)][1:]


def now(devices: Devices) -> Spent:
    if devices.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def since(begun: Spent, devices: Devices) -> Spent:
    wall, computing = now(devices)
    return wall - begun[0], computing - begun[1]


def spent(work: Callable[[], object], devices: Devices) -> Spent:
    begun = now(devices)
    work()
    return since(begun, devices)
