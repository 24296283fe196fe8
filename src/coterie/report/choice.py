"""Which pictures of each cluster a page shows. Plain numpy and no chance: the fit and the report come to the same answer.

N images, K clusters, D feature dimensions. An image id is its row.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

TOTAL = 900  # pictures on a page; what keeps it below 5 MB
PER_CLUSTER = 32  # pictures of one cluster when there are few clusters
AT_LEAST = 3  # prototypes each; below that a cluster is not shown at all
BORDERLINE = 0.8  # a margin above this is no doubt worth showing
SURE = 10  # most confident images among which a prototype is sought (10 in SCAN)
EXAMPLES = 10  # clusters of which two pictures are shown with their neighbours
NEIGHBOURS = 6  # of each: one row of half a page
CENTRAL = 3  # pictures nearest to a cluster's centroid (SPICE, fig. 5a)
UNSURE = 24  # pictures at most of those in no cluster
TWINS = 5, 4  # groups of near-duplicates, and pictures of each, at most
ATTENDED = 60  # pictures at most whose attention map is kept


@dataclass(frozen=True)
class Picks:
    """Image ids of one cluster, each id in one list only, the most telling first. prototype: also the first of prototypes; None when it
    has no picture."""

    prototype: int | None = None
    prototypes: list[int] = field(default_factory=list)
    borderline: list[int] = field(default_factory=list)
    outliers: list[int] = field(default_factory=list)
    handful: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [*self.prototypes, *self.borderline, *self.outliers, *self.handful]


class Example(NamedTuple):
    """An image and those most like it: (id, cosine of their features), nearest first. typical: a prototype; else a doubtful member."""

    id: int
    typical: bool
    nearest: list[tuple[int, float]]


@dataclass(frozen=True)
class Chosen:
    """The picks by cluster number; `hidden` clusters have images but no room on the page."""

    clusters: dict[int, Picks]
    hidden: list[int]

    @property
    def ids(self) -> np.ndarray:
        """int64, ascending, each once."""
        return np.unique(np.asarray([i for picks in self.clusters.values() for i in picks.ids], np.int64))


def choose(
    p_NK: np.ndarray, labels_N: np.ndarray, features_ND: np.ndarray, per_cluster: int | None = None, among: np.ndarray | None = None
) -> Chosen:
    """Choose at most 900 pictures: of each cluster its prototypes, its doubtful members, its strangers and a random handful.

    prototypes: the published one first (see `prototype`), then the most confident, those equally confident to 0.01 by closeness to the
    cluster's mean feature (confidence saturates at 1).
    borderline: smallest margin between the two largest probabilities, at most 0.8.  outliers: least cosine similarity to the mean feature.
    handful: drawn from the rest, with a fixed seed.

    p_NK: rows sum to 1; labels_N: cluster or -1 (left out, never chosen); features_ND: unit rows, any float type.
    per_cluster: pictures of one cluster, by default 32, fewer when there are more than 28 clusters. Above 300 clusters only the largest 300
    are shown. among: ids that may be chosen (those with a thumbnail); the means are always of whole clusters.
    ValueError when the rows do not fit together.
    """
    if not len(p_NK) == len(labels_N) == len(features_ND):
        raise ValueError(f"rows differ: {len(p_NK)} probabilities, {len(labels_N)} labels, {len(features_ND)} features")
    numbers, sizes = np.unique(labels_N[labels_N >= 0], return_counts=True)
    by_size = np.lexsort((numbers, -sizes))
    room = TOTAL // AT_LEAST
    shown = np.sort(numbers[by_size[:room]])
    hidden = np.sort(numbers[by_size[room:]])
    count = min(per_cluster or PER_CLUSTER, TOTAL // max(1, len(shown)))
    allowed_N = np.ones(len(labels_N), bool)
    if among is not None:
        allowed_N[:] = False
        allowed_N[among] = True
    order = np.argsort(labels_N, kind="stable")
    starts = np.searchsorted(labels_N[order], shown), np.searchsorted(labels_N[order], shown, side="right")
    members = (order[start:end] for start, end in zip(*starts))
    clusters = {int(c): _pick(int(c), ids, p_NK[ids], features_ND[ids], allowed_N[ids], count) for c, ids in zip(shown, members)}
    return Chosen(clusters, hidden.tolist())


def prototype(confidence_M: np.ndarray, features_MD: np.ndarray, topk: int = SURE) -> int:
    """Row of a cluster's prototype: of its topk most confident images the one nearest to their mean feature; ties go to the first row."""
    sure = np.argsort(-confidence_M, kind="stable")[:topk]
    return int(sure[np.linalg.norm(features_MD[sure] - features_MD[sure].mean(0), axis=1).argmin()])


