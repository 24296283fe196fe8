"""How good each cluster is, and which pairs are hard to tell apart, without labels: what a person may look at, merge or leave.

Shapes: N images, D feature, K clusters or neighbours.
"""

from typing import Any

from torch import Tensor

from coterie.clustering.rows import means, unit

PAIRS = 10  # told at most, the most mixed first
MIXED, LOOK = 0.5, 0.15  # share of one cloud's mixing from which two clusters are one, and from which a look is worth it
FEWEST = 5  # images of a cluster, below which nothing is said of its pairs


def qualities(features_ND: Tensor, p_NK: Tensor, neighbours_NK: Tensor) -> list[dict[str, float]]:
    """Of each cluster that has images, by its number: `cohesion` (mean cosine of its features with their mean), `neighbours` (share of its
    images' neighbours in it), `margin` (mean lead of the largest probability over the second). Features are seen from their mean."""
    k, labels_N = p_NK.shape[1], p_NK.argmax(1)
    rows_ND = unit(features_ND)
    centres_KD = unit(means(rows_ND, labels_N, k))
    cohesion_N = (rows_ND * centres_KD[labels_N]).sum(1).double()
    near_N = (labels_N[neighbours_NK] == labels_N[:, None]).double().mean(1)
    top = p_NK.topk(min(2, k), 1).values.double()
    margin_N = top[:, 0] - (top[:, 1] if k > 1 else 0)
    found = []
    for cluster in range(k):
        mine_N = labels_N == cluster
        if mine_N.any():
            values = {"cohesion": cohesion_N, "neighbours": near_N, "margin": margin_N}
            found.append({"cluster": cluster} | {name: round(float(value_N[mine_N].mean()), 3) for name, value_N in values.items()})
    return found


def mixed_pairs(labels_N: Tensor, neighbours_NK: Tensor, k: int) -> list[dict[str, Any]]:
    """Pairs of clusters whose images are each other's neighbours, the most mixed first, 10 at most.

    `mixing`: of the neighbour pairs within the two, the share that crosses from one to the other, over the share if both were one cloud,
    2 n_a n_b / (n_a + n_b)^2: 0 apart, 1 no border at all. `crossing`: how many cross. `suggestion`: merge from 0.5, look from 0.15.
    """
    sizes_K = labels_N.bincount(minlength=k).double()
    here_E, there_E = labels_N.repeat_interleave(neighbours_NK.shape[1]), labels_N[neighbours_NK.flatten()]
    counts_KK = (here_E * k + there_E).bincount(minlength=k * k).view(k, k).double()
    cross_KK = (counts_KK + counts_KK.T).triu(1)
    inside_K = counts_KK.diagonal()
    within_KK = cross_KK + inside_K[:, None] + inside_K
    expected_KK = 2 * sizes_K[:, None] * sizes_K / (sizes_K[:, None] + sizes_K).clamp(min=1).square()
    mixing_KK = cross_KK / within_KK.clamp(min=1) / expected_KK.clamp(min=1e-12)
    large_K = sizes_K >= FEWEST
    mixing_KK = mixing_KK.where(large_K[:, None] & large_K & (cross_KK > 0), 0.0)
    found = []
    for place in mixing_KK.flatten().argsort(descending=True, stable=True)[:PAIRS].tolist():
        a, b = divmod(place, k)
        mixing = min(1.0, float(mixing_KK[a, b]))
        if mixing >= LOOK:
            told = {"mixing": round(mixing, 3), "crossing": int(cross_KK[a, b])}
            found.append({"pair": [a, b], **told, "suggestion": "merge" if mixing >= MIXED else "look"})
    return found
