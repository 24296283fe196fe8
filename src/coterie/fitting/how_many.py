"""How many kinds: what was asked, and the count where that was left open (`--clusters auto` or `A:B`).

Heads need a number before they are made, and what is counted are features, which a method from scratch has only after its pretext. So the
pretext comes first, as the method itself would run it; the kinds are counted on its features; then the method begins, and finds its pretext
done. DeepCluster, PCP and the instance-level methods have their features only at their end: they are trained whole, with a provisional
number that their training does not see, and only their last step is done again. Their losses spread images apart, or draw them to many
pseudo-clusters; kinds are compact only once each row has moved to its neighbours, so there they are counted.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from coterie import methods
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.counting import FEWEST, Count, count
from coterie.methods import pretext
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import diffused
from coterie.methods.pretext import PretextConfig
from coterie.run import Run

if TYPE_CHECKING:
    from coterie.fitting.planning import Plan

AUTO, RANGE = "auto", r"-?\d+:-?\d+"
PROVISIONAL = 10  # kinds, until they are counted
AT_THE_END = ("deepcluster", "sela", "pcp", "ir", "is", "and", "idfd")  # methods whose features come at their end
FROM_THE_START = ("iic", "cc", "pica", "dec", "idec")  # whose training is of so many clusters, and begins with no features to count them on
SPANNED = 2  # pseudo-clusters that the neighbours of a row span
PINNED = ("deepcluster", "sela", "pcp")  # those of them that have settings which follow the number of kinds
PARTS = ("silhouette", "spectral", "stability", "gap")


def read(clusters: int | str) -> int | str:
    """The number that was asked for, "auto", or "A:B". InputError for anything else."""
    if left_open(clusters):
        return clusters
    try:
        number = int(clusters)
    except ValueError:
        raise InputError(f"--clusters {clusters}: wanted a number, auto, or a range like 5:20") from None
    if number < 1:
        raise InputError(f"--clusters {clusters}: at least 1 is needed")
    return number


def left_open(clusters: Any) -> str:
    """ "auto" or "A:B", where that was asked for; "" for anything else."""
    return clusters if isinstance(clusters, str) and (clusters == AUTO or re.fullmatch(RANGE, clusters)) else ""


def within(asked: int | str, images: Images, method: str = "") -> tuple[int, int]:
    """The least and the most kinds that are allowed among these images. InputError where that makes no sense, or the method must know."""
    n = len(images)
    if method in FROM_THE_START and left_open(asked):
        raise InputError(f"{method} learns its clusters from the first epoch on, so it has to be told how many: give --clusters K")
    if isinstance(asked, int):
        if asked > n:
            raise InputError(f"--clusters {asked}: more clusters than the {n} images of {images.name}")
        return asked, asked
    least, most = (int(word) for word in asked.split(":")) if asked != AUTO else (1, n)
    if not 1 <= least <= most <= n:
        raise InputError(f"--clusters {asked}: wanted A:B with 1 <= A <= B <= {n}, the number of images of {images.name}")
    if least < most and n < FEWEST:
        raise InputError(
            f"how many kinds are in {images.name}? {n} images are too few to count them ({FEWEST} are needed); give --clusters K"
        )
    return least, most


def provisional(least: int, most: int) -> int:
    """The number to plan with until the kinds are counted."""
    return min(max(PROVISIONAL, least), most)


def pinned(method: str, config: PretextConfig, n: int) -> PretextConfig:
    """Settings that would follow the number of kinds, fixed, so that the training does not depend on it."""
    return methods.method(method).pinned(config, n) if method in PINNED else config


def counted(images: Images, plan: "Plan", run: Run) -> "Plan":
    """`plan` with the number of kinds that the features have; `clusters` tells what was found. What was computed stays for the method."""
    z_ND = _features(images, plan, run)
    least, most = within(plan.asked, images)
    table = run.once("counting", _counted, z_ND, least, 0 if plan.asked == AUTO else most, run)
    found = unpacked(run.broadcast(table.to(run.devices.device, torch.float32)).cpu().double())
    told = {"k": found.k, "low": found.low, "high": found.high, "beyond": round(found.beyond, 4), "why": found.why}
    told |= {"scores": {str(k): round(score, 4) for k, score in found.scores.items()}}
    return replace(plan, config=replace(plan.config, n_clusters=found.k), clusters=told)


def in_words(clusters: Mapping[str, Any]) -> str:
    """ "K = 12 (9 to 14): why"."""
    span = f" ({clusters['low']} to {clusters['high']})" if clusters["low"] < clusters["high"] else ""
    return f"K = {clusters['k']}{span}: {clusters['why']}"


def _features(images: Images, plan: "Plan", run: Run) -> Tensor:
    """Those that kinds are counted on, (N, D)."""
    if isinstance(plan.config, FinalConfig) and plan.method in AT_THE_END:
        config = replace(plan.config, final="k-means")  # heads would have to be made for the provisional number
        z_ND = methods.method(plan.method).fit(images, config, run).features_ND
        of_one = len(z_ND) // getattr(config, "pseudo_clusters", len(z_ND))  # DeepCluster's: wider, or each of them would be a kind
        return diffused(z_ND, max(config.final_neighbors, SPANNED * of_one), config.final_steps)
    return pretext.features_of(pretext.train(images, plan.config, run), images, plan.config, run)


def _counted(z_ND: Tensor, least: int, most: int, run: Run) -> Tensor:
    return packed(count(z_ND, run.rng("counting"), least, most or None))


def packed(found: Count) -> Tensor:
    """A count as numbers, (1 + T, 6) float64, which a run can keep: k, low, high, beyond, then each number tried, its score and parts."""
    rows = [[k, score, *(found.parts[name][i] for name in PARTS)] for i, (k, score) in enumerate(found.scores.items())]
    return torch.tensor([[found.k, found.low, found.high, found.beyond, 0.0, 0.0], *rows], dtype=torch.float64)


def unpacked(table: Tensor) -> Count:
    (k, low, high, beyond, *_), *rows = table.tolist()
    columns = list(zip(*rows)) or [()] * 6
    parts = {name: list(column) for name, column in zip(PARTS, columns[2:])}
    return Count(int(k), int(low), int(high), {int(row[0]): row[1] for row in rows}, beyond, parts)
