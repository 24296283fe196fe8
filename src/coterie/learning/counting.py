"""How many kinds there are, without labels: every number of clusters is tried, and the one with the best evidence is taken.

    silhouette   how much nearer a row is to its own cluster than to the next one, by cosine: of k-means on several draws of the rows, and
                 of a spectral clustering of all of them
    stability    how alike the clusterings of different draws are
    gap          of the graph of neighbours: how much faster than the next its slowest vibrations decay
    beyond       how far the silhouette is beyond that of a cloud without kinds; when it is hardly so, there is one kind

Each alone errs in a way of its own (docs/choosing-k.md); the score is their product, smoothed over neighbouring numbers.
Shapes: N rows, D feature, d principal axes, K clusters, S draws, T numbers of clusters that were tried, V eigenvectors.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import check, exact, means, unit
from coterie.clustering.sampling import sample
from coterie.clustering.silhouette import silhouette
from coterie.clustering.spectral import leading, normalised
from coterie.errors import InputError
from coterie.learning.evidence import axes, beyond, cloud, rand_index, seen

FEWEST = 20  # rows, below which kinds cannot be counted
SAMPLE = 4000  # rows looked at, at most
DRAWS, SHARE = 5, 0.7  # draws, and their share of the rows
CLOUD_DRAWS, MOST_CLOUDS, CLOUD_ROWS = 2, 8, 600  # of a cloud; clouds; rows of all of them
DENSE = 30  # up to here every number is tried, then each STEP larger than the one before, and all near the best
STEP, NEAR = 1.05, 0.08
USUAL, ROWS_PER_KIND = 60, 6  # numbers tried at first: up to 60, or one for 6 rows
EDGE, FURTHER = 0.75, 2.5  # of the largest number tried, from which on the best one makes the range so many times as wide
NEIGHBOURS = 10, 100  # of the graph, least and most: half of an even cluster
# Chosen on classes 0 to 49 of Caltech-101, seeds 0 to 9, the first 5,000 of Imagenette, and digits (docs/choosing-k.md)
STABILITY, GAP, BLUR = 0.3, 0.05, 0.06  # exponent; weight; deviation of the smoothing, in log K
ONE_KIND, WAVER = 0.12, 0.5  # beyond a cloud, below which there is one kind; of the clouds' deviation, what counts for them
NEARLY = 0.97  # of the best score, from which a number belongs to the interval


@dataclass(frozen=True)
class Count:
    """k kinds; low to high: what single draws and single pieces of evidence say, and what scores nearly as well; `scores` of every number
    tried, higher is better; beyond: a cloud's silhouette, 0 to 1; parts: silhouette, spectral (another silhouette), stability and gap of
    every number tried.
    """

    k: int
    low: int
    high: int
    scores: dict[int, float]
    beyond: float
    parts: dict[str, list[float]]

    @property
    def why(self) -> str:
        """The evidence in words."""
        if not self.scores:
            return "no other number was allowed"
        if self.k == 1:
            return f"groups within them are hardly clearer than in a cloud without any ({self.beyond:.2f}; 1 perfectly apart)"
        again = self.parts["stability"][list(self.scores).index(self.k)]
        often = next(word for least, word in ((0.8, ""), (0.5, "mostly "), (0.0, "partly ")) if again >= least)
        clear = f"groups are clearest at this number ({self.beyond:.2f}; 0 as in a cloud without any, 1 perfectly apart)"
        return f"{clear}, and {often}come again from other draws of the pictures ({again:.2f} of 1)"


def count(features_ND: Tensor, generator: torch.Generator, least: int = 1, most: int | None = None) -> Count:
    """The number of kinds among rows, from `least` to `most`; None: to as many as the rows can tell apart, one for six rows.

    features_ND: any device and float type; lengths do not count. At most 4,000 rows are looked at. The same generator, the same answer.
    InputError: fewer than 20 rows, rows that are not finite, no number between `least` and `most`, or one the rows are too few for.
    """
    check(features_ND)
    n = len(features_ND)
    if n < FEWEST:
        raise InputError(f"{n} pictures are too few to count kinds among ({FEWEST} are needed); give --clusters K")
    if not 1 <= least <= (most or n) <= n:
        raise InputError(f"--clusters {least}:{most}: wanted A:B with 1 <= A <= B <= {n}, the number of pictures")
    with exact(torch.device("cpu")):
        some_ND = unit(features_ND[sample(n, generator, SAMPLE).to(features_ND.device)]).float().cpu()
        rows_Nd = seen(some_ND, *axes(some_ND, generator))
        last = int(SHARE * len(rows_Nd)) // 2  # numbers that can be tried at all: two rows of a draw each
        if least > last:
            raise InputError(f"--clusters from {least}: {n} pictures are too few to try so many; give --clusters K")
        if most == 1:
            return Count(1, 1, 1, {}, 0.0, {name: [] for name in ("silhouette", "spectral", "stability", "gap")})
        return _search(rows_Nd, generator, least, min(last, most or max(10, len(rows_Nd) // ROWS_PER_KIND)), most is not None)


def _search(rows_Nd: Tensor, generator: torch.Generator, least: int, last: int, fixed: bool) -> Count:
    draws = Draws(rows_Nd, generator)
    first = max(2, least)
    top = last if fixed else min(last, USUAL)
    while True:
        tried = grid(first, top)
        draws.try_all(tried)
        rough_T = blur(np.array(tried), _known(draws, tried))
        best = tried[int(rough_T.argmax())]
        if top == last or best < EDGE * top:
            break
        top = min(last, int(FURTHER * top))
    near = range(max(first, math.floor(best * (1 - NEAR))), min(last, math.ceil(best * (1 + NEAR))) + 1)
    tried = sorted({*tried, *near})
    draws.try_all(tried)
    k_T = np.array(tried)
    gap_T, spectral_T = graph(rows_Nd, tried, best, generator, draws)
    silhouette_TS, stability_TS = (np.array([of[k] for k in tried]) for of in (draws.silhouettes, draws.stabilities))

    def whole(silhouette_T: np.ndarray, stability_T: np.ndarray) -> np.ndarray:
        plain_T = (silhouette_T + spectral_T) / 2 * blur(k_T, stability_T) ** STABILITY * (1 + GAP * gap_T)
        return blur(k_T, plain_T)

    def highest(score_T: np.ndarray) -> int:
        return int(k_T[score_T.argmax()])

    silhouette_T, stability_T = silhouette_TS.mean(1), stability_TS.mean(1)
    score_T = whole(silhouette_T, stability_T)
    k = highest(score_T)
    others = [highest(whole(silhouette_TS[:, s], stability_TS[:, s])) for s in range(silhouette_TS.shape[1])]
    others += [highest(blur(k_T, one_T)) for one_T in (silhouette_T, spectral_T)]
    others += nearly_as_good(k_T, score_T)
    at, far = _beyond(rows_Nd, tried, silhouette_T, k, generator)
    clear = math.sqrt(at * far)
    scores = {int(number): float(score) for number, score in zip(k_T, score_T)}
    parts = {"silhouette": silhouette_T, "spectral": spectral_T, "stability": stability_T, "gap": gap_T}
    if least == 1 and clear < ONE_KIND:
        k, others = 1, [1]
    return Count(k, min([k, *others]), max([k, *others]), scores, clear, {name: values.tolist() for name, values in parts.items()})


def nearly_as_good(k_T: np.ndarray, score_T: np.ndarray) -> list[int]:
    """The numbers around the best one, without a gap, whose score is nearly as high."""
    low = high = int(score_T.argmax())
    bar = NEARLY * score_T.max()
    while low > 0 and score_T[low - 1] >= bar:
        low -= 1
    while high + 1 < len(k_T) and score_T[high + 1] >= bar:
        high += 1
    return k_T[low : high + 1].tolist()


def _known(draws: "Draws", tried: list[int]) -> np.ndarray:
    """The score as far as draws alone tell it."""
    return np.array([np.mean(draws.silhouettes[k]) * max(0.0, float(np.mean(draws.stabilities[k]))) ** STABILITY for k in tried])


class Draws:
    """Several draws of the rows, each with its tree of Ward's, and what clusterings of them say of each number that was tried: a silhouette
    and a stability, the mean agreement with the other draws, for each draw."""

    def __init__(self, rows_Nd: Tensor, generator: torch.Generator, number: int = DRAWS):
        self.rows_Nd, self.unit_Nd = rows_Nd, unit(rows_Nd)
        some = [torch.randperm(len(rows_Nd), generator=generator)[: int(SHARE * len(rows_Nd))] for _ in range(number)]
        self.parts = [rows_Nd[index] for index in some]
        self.trees = [ward(part_Md) for part_Md in self.parts]
        self.silhouettes: dict[int, list[float]] = {}
        self.stabilities: dict[int, list[float]] = {}
        self.first: dict[int, Tensor] = {}  # the labels by the first draw

    def labels(self, k: int) -> list[Tensor]:
        """The clusters of all rows by each draw: k-means on it from Ward's clusters, then the nearest centroid."""
        found = []
        for part_Md, tree in zip(self.parts, self.trees):
            start_Kd = means(part_Md, cut(tree, k), k)
            centroids_Kd = kmeans(part_Md, k, iters=15, init=start_Kd).centroids_KD
            found.append(torch.cdist(self.rows_Nd, centroids_Kd).argmin(1))
        return found

    def try_all(self, tried: list[int]) -> None:
        for k in tried:
            if k not in self.silhouettes:
                labels = self.labels(k)
                self.first[k] = labels[0]
                self.silhouettes[k] = [silhouette(self.unit_Nd, labels_N, k) for labels_N in labels]
                pairs = {(i, j): rand_index(labels[i], labels[j]) for i, j in combinations(range(len(labels)), 2)}
                alike = [[value for pair, value in pairs.items() if s in pair] for s in range(len(labels))]
                self.stabilities[k] = [max(0.0, sum(values) / len(values)) for values in alike]


