"""From the clusters of a run up, which merge first, and down, how each would split; with the evidence for both. Nothing is trained.

    overlap   of two clusters: how often neighbours lie in the one and the other, beside how often both lie in the same; 0 never, 1 as
              often as if the two were one (M_cd / sqrt(M_cc M_dd), M_cd the mean of p_ic p_jd over neighbours i, j)
    alike     cosine of their mean features, seen from the mean of all; it ranks the pairs that do not touch
    apart     of a cluster's two halves: how far the gap between them goes beyond that of a cloud cut in two; 0 no farther, 1 two points.
              Where the gap lies is learned from one half of the members and looked for in the other
    gain      of a division: the share of the spread of all features that lies between the two parts

Shapes: N rows, M rows of one cluster, D feature, K clusters or neighbours.
"""

import heapq
import math
from collections.abc import Callable, Iterable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.rows import exact, means

TOUCH = 0.05  # overlap below which two clusters do not touch: chance neighbours, and what calibrated probabilities leave to every cluster
MEMBERS = 2000  # of a cluster that its parts are sought among, at most
HALVES = 2  # draws of two halves
HALF = 500  # members of a half, at most
NO_GAP = 0.05  # what a division without any gap counts for, so that a large cloud goes before a small one
FEWEST = 4  # members of a half; with fewer a gap cannot be told from chance
RESTARTS, ITERS = 2, 25


class Merge(NamedTuple):
    """Group `b` joins group `a`; a group goes by its smallest cluster, so a < b."""

    a: int
    b: int
    overlap: float
    alike: float


class Division(NamedTuple):
    """Two parts of a cluster, or of a part of it: their sizes, the larger first, how far they are apart, and the gain."""

    cluster: int
    sizes: tuple[int, int]
    apart: float
    gain: float

    @property
    def rank(self) -> float:
        """What is divided first (docs/recut.md): much of the spread that lies between two parts, and a gap."""
        return (self.apart + NO_GAP) * self.gain


class Leaf(NamedTuple):
    """A part of a cluster that is not divided further: rows int64 (M,), ascending."""

    cluster: int
    rows: Tensor


def affinity(p_NK: Tensor, near_NK: Tensor) -> Tensor:
    """(K, K) float64, symmetric: the mean over rows i and their neighbours j of p_ic p_jd. near_NK: int64, any number of neighbours."""
    p_NK = p_NK.double()
    found_KK = p_NK.T @ F.embedding_bag(near_NK, p_NK, mode="mean") / len(p_NK)
    return (found_KK + found_KK.T) / 2


