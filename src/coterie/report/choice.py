"""Which pictures of each cluster a page shows. Plain numpy and no chance: the fit and the report come to the same answer.

N images, K clusters, D feature dimensions. An image id is its row.
"""

from dataclasses import dataclass, field

import numpy as np

TOTAL = 900  # pictures on a page; what keeps it below 5 MB
PER_CLUSTER = 32  # pictures of one cluster when there are few clusters
AT_LEAST = 3  # prototypes each; below that a cluster is not shown at all
BORDERLINE = 0.8  # a margin above this is no doubt worth showing


@dataclass(frozen=True)
class Picks:
    """Image ids of one cluster, each id in one list only, the most telling first."""

    prototypes: list[int] = field(default_factory=list)
    borderline: list[int] = field(default_factory=list)
    outliers: list[int] = field(default_factory=list)
    handful: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [*self.prototypes, *self.borderline, *self.outliers, *self.handful]


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

    prototypes: most confident, those equally confident to 0.01 by closeness to the cluster's mean feature (confidence saturates at 1).
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


def _pick(cluster: int, ids: np.ndarray, p_MK: np.ndarray, features_MD: np.ndarray, allowed_M: np.ndarray, count: int) -> Picks:
    n_prototypes, n_borderline, n_outliers, n_handful = _shares(count)
    features_MD = features_MD.astype(np.float32)
    closeness_M = features_MD @ features_MD.mean(0)  # rows are units, so this orders them as the cosine does
    confidence_M, margin_M = _confidence(p_MK)
    free_M = allowed_M.copy()

    def take(order: np.ndarray, n: int) -> list[int]:
        taken = order[free_M[order]][:n]
        free_M[taken] = False
        return ids[taken].tolist()

    prototypes = take(np.lexsort((ids, -closeness_M, -confidence_M.round(2))), max(n_prototypes, 1))
    doubtful = np.lexsort((ids, margin_M))
    borderline = take(doubtful[margin_M[doubtful] <= BORDERLINE], n_borderline)
    outliers = take(np.lexsort((ids, closeness_M)), n_outliers)
    handful = take(np.random.default_rng((0, cluster)).permutation(len(ids)), n_handful)
    return Picks(prototypes, borderline, outliers, handful)


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
