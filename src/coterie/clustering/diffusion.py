"""Rows that move along the graph of neighbours until each kind lies together, however long and thin it was.

Shapes: N rows, D feature, K neighbours.
"""

import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.rows import unit


def diffused(rows_ND: Tensor, index_NK: Tensor, steps: int) -> Tensor:
    """Unit rows after so many steps, each to the direction of a row plus the mean of its nearest rows (`neighbours.nearest`); who these
    are does not change."""
    rows_ND = unit(rows_ND)
    for _ in range(steps):
        rows_ND = unit(rows_ND + F.embedding_bag(index_NK, rows_ND, mode="mean"))
    return rows_ND
