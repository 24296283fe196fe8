"""Who is trusted, and what to call them: pseudo-labels are int64 (N,) or (B,), -1 = left out, everywhere.

Shapes: N images, B batch, K clusters.
"""

import torch
from torch import Tensor


def confident(p_BK: Tensor, threshold: float) -> Tensor:
    """The most probable cluster where its probability is above `threshold` (strictly, as in SCAN's code), else -1. (B,) int64."""
    p_max, labels = p_BK.max(-1)
    return torch.where(p_max > threshold, labels, -1)
