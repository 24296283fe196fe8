"""What several fits of the same images agree on: their clusters are matched, their probabilities averaged, and each image gets the share of
fits that put it where the consensus does.

Each fit's clusters are matched one to one with those of the mean (Hungarian algorithm, on how much probability they share), the mean is
taken again, and so on until no match changes; the first mean is the first fit. Both steps raise what fits and mean share, so it ends.

Shapes: S fits, N images, K clusters.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from coterie.errors import InputError
from coterie.learning.evidence import rand_index

ROUNDS = 100  # never reached: a handful is enough


class Consensus(NamedTuple):
    """p_NK float32, rows sum to 1; labels_SN int64, each fit's clusters under the consensus' numbers; stability_N float32, the share of
    fits that agree with the cluster of p_NK; nearest: the fit that agrees most, whose own numbers the clusters keep; alike: the mean
    adjusted Rand index of all pairs of fits."""

    p_NK: Tensor
    labels_SN: Tensor
    stability_N: Tensor
    nearest: int
    alike: float


def consensus(fits: Sequence[Tensor]) -> Consensus:
    """Of the probabilities (N, K) of two fits or more. InputError when their shapes differ."""
    if len(fits) < 2 or len({tuple(p_NK.shape) for p_NK in fits}) > 1:
        raise InputError(f"a consensus needs two fits or more of the same images and clusters, not {[tuple(p.shape) for p in fits]}")
    p_SNK = torch.stack([p_NK.double().cpu() for p_NK in fits])
    order_SK, mean_NK = _matched(p_SNK, p_SNK[0]), p_SNK[0]
    for _ in range(ROUNDS):
        mean_NK = _under(p_SNK, order_SK).mean(0)
        before, order_SK = order_SK, _matched(p_SNK, mean_NK)
        if torch.equal(order_SK, before):
            break
    found_SN = _under(p_SNK, order_SK).argmax(2)
    agrees_SN = found_SN == mean_NK.argmax(1)
    nearest = int(agrees_SN.sum(1).argmax())
    own_K = order_SK[nearest]  # column j of the mean is column own_K[j] of that fit, whose head predicts: its numbers stay
    p_NK = torch.empty_like(mean_NK)
    p_NK[:, own_K] = mean_NK
    pairs = list(combinations(p_SNK.argmax(2), 2))
    alike = sum(rand_index(a, b) for a, b in pairs) / len(pairs)
    return Consensus(p_NK.float(), own_K[found_SN], agrees_SN.float().mean(0), nearest, alike)


def _matched(p_SNK: Tensor, mean_NK: Tensor) -> Tensor:
    """(S, K): which cluster of each fit goes with each of the mean's."""
    from scipy.optimize import linear_sum_assignment

    shared = [(mean_NK.T @ p_NK).numpy() for p_NK in p_SNK]
    return torch.stack([torch.from_numpy(linear_sum_assignment(table_KK, maximize=True)[1]) for table_KK in shared])


def _under(p_SNK: Tensor, order_SK: Tensor) -> Tensor:
    return p_SNK.gather(2, order_SK[:, None].expand_as(p_SNK))
