"""Near-duplicates among the pictures of a fit: counted, and a few kept for the report."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.images import Images
from coterie.learning.duplicates import SIDE, near_duplicates

GREY = 0.299, 0.587, 0.114  # of red, green and blue (ITU-R BT.601)
TOLD, OF_EACH = 2_000, 100  # groups, and ids of each, that a run keeps


def duplicates(images: Images, features_ND: Tensor) -> dict[str, Any]:
    """`extra`: images beyond the first of each group, exact copies among them; `groups`: how many; `largest`: their ids, bounded. Empty
    where there are no pictures."""
    if images.kind == "features":
        return {}
    found = near_duplicates(thumbnails(images), features_ND)
    extra = sum(len(group) - 1 for group in found)
    return {"extra": extra, "groups": len(found), "largest": [group[:OF_EACH] for group in found[:TOLD]]}


def thumbnails(images: Images) -> Tensor:
    """Grey (N, 8, 9) float32 in 0..1."""
    grey = torch.tensor(GREY)
    small = (F.adaptive_avg_pool2d(batch.pixels_B3HW, (SIDE, SIDE + 1)).cpu() for batch in images.batches(1024))
    return torch.cat([torch.einsum("bchw,c->bhw", some_B389, grey) for some_B389 in small])
