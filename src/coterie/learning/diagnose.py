"""Health without labels: what a clustering looks like after an epoch, and when to worry.

Shapes: N images, H heads, K clusters, C an image and its nearest ones.
"""

import math
from typing import Any

import torch
from torch import Tensor

from coterie.clustering.neighbours import with_itself
from coterie.learning.losses import by_rank, distribution_entropy
from coterie.learning.words import CONFIDENT

COLLAPSE_SHARE = 0.5  # one cluster above this share, where an even one would hold less than half as much, is a collapse
COLLAPSE_EMPTY = 0.2  # more empty clusters than this share is a collapse
UNSURE = 0.3  # fewer confident images than this share: the result is little more than a guess


def vital_signs(p_NK: Tensor, previous_N: Tensor | None = None, confident: float = CONFIDENT) -> dict[str, Any]:
    """Sizes (list of K), empty clusters, entropy of the sizes (nats), share of confident images, share whose label changed."""
    labels = p_NK.argmax(1)
    sizes = torch.bincount(labels, minlength=p_NK.shape[1])
    signs: dict[str, Any] = {
        "sizes": sizes.tolist(),
        "empty": int((sizes == 0).sum()),
        "entropy": float(distribution_entropy(sizes / sizes.sum())),
        "confident": float((p_NK.max(1).values >= confident).float().mean()),
    }
    if previous_N is not None:
        signs["changed"] = float((labels != previous_N).float().mean())
    return signs


def agreement(labels_N: Tensor, neighbours_NK: Tensor) -> float:
    """How often an image and its neighbours share a cluster, corrected for chance: 1 always, 0 as often as sizes alone explain.

    (observed - expected) / (1 - expected) with expected = sum of squared cluster shares; 0.0 when one cluster holds everything,
    so that a collapse scores worst.
    """
    observed = (labels_N[neighbours_NK] == labels_N[:, None]).double().mean()
    expected = (torch.bincount(labels_N).double() / len(labels_N)).square().sum()
    return float((observed - expected) / (1 - expected)) if expected < 1 else 0.0


def discord(labels_N: Tensor, neighbours_NK: Tensor, k: int, shares_K: Tensor | None = None) -> float:
    """1 - agreement * evenness: 0 when neighbours always share a cluster and all k are of one size; near 1 by chance; a score of heads.

    evenness = entropy of the sizes / log k (1 for k = 1). Without it a head that merges kinds and leaves clusters empty would be as good.
    With shares that kinds are known to have, in any order: 1 - the divergence from them / log k, at least 0; 1 where sizes are as these.
    """
    sizes_K = torch.bincount(labels_N, minlength=k) / len(labels_N)
    if shares_K is None:
        evenness = float(distribution_entropy(sizes_K)) / math.log(k) if k > 1 else 1.0
    else:
        evenness = 1 + float(distribution_entropy(sizes_K, by_rank(shares_K, sizes_K))) / math.log(k) if k > 1 else 1.0
        evenness = max(0.0, evenness)  # the divergence has no bound, and below 0 more agreement would be worse
    return 1 - agreement(labels_N, neighbours_NK) * evenness


def neighbour_losses(p_HNK: Tensor, neighbours_NK: Tensor, prior_K: Tensor | None = None, chunk: int = 8192) -> Tensor:
    """SCAN's loss of each head over the whole set, (H,), lower is better: an image with itself and its 5 nearest, entropy weight 1.0.

    The published code compares heads so, but on the test images. `prior_K`: shares as in `distribution_entropy`, or (H, K).
    """
    pairs_NC = with_itself(neighbours_NK[:, :5])
    p_NHK = p_HNK.transpose(0, 1).contiguous()  # so that what is gathered for an image lies together
    total_H = torch.zeros(len(p_HNK), dtype=torch.float64, device=p_HNK.device)
    for pairs_BC in pairs_NC.split(chunk):
        p_BHK = p_NHK[pairs_BC[:, 0]]
        for other_B in pairs_BC.T:
            total_H -= (p_BHK * p_NHK[other_B]).sum(-1).clamp(min=1e-8).log().double().sum(0)
    return total_H / pairs_NC.numel() - distribution_entropy(p_HNK.mean(1), prior_K)


def continuity(labels_N: Tensor, before_N: Tensor) -> dict[str, float]:
    """How two clusterings of the same images agree, whatever their clusters are called; images that either leaves out (-1) do not count.

    nmi      mutual information over the geometric mean of the two entropies, in [0, 1] (DeepCluster, sec. 4.1); of two clusterings without
             entropy 1.0, of one with and one without 0.0
    changed  share of images that did not go where most of their former cluster went, in [0, 1)
    Empty when no image counts. Memory grows with the pairs of clusters that occur, never with all there could be.
    """
    both_N = (labels_N >= 0) & (before_N >= 0)
    labels, before = labels_N[both_N], before_N[both_N]
    if not len(labels):
        return {}
    k = int(labels.max()) + 1
    pairs_P, counts_P = (before * k + labels).unique(return_counts=True)
    p_P = counts_P.double() / len(labels)
    p_now, p_then = (group.bincount().double() / len(labels) for group in (labels, before))
    mutual = (p_P * (p_P / (p_then[pairs_P // k] * p_now[pairs_P % k])).log()).sum()
    entropies = [-(p * p.clamp(min=1e-300).log()).sum() for p in (p_now, p_then)]
    most = counts_P.new_zeros(len(p_then)).scatter_reduce(0, pairs_P // k, counts_P, "amax")
    if min(entropies) <= 0:
        nmi = 1.0 if max(entropies) <= 0 else 0.0
    else:
        nmi = float((mutual / (entropies[0] * entropies[1]).sqrt()).clamp(0, 1))
    return {"nmi": nmi, "changed": 1 - int(most.sum()) / len(labels)}


def worries(signs: dict[str, Any]) -> list[str]:
    """What is wrong with a clustering of these vital signs, each with what to try; empty when well."""
    sizes, found = signs["sizes"], []
    k, n = len(sizes), sum(sizes)
    largest = max(sizes) / n
    if k > 1 and (largest > max(COLLAPSE_SHARE, 2 / k) or largest == 1):
        found.append(
            f"collapse: one of {k} clusters holds {largest:.0%} of the images; try another --seed, more pretext epochs, or fewer --clusters"
        )
    if signs["empty"] > COLLAPSE_EMPTY * k or (signs["empty"] and not found and k <= 5):
        found.append(f"{signs['empty']} of {k} clusters are empty; try fewer --clusters")
    if signs.get("confident", 1) < UNSURE:
        found.append(
            f"only {signs['confident']:.0%} of the images are assigned with confidence; "
            "try a longer training, another --clusters, or --encoder with --weights"
        )
    return found
