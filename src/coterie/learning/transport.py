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


def even_labels(log_p_NK: Tensor, strength: float = 25.0, turns: int = 100) -> Tensor:
    """SeLa's labels (eq. 5): (N,) int64, of all labellings that give each cluster as many images nearly the one that is likeliest under
    log_p_NK, the log-probabilities. `strength`: lambda, how near (the published code: 25)."""
    return even_shares(strength * log_p_NK, turns).argmax(1)
