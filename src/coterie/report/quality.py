"""What metrics.json says, put in an order that reads well: accuracy beside its baselines, and who is confused with whom.

C classes, K clusters.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

LARGE = 30  # classes or clusters above which single counts cannot be read
MOST_CELLS = 3000  # of the condensed table; the lightest are left out first
MOST_MIXED = 12
TOLD = 3  # classes of a cluster


class Bar(NamedTuple):
    name: str
    value: float


class Column(NamedTuple):
    cluster: int
    matched: bool


class Cell(NamedTuple):
    row: int
    column: int
    share: float


class Mixed(NamedTuple):
    """`images` of a class, `share` of it, lie in a cluster that belongs to another class (its name, or "" for none)."""

    name: str
    cluster: int
    owner: str
    images: int
    share: float


@dataclass(frozen=True)
class Quality:
    """bars: accuracy of this run and its baselines; names: the class most of a cluster's images have; shares: of a cluster its three
    largest classes, (class, share of the cluster); purity: (epoch, [of all images, of the kept ones]); curves: stage -> (epoch,
    accuracy of each head); many_to_one: only where clusters outnumber classes, where one to one cannot say much; the rest as in
    metrics.json."""

    bars: list[Bar]
    nmi: float | None
    ari: float | None
    many_to_one: float | None
    names: dict[int, str]
    shares: dict[int, list[tuple[str, float]]]
    purity: list[tuple[int, list[float]]]
    curves: dict[str, list[tuple[int, list[float]]]]
    confusion: "Confusion | None"


@dataclass(frozen=True)
class Confusion:
    """rows: (class name, images, counts per column); columns: clusters in the order of their classes, unmatched ones last.

    shares: (C, K) of each class, columns ordered alike; cells: the non-zero ones; mixed: the largest confusions.
    superclasses: (name, rows) from top to bottom, empty without a hierarchy; alike: share of images whose cluster stands for a class
    of their superclass, None without.
    """

    columns: list[Column]
    rows: list[tuple[str, int, list[int]]]
    shares: list[list[float]]
    cells: list[Cell]
    mixed: list[Mixed]
    superclasses: list[tuple[str, int]]
    alike: float | None
    large: bool


def quality(metrics: dict[str, Any]) -> Quality:
    """ValueError, TypeError or KeyError when the metrics are not what `evaluate` writes."""
    nmi, ari, many_to_one = (None if metrics.get(key) is None else float(metrics[key]) for key in ("nmi", "ari", "many_to_one"))
    if int(metrics.get("n_clusters", 0)) <= int(metrics.get("n_classes", 0)):
        many_to_one = None
    return Quality(
        _accuracies(metrics),
        nmi,
        ari,
        many_to_one,
        _names(metrics),
        _shares(metrics),
        _purity(metrics),
        _curves(metrics),
        _confusion(metrics),
    )


def _accuracies(metrics: dict[str, Any]) -> list[Bar]:
    """This run first, then what anybody gets without it."""
    names = {"acc": "this run", "features_kmeans_acc": "k-means on its features", "baseline_acc": "k-means on pixels"}
    return [Bar(name, float(metrics[key])) for key, name in names.items() if metrics.get(key) is not None]


def _names(metrics: dict[str, Any]) -> dict[int, str]:
    """By the largest count, not by the match: one to one, a cluster left over is matched to a class that it hardly holds."""
    classes, counts_CK = _table(metrics)
    return {k: classes[int(counts_CK[:, k].argmax())] for k in range(counts_CK.shape[1]) if counts_CK[:, k].any()}


def _shares(metrics: dict[str, Any]) -> dict[int, list[tuple[str, float]]]:
    classes, counts_CK = _table(metrics)
    largest = {k: np.argsort(-counts_CK[:, k], kind="stable")[:TOLD] for k in range(counts_CK.shape[1]) if counts_CK[:, k].any()}
    return {k: [(classes[c], float(counts_CK[c, k] / counts_CK[:, k].sum())) for c in top if counts_CK[c, k]] for k, top in largest.items()}


def _purity(metrics: dict[str, Any]) -> list[tuple[int, list[float]]]:
    return sorted((int(epoch), [float(everyone), float(kept)]) for epoch, everyone, kept in metrics.get("purity") or [])


def _curves(metrics: dict[str, Any]) -> dict[str, list[tuple[int, list[float]]]]:
    traced = metrics.get("curves") or {}
    return {str(stage): sorted((int(epoch), [float(a) for a in heads]) for epoch, heads in points) for stage, points in traced.items()}


def _table(metrics: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """Class names and counts int64 (C, K); both empty when metrics.json holds no table, or one that does not fit its classes."""
    counts_CK = np.asarray(metrics.get("confusion") or [], np.int64)
    classes = [str(name) for name in metrics.get("classes") or range(len(counts_CK))]
    if counts_CK.ndim != 2 or not counts_CK.size or len(counts_CK) != len(classes):
        return [], np.zeros((0, 0), np.int64)
    return classes, counts_CK


def _confusion(metrics: dict[str, Any]) -> Confusion | None:
    classes, counts_CK = _table(metrics)
    if not classes:
        return None
    superclasses = [str(name) for name in metrics.get("superclasses") or []]
    if len(superclasses) != len(classes):
        superclasses = []
    order_C = sorted(range(len(classes)), key=(superclasses or [""] * len(classes)).__getitem__)
    row_of = {c: row for row, c in enumerate(order_C)}
    classes, superclasses, counts_CK = [classes[c] for c in order_C], sorted(superclasses), counts_CK[order_C]
    match = {int(k): row_of[int(c)] for k, c in (metrics.get("match") or {}).items() if int(c) in row_of}
    largest_K = counts_CK.argmax(0)
    owners = {k: classes[row] for k, row in match.items()}
    order = sorted(range(counts_CK.shape[1]), key=lambda k: (k not in match, match.get(k, int(largest_K[k])), k))
    counts_CK = counts_CK[:, order]
    shares_CK = counts_CK / counts_CK.sum(1, keepdims=True).clip(1)
    return Confusion(
        columns=[Column(k, k in match) for k in order],
        rows=[(name, int(row.sum()), row.tolist()) for name, row in zip(classes, counts_CK)],
        shares=shares_CK.tolist(),
        cells=_cells(shares_CK),
        mixed=_mixed(counts_CK, shares_CK, classes, order, owners),
        superclasses=list(Counter(superclasses).items()),
        alike=_alike(counts_CK, [match.get(k) for k in order], superclasses) if superclasses else None,
        large=max(counts_CK.shape) > LARGE,
    )


def _alike(counts_CK: np.ndarray, row_of_K: list[int | None], superclasses: list[str]) -> float:
    names_C = np.asarray(superclasses)
    inside = sum(int(counts_CK[names_C == superclasses[row], k].sum()) for k, row in enumerate(row_of_K) if row is not None)
    return inside / max(1, int(counts_CK.sum()))


def _cells(shares_CK: np.ndarray) -> list[Cell]:
    rows, columns = np.nonzero(shares_CK)
    heaviest = np.argsort(-shares_CK[rows, columns], kind="stable")[:MOST_CELLS]
    return [Cell(int(rows[i]), int(columns[i]), float(shares_CK[rows[i], columns[i]])) for i in np.sort(heaviest)]


def _mixed(counts_CK: np.ndarray, shares_CK: np.ndarray, classes: list[str], order: list[int], owners: dict[int, str]) -> list[Mixed]:
    found = [
        Mixed(classes[row], order[column], owners.get(order[column], ""), int(counts_CK[row, column]), float(shares_CK[row, column]))
        for row, column in zip(*np.nonzero(counts_CK))
        if owners.get(order[column]) != classes[row]
    ]
    return sorted(found, key=lambda mixed: -mixed.images)[:MOST_MIXED]
