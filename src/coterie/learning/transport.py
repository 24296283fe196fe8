"""Shares of clusters that are even, as optimal transport finds them. Shapes: B images, K clusters or prototypes."""

import math

from torch import Tensor


def even_shares(logits_BK: Tensor, turns: int = 3) -> Tensor:
    """(B, K) float32: shares of the clusters, each image's to one, that are near exp(logits) and give each cluster as much of the batch as
    any other.

    Sinkhorn's turns (Cuturi 2013): columns to 1 / K, then rows to 1 / B; after few of them columns are nearly even (SwAV: three).
    """
    b, k = logits_BK.shape
    log_BK = logits_BK.float()
    for _ in range(turns):
        log_BK = log_BK - log_BK.logsumexp(0) - math.log(k)
        log_BK = log_BK - log_BK.logsumexp(1, keepdim=True) - math.log(b)
    return log_BK.exp() * b