def examples(chosen: Chosen, labels_N: np.ndarray, features_ND: np.ndarray) -> list[Example]:
    """Of each of the 10 largest clusters, by number, the first prototype and the most doubtful member: on the border, else least alike.

    The neighbours are the 6 nearest by cosine among the images of `chosen`.
    """
    ids_M = chosen.ids
    features_MD = features_ND[ids_M].astype(np.float32)
    sizes = {cluster: int((labels_N == cluster).sum()) for cluster in chosen.clusters}
    found = []
    for cluster in sorted(sorted(sizes, key=lambda cluster: (-sizes[cluster], cluster))[:EXAMPLES]):
        picks = chosen.clusters[cluster]
        for typical, ids in ((True, picks.prototypes), (False, picks.borderline or picks.outliers)):
            for i in ids[:1]:
                cosine_M = features_MD @ features_ND[i].astype(np.float32)
                nearest = [row for row in np.argsort(-cosine_M, kind="stable") if ids_M[row] != i][:NEIGHBOURS]
                found.append(Example(i, typical, [(int(ids_M[row]), float(cosine_M[row])) for row in nearest]))
    return [example for example in found if example.nearest]


def central(chosen: Chosen, labels_N: np.ndarray, features_ND: np.ndarray) -> dict[int, list[int]]:
    """Of each cluster the 3 images nearest to its centroid among those of `chosen`, the nearest first.

    The centroid is the mean feature of the whole cluster, nearness the cosine; ties go to the smaller id.
    """
    found = {}
    for cluster, picks in chosen.clusters.items():
        ids = np.sort(np.asarray(picks.ids, np.int64))
        centroid_D = _kept(features_ND[labels_N == cluster]).mean(0)
        found[cluster] = ids[np.argsort(-(_kept(features_ND[ids]) @ centroid_D), kind="stable")][:CENTRAL].tolist()
    return found


def left_out(p_NK: np.ndarray, labels_N: np.ndarray, among: np.ndarray | None = None) -> list[int]:
    """The images in no cluster (-1) that a page shows, the least certain first, 24 at most. among: ids that may be chosen."""
    ids = np.flatnonzero(labels_N < 0)
    ids = ids if among is None else np.intersect1d(ids, among)
    return ids[np.argsort(p_NK[ids].max(1, initial=0), kind="stable")][:UNSURE].tolist()


def twins(duplicates: dict[str, Any]) -> list[list[int]]:
    """The groups of near-duplicates that a page shows, 5 at most, of each 4 images."""
    return [[int(i) for i in group[: TWINS[1]]] for group in duplicates.get("largest", [])[: TWINS[0]]]


def attended(central: dict[int, list[int]], labels_N: np.ndarray) -> list[int]:
    """The central images whose attention maps are worth their room, ascending: 60 at most, as many of each cluster, of the largest ones."""
    each = max(1, min(CENTRAL, ATTENDED // max(1, len(central))))
    sizes = {cluster: int((labels_N == cluster).sum()) for cluster in central}
    largest = sorted(central, key=lambda cluster: (-sizes[cluster], cluster))[: ATTENDED // each]
    return sorted(i for cluster in largest for i in central[cluster][:each])


def _kept(features_MD: np.ndarray) -> np.ndarray:
    """Features as they are kept on the disk, so that fit and report agree."""
    return features_MD.astype(np.float16).astype(np.float32)


def _pick(cluster: int, ids: np.ndarray, p_MK: np.ndarray, features_MD: np.ndarray, allowed_M: np.ndarray, count: int) -> Picks:
    n_prototypes, n_borderline, n_outliers, n_handful = _shares(count)
    features_MD = _kept(features_MD)
    closeness_M = features_MD @ features_MD.mean(0)  # rows are units, so this orders them as the cosine does
    confidence_M, margin_M = _confidence(p_MK)
    free_M = allowed_M.copy()

    def take(order: np.ndarray, n: int) -> list[int]:
        taken = order[free_M[order]][:n]
        free_M[taken] = False
        return ids[taken].tolist()

    first = take(np.array([prototype(confidence_M, features_MD)]), 1)
    others = take(np.lexsort((ids, -closeness_M, -confidence_M.round(2))), max(n_prototypes, 1) - len(first))
    doubtful = np.lexsort((ids, margin_M))
    borderline = take(doubtful[margin_M[doubtful] <= BORDERLINE], n_borderline)
    outliers = take(np.lexsort((ids, closeness_M)), n_outliers)
    handful = take(np.random.default_rng((0, cluster)).permutation(len(ids)), n_handful)
    return Picks(first[0] if first else None, first + others, borderline, outliers, handful)


def _shares(count: int) -> tuple[int, int, int, int]:
    """How `count` pictures are split: a quarter each, but at least three prototypes."""
    prototypes = min(count, max(AT_LEAST, count // 4))
    others = (count - prototypes) // 3
    return prototypes, others, others, count - prototypes - 2 * others


def _confidence(p_MK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest probability and its lead over the second, both float32 (M,)."""
    if p_MK.shape[1] < 2:
        return p_MK.max(1), p_MK.max(1)
    two = np.partition(p_MK.astype(np.float32), -2, axis=1)[:, -2:]
    return two[:, 1], two[:, 1] - two[:, 0]
