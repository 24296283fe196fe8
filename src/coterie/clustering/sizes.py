"""Whether kinds are alike in size, before anything is learned: heads are told to use all clusters alike, which tears a large kind apart
when it is not so.

Shapes: N rows, D feature, K clusters or neighbours.
"""

import math

import torch
from torch import Tensor

from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import check, exact
from coterie.clustering.sampling import sample
from coterie.clustering.spectral import spectral

NEIGHBOURS = 10
ROWS_PER_CLUSTER = 6  # below which sizes are a matter of chance, and taken to be even
EVEN = 0.97  # from which sizes count as even. Of draws of 3 to 50 even classes of Caltech-101's first fifty the least is 0.976


def evenness(features_ND: Tensor, k: int, generator: torch.Generator) -> float:
    """exp(entropy of the shares) / k of the clusters that the graph of neighbours falls into, 1 when they are alike, 1 / k at least.

    Rows are seen from their mean, by cosine; 5,000 of them at most. The graph is cut where it is thinnest, so, unlike those of k-means,
    these clusters may be of any size. Fewer than 6 rows a cluster: 1.
    """
    check(features_ND)
    n = len(features_ND)
    if k < 2 or n < ROWS_PER_CLUSTER * k:
        return 1.0
    some_N = sample(n, generator)
    with exact(features_ND.device):
        rows_ND = features_ND[some_N.to(features_ND.device)].float()
        found = nearest(rows_ND - rows_ND.mean(0), min(NEIGHBOURS, len(rows_ND) - 1))
        share_K = spectral(found.index_NK, found.similarity_NK, k, generator, restarts=3).bincount(minlength=k).double() / len(rows_ND)
    return math.exp(float(-torch.special.xlogy(share_K, share_K).sum())) / k
