"""What a few pictures whose kind was said tell of all others: label spreading along the graph of neighbours (Zhou et al. 2004).

    T  = how the clusters stand to the kinds: T_ck, of what was said of cluster c's pictures, how much was "k"; before anything is said, I
    Y  = p T, what each picture would be by its cluster alone; an anchor's row is one at its kind, and counts more
    F <- a S F + (1 - a) Y, again and again: each picture as its neighbours, and as it was; S = D^-1/2 W D^-1/2

So a cluster that is one kind stays as it is, and in one that holds two each picture goes to the kind of those anchors that are near.
Shapes: N images, K kinds.
"""

import torch
from torch import Tensor

from coterie.clustering.spectral import Graph

TRUST = 2.0  # anchors' worth of belief that a cluster is the kind it is called
FOLLOW = 0.9  # a: how much of a picture is what its neighbours are
STEPS = 50  # a^50 = 0.005
WEIGHT = 10.0  # an anchor's, in pictures


def by_cluster(p_NK: Tensor, anchor_N: Tensor, trust: float = TRUST) -> Tensor:
    """p T, (N, K) float64. p_NK: probabilities of the kinds, by the clusters alone; anchor_N: kind of each anchor, -1 elsewhere."""
    p_NK = p_NK.double()
    k, here_A = p_NK.shape[1], (anchor_N >= 0).nonzero().squeeze(1)
    said_KK = trust * torch.eye(k, dtype=p_NK.dtype)
    said_KK += p_NK[here_A].T @ torch.nn.functional.one_hot(anchor_N[here_A], k).to(p_NK)
    return p_NK @ (said_KK / said_KK.sum(1, keepdim=True))


def spread(
    graph: Graph, p_NK: Tensor, anchor_N: Tensor, trust: float = TRUST, follow: float = FOLLOW, weight: float = WEIGHT, steps: int = STEPS
) -> Tensor:
    """What each picture is, (N, K) float64, rows that sum to 1; an anchor is what was said of it."""
    y_NK = by_cluster(p_NK, anchor_N, trust)
    here_A = (anchor_N >= 0).nonzero().squeeze(1)
    one_AK = torch.nn.functional.one_hot(anchor_N[here_A], y_NK.shape[1]).to(y_NK)
    y_NK[here_A] = weight * one_AK
    f_NK = y_NK
    for _ in range(steps):
        f_NK = follow * (graph @ f_NK) + (1 - follow) * y_NK
    f_NK[here_A] = one_AK
    return f_NK / f_NK.sum(1, keepdim=True).clamp(min=1e-12)