def graph(rows_Nd: Tensor, tried: list[int], about: int, generator: torch.Generator, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """(gap of each number tried, as a share of the largest; silhouette of the spectral clustering), both (T,). `about`: the number of
    kinds that the size of neighbourhoods goes by."""
    n = len(rows_Nd)
    count = min(n - 1, max(NEIGHBOURS[0], min(NEIGHBOURS[1], n // (2 * about))))
    found = normalised(*nearest(rows_Nd, count))
    vectors_NV = leading(found, min(n, tried[-1] + 1), generator)
    values_V = (vectors_NV * (found @ vectors_NV)).sum(0).numpy()
    gap_T = np.array([max(0.0, values_V[k - 1] - values_V[k]) if k < len(values_V) else 0.0 for k in tried])
    spectral_T = []
    for k in tried:
        within_Nk = unit(vectors_NV[:, :k]).float()
        labels_N = kmeans(within_Nk, k, iters=15, init=means(within_Nk, draws.first[k], k)).labels_N
        spectral_T.append(silhouette(draws.unit_Nd, labels_N, k))
    return gap_T / max(1e-12, gap_T.max()), np.array(spectral_T)


def _beyond(rows_Nd: Tensor, tried: list[int], silhouette_T: np.ndarray, k: int, generator: torch.Generator) -> tuple[float, float]:
    """How far the silhouette is beyond a cloud's: at `k`, and at most, over some of the numbers tried. Of few rows several clouds are
    made, and half of what they waver by counts for them: by chance few rows look like groups."""
    some = sorted({k, *tried[:: max(1, len(tried) // 8)]})
    by_cloud = []
    for _ in range(max(1, min(MOST_CLOUDS, CLOUD_ROWS // len(rows_Nd)))):
        none = Draws(cloud(rows_Nd, generator), generator, CLOUD_DRAWS)
        none.try_all(some)
        by_cloud.append([float(np.mean(none.silhouettes[one])) for one in some])
    bar_T = np.mean(by_cloud, 0) + WAVER * np.std(by_cloud, 0)
    far = {one: beyond(float(silhouette_T[tried.index(one)]), float(bar)) for one, bar in zip(some, bar_T)}
    return far[k], max(far.values())


def grid(first: int, top: int) -> list[int]:
    """All numbers from `first` to `top` up to 30, then each about a twentieth larger than the one before; `top` is the last."""
    found = list(range(first, min(DENSE, top) + 1))
    value = float(max(first, DENSE))
    while value < top:
        found.append(min(top, round(value)))
        value *= STEP
    return sorted({*found, top} if top >= first else {first})


def ward(rows_Nd: Tensor) -> np.ndarray:
    """Ward's tree: the pairs merged, (N - 1, 2) int64, those first whose merging adds least; the cluster that step i makes is N + i."""
    from scipy.cluster.hierarchy import linkage

    return linkage(rows_Nd.double().numpy(), "ward")[:, :2].astype(np.int64)


def cut(tree: np.ndarray, k: int) -> Tensor:
    """Labels (N,) int64, 0 to k - 1, of the rows when k clusters are left of a tree."""
    n = len(tree) + 1
    above = np.arange(2 * n - 1)
    above[tree[: n - k].ravel()] = np.repeat(n + np.arange(n - k), 2)
    while (further := above[above]).tolist() != above.tolist():
        above = further
    return torch.from_numpy(np.unique(above[:n], return_inverse=True)[1].reshape(-1))


def blur(k_T: np.ndarray, values_T: np.ndarray) -> np.ndarray:
    """A weighted mean of each value with those of neighbouring numbers, by their distance in log K."""
    log_T = np.log(k_T)
    weight_TT = np.exp(-0.5 * ((log_T[:, None] - log_T) / BLUR) ** 2)
    return weight_TT @ values_T / weight_TT.sum(1)
