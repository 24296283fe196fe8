"""Rows that move along the graph of neighbours until each kind lies together, however long and thin it was.

Shapes: N rows, D feature, K neighbours.
"""

import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.rows import unit


def diffused(rows_ND: Tensor, index_NK: Tensor, steps: int, weight_NK: Tensor | None = None) -> Tensor:
    """Unit rows after so many steps, each to the direction of a row plus the mean of its nearest rows (`neighbours.nearest`); who these
    are does not change. `weight_NK`, 0 at least: what each of them counts in the mean; all the same when None."""
    rows_ND = unit(rows_ND)
    if weight_NK is not None:
        weight_NK = (weight_NK / weight_NK.sum(1, keepdim=True).clamp(min=1e-12)).to(rows_ND)
    for _ in range(steps):
        near_ND = F.embedding_bag(index_NK, rows_ND, mode="mean" if weight_NK is None else "sum", per_sample_weights=weight_NK)
        rows_ND = unit(rows_ND + near_ND)
    return rows_ND
