"""What a few pictures whose kind was said tell of all others; row i is image i, and no picture is read.

    1. clusters  p T: T_ck, of what was said of cluster c's pictures, how much was "kind k"; c itself at first
                                                                                         a cluster that is two kinds, or another, is told so
    2. means     each kind's mean, in which an anchor counts as many pictures; each picture as near as it is to them; again, a few times
                 (soft k-means with seeds: Basu et al. 2002)                              what is said of one picture moves its whole kind
    3. spread    F <- a S F + (1 - a) Y, again and again: each picture as its neighbours are, and as the means say; S = D^-1/2 W D^-1/2,
                 the graph of neighbours (label spreading: Zhou et al. 2004)              and its neighbours, whatever the kind's form

Anchors stay what was said throughout. The means serve few pictures a kind, the spreading many: chosen together on classes 0 to 49 of
Caltech-101 and on MNIST (docs/refine.md). Shapes: N images, D feature, K kinds, A anchors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import exact, unit
from coterie.clustering.spectral import Graph, normalised

TRUST = 2.0  # answers' worth of belief that a cluster is the kind it is called
WEIGHT = 0.1  # of an anchor, at most: a tenth of the pictures that a kind has on average; one at least
SHARP, ROUNDS = 20.0, 15  # of the softmax over cosines; of means
NEIGHBOURS = 6
FOLLOW, STEPS = 0.97, 100  # a; 0.97^100 = 0.05


def neighbours(rows_ND: Tensor) -> Graph:
    """S, of two rows or more, as `beliefs` takes it. InputError for rows that are not finite."""
    found = nearest(rows_ND, min(NEIGHBOURS, len(rows_ND) - 1))
    return normalised(found.index_NK, found.similarity_NK)


def first_beliefs(rows_ND: Tensor, p_NK: Tensor, anchor_N: Tensor, outside_N: Tensor) -> Tensor:
    """Steps 1 and 2: how much each image is of each kind, (N, K) float32, rows that sum to 1.

    rows_ND: features seen from their mean (made unit length here). p_NK: what the clusters say. anchor_N int64: the kind that was said, -1
    where none was. outside_N bool: of no kind; these tell nobody anything.
    """
    return by_means(rows_ND, by_clusters(p_NK, anchor_N), anchor_N, weights_of(p_NK, anchor_N), outside_N)


def beliefs(rows_ND: Tensor, graph: Graph, p_NK: Tensor, anchor_N: Tensor, outside_N: Tensor) -> Tensor:
    """All three steps; an anchor is wholly of its own kind."""
    first_NK = first_beliefs(rows_ND, p_NK, anchor_N, outside_N)
    return spread(graph, first_NK, anchor_N, weights_of(p_NK, anchor_N), outside_N)


def weights_of(p_NK: Tensor, anchor_N: Tensor) -> Tensor:
    """What each anchor counts, in pictures, (N,) float32. Those of one kind together count no more than the pictures of a kind, or than
    they are: else a kind that was confirmed whole would take its neighbours."""
    each = len(p_NK) / p_NK.shape[1]
    many_N = anchor_N.clamp(min=0).bincount(anchor_N >= 0, p_NK.shape[1])[anchor_N.clamp(min=0)]
    return torch.minimum(torch.tensor(WEIGHT * each), each / many_N.clamp(min=1)).clamp(min=1.0).float()


def by_clusters(p_NK: Tensor, anchor_N: Tensor) -> Tensor:
    """Step 1, (N, K) float32."""
    k, here_N = p_NK.shape[1], anchor_N >= 0
    said_KK = TRUST * torch.eye(k, dtype=torch.float64)
    said_KK += p_NK[here_N].double().T @ F.one_hot(anchor_N[here_N], k).double()
    return (p_NK.double() @ (said_KK / said_KK.sum(1, keepdim=True))).float()


def by_means(rows_ND: Tensor, p_NK: Tensor, anchor_N: Tensor, weight_N: Tensor, outside_N: Tensor) -> Tensor:
    """Step 2: softmax of the cosines with the kinds' means, (N, K) float32. A kind without pictures keeps a mean of zero."""
    here_N = anchor_N >= 0
    one_NK, weight_N = _one_hot(anchor_N, p_NK), torch.where(here_N, weight_N, 1.0).masked_fill(outside_N, 0)
    with exact(rows_ND.device):
        rows_ND = unit(rows_ND).float()
        for _ in range(ROUNDS):
            p_NK = torch.where(here_N[:, None], one_NK, p_NK)
            means_KD = F.normalize((weight_N[:, None] * p_NK).T @ rows_ND)
            p_NK = (SHARP * rows_ND @ means_KD.T).softmax(1)
    return p_NK


def spread(graph: Graph, y_NK: Tensor, anchor_N: Tensor, weight_N: Tensor, outside_N: Tensor) -> Tensor:
    """Step 3, (N, K) float32."""
    here_N = (anchor_N >= 0)[:, None]
    one_NK = _one_hot(anchor_N, y_NK).double()
    y_NK = torch.where(here_N, weight_N[:, None] * one_NK, y_NK.double()).masked_fill(outside_N[:, None], 0)
    f_NK = y_NK
    for _ in range(STEPS):
        f_NK = FOLLOW * (graph @ f_NK) + (1 - FOLLOW) * y_NK
    sum_N1 = f_NK.sum(1, keepdim=True)
    f_NK = torch.where(sum_N1 > 0, f_NK / sum_N1.clamp(min=1e-30), 1 / y_NK.shape[1])  # nobody near: anything
    return torch.where(here_N, one_NK, f_NK).float()


def _one_hot(anchor_N: Tensor, p_NK: Tensor) -> Tensor:
    """Rows (N, K) of one at the kind that was said, whatever elsewhere."""
    return F.one_hot(anchor_N.clamp(min=0), p_NK.shape[1]).to(p_NK)
