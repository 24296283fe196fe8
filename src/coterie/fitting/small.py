"""Small pictures: one pass over the decoded ones serves all that needs no detail, k-means on pixels and near-duplicates."""

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.images import Images

SIDE = 32  # px, at most: k-means on pixels gains nothing from more, and its time grows with the square


def small(images: Images) -> Tensor:
    """Area means (N, 3, h, w) float32 in 0..1, at most 32 px on a side, on the CPU; features (N, D) as they are."""
    if images.kind == "features":
        return images.pixels
    height, width = (min(SIDE, side) for side in images.size)
    return torch.cat([F.adaptive_avg_pool2d(batch.pixels_B3HW, (height, width)).cpu() for batch in images.batches(1024)])