def centred_sums(rows_ND: Tensor, labels_N: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of each cluster the sum (K, D) float64 of its rows, seen from the mean of all, and its size (K,); -1 belongs to none."""
    sizes_K = labels_N[labels_N >= 0].bincount(minlength=k)
    mean_D = rows_ND.mean(0).double()
    return (means(rows_ND, labels_N, k).double() - mean_D) * sizes_K[:, None], sizes_K


def merges(affinity_KK: Tensor, sums_KD: Tensor, separate: Iterable[tuple[int, int]] = ()) -> list[Merge]:
    """All merges from K clusters to one, in order. The pair that overlaps most goes first, then, of those that do not touch, the one most
    alike; equals by number. A cluster without any weight merges at once.

    affinity_KK: as `affinity` gives it; sums_KD: as `centred_sums`. separate: pairs that stay apart, so that the list may end sooner.
    """
    shared_KK, summed_KD = affinity_KK.numpy().astype(np.float64), sums_KD.numpy().astype(np.float64)
    k = len(shared_KK)
    free_KK = ~np.eye(k, dtype=bool)
    for a, b in separate:
        free_KK[a, b] = free_KK[b, a] = False

    def against(a: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Overlap and likeness of group `a` with each, and what they are ranked by."""
        whole_K = shared_KK.diagonal()
        both_K = np.sqrt(whole_K[a] * whole_K)
        overlap_K = np.where(both_K > 0, shared_KK[a] / np.where(both_K > 0, both_K, 1), 1.0)
        lengths_K = np.linalg.norm(summed_KD, axis=1)
        alike_K = summed_KD @ summed_KD[a] / np.maximum(lengths_K * lengths_K[a], 1e-300)
        rank_K = np.where(overlap_K >= TOUCH, 2 + overlap_K, alike_K)
        return overlap_K, alike_K, np.where(free_KK[a], rank_K, -math.inf)

    rank_KK = np.array([against(a)[2] for a in range(k)]).reshape(k, k)
    best_K = rank_KK.argmax(1) if k else np.zeros(0, int)
    found = []
    while k and (top := rank_KK[np.arange(k), best_K]).max() > -math.inf:
        first = int(top.argmax())
        a, b = sorted((first, int(best_K[first])))
        overlap_K, alike_K, _ = against(a)
        found.append(Merge(a, b, float(overlap_K[b]), float(alike_K[b])))
        for table in (shared_KK, summed_KD):
            table[a] += table[b]
        shared_KK[:, a] += shared_KK[:, b]
        free_KK[a] &= free_KK[b]
        free_KK[:, a] = free_KK[a]
        free_KK[b] = free_KK[:, b] = False
        rank_KK[b] = rank_KK[:, b] = -math.inf
        rank_KK[a] = rank_KK[:, a] = against(a)[2]
        stale = np.isin(best_K, (a, b)) | (rank_KK[:, a] >= rank_KK[np.arange(k), best_K])
        stale[[a, b]] = True
        best_K[stale] = rank_KK[stale].argmax(1)
    return found


def groups(k: int, joined: Iterable[Iterable[int]]) -> list[int]:
    """Of each of k clusters its group, the smallest cluster in it, when these sets of clusters (pairs, or more) are joined."""
    above = list(range(k))
    for numbers in joined:
        one = {_top(above, number) for number in numbers}
        for number in one:
            above[number] = min(one)
    return [_top(above, number) for number in range(k)]


def _top(above: list[int], number: int) -> int:
    while above[number] != number:
        number = above[number]
    return number


def parted(rows_MD: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """The part of each of a cluster's rows, (M,) int64, the largest part first; fewer than k parts where the rows differ too little.
    k-means by Euclidean distance, the best of some starts, on at most 2,000 rows."""
    some = torch.randperm(len(rows_MD), generator=generator)[:MEMBERS].sort().values if len(rows_MD) > MEMBERS else slice(None)
    found = kmeans(rows_MD[some], k, generator, ITERS, init="k-means++", restarts=RESTARTS)
    with exact(rows_MD.device):
        mean_D = found.centroids_KD.mean(0)
        labels_M = torch.cdist(rows_MD - mean_D, found.centroids_KD - mean_D).argmin(1)
    sizes_K = labels_M.bincount(minlength=k)
    return sizes_K.argsort(descending=True, stable=True).argsort()[labels_M]


def apart(rows_MD: Tensor, generator: torch.Generator) -> float:
    """How far the gap between a cluster's two parts goes beyond that of a cloud, 0 to 1; 0 for fewer than 8 rows.

    On the line through the means of two parts of one half, the other half is cut between them. What lies between the two sides, as a share
    of the spread along the line, is compared with a normal distribution cut into such sides: phi(z)^2 / (q (1 - q)).
    """
    if len(rows_MD) < 2 * FEWEST:
        return 0.0
    found = []
    for _ in range(HALVES):
        order = torch.randperm(len(rows_MD), generator=generator)[: 2 * HALF]
        halves = order.chunk(2)
        found += [_gap(rows_MD[here], rows_MD[there], generator) for here, there in (halves, halves[::-1])]
    return max(0.0, sum(found) / len(found))


def _gap(here_MD: Tensor, there_MD: Tensor, generator: torch.Generator) -> float:
    """The gap that one half shows, in the other; below 0 when it is less than a cloud's."""
    one, other = kmeans(here_MD, 2, generator, ITERS, init="k-means++").centroids_KD.double()
    along_M = (there_MD.double() - (one + other) / 2) @ (one - other)
    side_M = along_M > 0
    q, spread = float(side_M.double().mean()), float(along_M.var(unbiased=False))
    if q in (0.0, 1.0) or spread == 0:
        return 0.0
    share = q * (1 - q) * float(along_M[side_M].mean() - along_M[~side_M].mean()) ** 2 / spread
    normal = NormalDist()
    by_cloud = normal.pdf(normal.inv_cdf(q)) ** 2 / (q * (1 - q))
    return (share - by_cloud) / (1 - by_cloud)


def first_divisions(
    rows_ND: Tensor, labels_N: Tensor, k: int, rng: Callable[[], torch.Generator], known: dict[int, Division | None] | None = None
) -> list[Division]:
    """How each cluster of two different rows or more would split, in the order of `Division.rank`. known: what was found of some clusters
    before; None of those that cannot be split."""
    known, whole = known or {}, spread(rows_ND)
    found = [one for one in known.values() if one]
    for cluster in sorted({*range(k)} - {*known}):
        divided = division(cluster, rows_ND, (labels_N == cluster).nonzero().squeeze(1), rng, whole)
        found += [divided[0]] if divided else []
    return sorted(found, key=lambda one: (-one.rank, one.cluster))


def division(
    cluster: int, rows_ND: Tensor, members: Tensor, rng: Callable[[], torch.Generator], whole: float
) -> tuple[Division, Tensor, Tensor] | None:
    """How these rows of a cluster would split, and the members of the two parts; None where they all are the same. whole: spread of all."""
    mine_MD = rows_ND[members]
    part_M = parted(mine_MD, 2, rng()) if len(members) > 1 else members.new_zeros(len(members))
    one, other = (part_M == 0).nonzero().squeeze(1), (part_M == 1).nonzero().squeeze(1)
    if not len(other):
        return None
    between_D = (mine_MD[one].sum(0, dtype=torch.float64) / len(one)) - (mine_MD[other].sum(0, dtype=torch.float64) / len(other))
    gain = len(one) * len(other) / len(members) * float(between_D.square().sum()) / max(whole, 1e-300)
    return Division(cluster, (len(one), len(other)), apart(mine_MD, rng()), gain), members[one], members[other]


def spread(rows_ND: Tensor) -> float:
    """The sum of squared distances to the mean."""
    n, sums_D = len(rows_ND), rows_ND.sum(0, dtype=torch.float64)
    return max(0.0, float(torch.linalg.vector_norm(rows_ND, dtype=torch.float64)) ** 2 - float(sums_D.square().sum()) / n)


def divided(
    rows_ND: Tensor,
    labels_N: Tensor,
    clusters: Iterable[int],
    more: int,
    rng: Callable[[], torch.Generator],
    known: Iterable[Division] = (),
) -> tuple[list[Leaf], list[Division]]:
    """The leaves of `clusters` after `more` divisions, ordered by cluster and then by when they came to be, and the divisions; fewer where
    nothing is left to divide. Each time the cluster, or the part of one, is divided whose division ranks highest; equals by number.
    known: the first division of some of them, as `first_divisions` found it, so that only those are looked at that are divided."""
    ranks = {one.cluster: one.rank for one in known}
    whole = spread(rows_ND)
    heap: list[tuple[float, int, int, Tensor]] = []  # -rank, cluster, place within it, rows
    ended: list[tuple[float, int, int, Tensor]] = []
    ready: dict[tuple[int, int], tuple[Division, Tensor, Tensor] | None] = {}
    done: list[Division] = []

    def push(cluster: int, place: int, rows: Tensor, rank: float | None = None) -> None:
        if rank is None:
            ready[cluster, place] = found = division(cluster, rows_ND, rows, rng, whole)
            rank = found[0].rank if found else None
        if rank is None:
            ended.append((0.0, cluster, place, rows))
        else:
            heapq.heappush(heap, (-rank, cluster, place, rows))

    for cluster in clusters:
        push(cluster, 0, (labels_N == cluster).nonzero().squeeze(1), ranks.get(cluster))
    while heap and len(done) < more:
        _, cluster, place, rows = heapq.heappop(heap)
        found = ready.pop((cluster, place), None) or division(cluster, rows_ND, rows, rng, whole)
        if found is None:  # `known` was of other rows
            ended.append((0.0, cluster, place, rows))
            continue
        done.append(found[0])
        push(cluster, place, found[1])
        push(cluster, len(done), found[2])
    left = sorted([*ended, *heap], key=lambda leaf: leaf[1:3])
    return [Leaf(cluster, rows) for _, cluster, _, rows in left], done
