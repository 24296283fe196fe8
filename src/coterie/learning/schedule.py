"""Schedules as functions of how far a stage is: `done` in [0, 1] in, a learning rate or a cluster count out."""

import math
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer


def cosine(done: float, peak: float, final: float = 0.0) -> float:
    """From `peak` at 0 to `final` at 1 on half a cosine (SCAN sec. A: final = peak * 0.1 ** 3)."""
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


def one_cycle(done: float, peak: float, warm_up: float = 0.1, start: float = 0.04) -> float:
    """Linear from `start * peak` to `peak` over the first `warm_up` share, then half a cosine to zero."""
    if done < warm_up:
        return peak * (start + (1 - start) * done / warm_up)
    return cosine((done - warm_up) / (1 - warm_up), peak)


def fixmatch_cosine(done: float, peak: float) -> float:
    """peak * cos(7 pi / 16 * done): from `peak` at 0 to 0.195 of it at 1, with no warm-up (FixMatch)."""
    return peak * math.cos(7 * math.pi / 16 * min(1.0, max(0.0, done)))


def trapezoid(at: float, start: float, up: float, down: float, end: float, low: float, high: float) -> float:
    """`low` outside of start <= at <= end; inside it rises to `high` at `up`, stays until `down`, and falls to `low` at `end`.

    The published SPICE code can let the share of a prototype's core follow it; with up = down = end it is a ramp, high at its end.
    """
    if not start <= at <= end:
        return low
    if at < up:
        return low + (high - low) * (at - start) / (up - start)
    return high if at <= down else high + (low - high) * (at - down) / (end - down)


def steps(done: float, peak: float, at: tuple[float, ...] = (0.6, 0.8), factor: float = 0.1) -> float:
    """`peak`, times `factor` from each share in `at` on (PCP and instance discrimination: a tenth from epochs 120 and 160 of 200 on)."""
    return peak * factor ** sum(done >= share for share in at)


def constant(done: float, peak: float) -> float:
    """`peak`, all the time (DeepCluster; SCAN's published second and third stages)."""
    return peak


Schedule = Literal["constant", "cosine", "one-cycle", "steps"]
SCHEDULES: dict[str, Callable[[float, float], float]] = {"constant": constant, "cosine": cosine, "one-cycle": one_cycle, "steps": steps}


def progressive_clusters(epoch: float, total: float, n_images: int, floor: int) -> int:
    """PCP's number of clusters (eq. 1): n_images ^ (1 - epoch / total), at least `floor`, at most n_images; rounded to the nearest.

    The published code rounds down and starts at 49,999 of 50,000. `epoch` counts from 0 and may be any share of `total`.
    """
    return min(n_images, max(floor, round(n_images ** (1 - epoch / total))))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Every parameter group of the optimizer learns at `rate` from now on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
