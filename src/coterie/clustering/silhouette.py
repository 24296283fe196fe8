"""How much nearer rows are to their own cluster than to the next. Shapes: N rows, D feature, K clusters."""

import math

import torch
from torch import Tensor

from coterie.clustering.rows import means

ROUNDING = 1e-6  # of cosines of float32 rows


def silhouette(unit_Nd: Tensor, labels_N: Tensor, k: int) -> float:
    """The mean over rows of (b - a) / max(a, b), a the mean distance to the others of its cluster, b to those of the nearest other one;
    distance: 1 - cosine; 0 for a row alone in its cluster (Rousseeuw, 1987). float64; the mean of cosines is the cosine with a mean, so no
    pair is looked at."""
    unit_Nd = unit_Nd.double()
    sizes_K = labels_N.bincount(minlength=k)
    far_NK = 1 - unit_Nd @ means(unit_Nd, labels_N, k).T
    far_NK[:, sizes_K == 0] = math.inf
    size_N, own = sizes_K[labels_N], labels_N[:, None]
    itself_N = 1 - unit_Nd.square().sum(1)  # 0, but for a row of zeros
    a_N = (far_NK.gather(1, own).squeeze(1) * size_N - itself_N) / (size_N - 1).clamp(min=1)
    b_N = far_NK.scatter(1, own, math.inf).amin(1)
    a_N, b_N = a_N.clamp(min=ROUNDING), b_N.clamp(min=ROUNDING)  # copies of a row are no clusters
    score_N = (b_N - a_N) / torch.maximum(a_N, b_N)
    return float(torch.where((size_N > 1) & b_N.isfinite(), score_N, 0.0).mean())
