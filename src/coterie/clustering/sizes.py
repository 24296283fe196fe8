"""How large kinds are, before anything is learned: to ask that clusters be alike in size tears a large kind apart when kinds are not.

Shapes: N rows, S of them, D feature, K clusters or neighbours.
"""

import math

import torch
from torch import Tensor

from coterie.clustering.diffusion import diffused
from coterie.clustering.kmeans import kmeans
from coterie.clustering.neighbours import nearest, neighbourhood
from coterie.clustering.rows import check, exact, means, unit
from coterie.clustering.sampling import SAMPLE, sample
from coterie.clustering.silhouette import silhouette
from coterie.clustering.spectral import spectral

NEIGHBOURS = 10
ROWS_PER_CLUSTER = 6  # below which sizes are a matter of chance, and taken to be even
EVEN = 0.97  # from which sizes count as even. Of draws of 3 to 50 even classes of Caltech-101's first fifty the least is 0.976
PAIRED = 3000  # rows whose pairs are all looked at, at most
JUDGED = 2000  # of these, whose silhouettes are asked
MOST, STEPS = 40, 20  # neighbours along which rows move, at most, and how often they do
CLEARER = 0.05  # of silhouette, from which other clusters fit clearly better: 0.07 or more on tails of Caltech-101's first fifty
# classes, where they are right, 0.02 or less on even and uneven draws of MNIST, where they are not


def evenness(features_ND: Tensor, k: int, generator: torch.Generator) -> float:
    """exp(entropy) / k of `shares`, 1 when kinds are alike in size, 1 / k at least. Fewer than 6 rows a cluster: 1."""
    return _evenness(shares(features_ND, k, generator)) if len(features_ND) >= ROWS_PER_CLUSTER * k else 1.0


def shares(features_ND: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """How large the k clusters are that the graph of neighbours falls into, (K,) float64, the largest first; they sum to one.

    Rows are seen from their mean, by cosine; 5,000 of them at most. The graph is cut where it is thinnest, so, unlike those of k-means,
    these clusters may be of any size. Fewer than 6 rows a cluster: all alike.
    """
    check(features_ND)
    n = len(features_ND)
    if k < 2 or n < ROWS_PER_CLUSTER * k:
        return torch.full((k,), 1 / k, dtype=torch.float64)
    some_N = sample(n, generator, SAMPLE)
    with exact(features_ND.device):
        rows_ND = features_ND[some_N.to(features_ND.device)].float()
        found = nearest(rows_ND - rows_ND.mean(0), min(NEIGHBOURS, len(rows_ND) - 1))
        labels_S = spectral(found.index_NK, found.similarity_NK, k, generator, restarts=3)
    return (labels_S.cpu().bincount(minlength=k).double() / len(labels_S)).sort(descending=True).values


def power_law(shares_K: Tensor) -> Tensor:
    """The shares rank^-a, the largest first, whose divergence from these is least: those a long tail would have. (K,), they sum to one."""
    share_K, rank_K = shares_K.sort(descending=True).values, torch.arange(1, len(shares_K) + 1, dtype=shares_K.dtype)
    laws_AK = rank_K ** -torch.linspace(0, 4, 401, dtype=shares_K.dtype)[:, None]
    laws_AK /= laws_AK.sum(1, keepdim=True)
    return laws_AK[(share_K * laws_AK.log()).sum(1).argmax()]


def evenness_of(labels_N: Tensor, k: int) -> float:
    """exp(entropy of the shares) / k of these clusters, 1 when they are alike, 1 / k at least."""
    return _evenness(labels_N.bincount(minlength=k).double() / len(labels_N))


def _evenness(share_K: Tensor) -> float:
    return math.exp(float(-torch.special.xlogy(share_K, share_K).sum())) / len(share_K)


def kinds_of_any_size(features_ND: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k clusters that may be of any size, (N,) int64: of two proposals the one with the higher mean silhouette by cosine.

    moved   rows seen from their mean move along half the usual neighbourhood, the nearer the faster (weights: squared similarities), then
            k-means. A neighbourhood larger than a small kind would carry it into another
    joined  the two closest groups are joined, by the mean distance between their unit rows, until k are left. It finds a kind of two
            pictures among sixty; where kinds are alike it takes odd pictures for kinds, and a lower silhouette tells

    Of more than 3,000 rows so many are looked at, and the others go to the nearest mean. Choices were made on the classes 0 to 49 of
    Caltech-101. InputError: rows that are not finite, k above the number looked at.
    """
    check(features_ND)
    n = len(features_ND)
    some_S = sample(n, generator, PAIRED)
    with exact(torch.device("cpu")):
        rows_SD = features_ND[some_S.to(features_ND.device)].cpu().float()
        proposals = [_moved(rows_SD, k, generator), _joined(rows_SD, k)]
        judged = sample(len(rows_SD), generator, JUDGED)
        labels_S = max(proposals, key=lambda labels_S: silhouette(unit(rows_SD[judged]), labels_S[judged], k))
        if n <= PAIRED:
            return labels_S.to(features_ND.device)
        centres_KD = unit(means(unit(rows_SD), labels_S, k)).to(features_ND.device)
    with exact(features_ND.device):
        return torch.cat([(unit(part.float()) @ centres_KD.T).argmax(1) for part in features_ND.split(8192)])


def untorn(features_ND: Tensor, labels_N: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """These clusters, (N,) int64, or `kinds_of_any_size` where those differ in size and fit clearly better: by 0.05 of the mean silhouette.

    Most kinds have more than one row then, for an odd picture is none. Fewer than 6 rows a cluster, of those looked at:
    the same clusters.
    """
    judged = sample(len(features_ND), generator, JUDGED)
    if k < 2 or len(judged) < ROWS_PER_CLUSTER * k:
        return labels_N
    kinds_N = kinds_of_any_size(features_ND, k, generator).to(labels_N.device)
    alone = int((kinds_N.bincount(minlength=k) <= 1).sum())
    if evenness_of(kinds_N, k) >= EVEN or 2 * alone >= k:
        return labels_N
    rows_SD = features_ND[judged.to(features_ND.device)].cpu().float()
    kinds, clusters = (silhouette(unit(rows_SD), labels[judged.to(labels.device)].cpu(), k) for labels in (kinds_N, labels_N))
    return kinds_N if kinds >= clusters + CLEARER else labels_N


def _moved(rows_SD: Tensor, k: int, generator: torch.Generator) -> Tensor:
    rows_SD = rows_SD - rows_SD.mean(0)
    found = nearest(rows_SD, max(1, neighbourhood(len(rows_SD), k, 2 * MOST) // 2))
    moved_SD = diffused(rows_SD, found.index_NK, STEPS, found.similarity_NK.clamp(min=0).square())
    return kmeans(moved_SD, k, generator, 100, "k-means++", restarts=5).labels_N


def _joined(rows_SD: Tensor, k: int) -> Tensor:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    rows_SD = unit(rows_SD)
    far_SS = (2 - 2 * rows_SD @ rows_SD.T).clamp_(min=0).sqrt_().fill_diagonal_(0)
    return torch.from_numpy(fcluster(linkage(squareform(far_SS.numpy(), checks=False), "average"), k, "maxclust")).long() - 1
