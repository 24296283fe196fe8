"""Some of many rows; as many images of each cluster (DeepCluster sec. 3.3). Shapes: N images, C non-empty clusters, M draws."""

import torch
from torch import Generator, Tensor

from coterie.errors import InputError

SAMPLE = 5000  # rows looked at, at most, where a few thousand say what all would


def sample(n: int, generator: Generator, most: int = SAMPLE) -> Tensor:
    """`most` of the ids 0 .. n - 1, drawn without replacement, ascending; all where there are no more. int64, on the CPU."""
    return torch.arange(n) if n <= most else torch.randperm(n, generator=generator)[:most].sort().values


def uniform_draw(labels_N: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` images, each non-empty cluster as often as any other: so that small clusters are learned, and large ones do not swallow all.

    labels_N  -1: left out, never drawn. Empty clusters get nothing, and nobody else's share.
    Each of C non-empty clusters gets count // C draws, a random `count % C` of them one more. A cluster with as many images as that or
    more gives different ones; a smaller one gives images with repetition, as the published code. (There the drawn numbers then address a
    set in another order, so that large clusters stay large; this is the intended draw.) Returns int64 (count,) ids in random order, on the
    CPU, where the draws are made. InputError when no image has a label.
    """
    labels = labels_N.cpu()
    kept = (labels >= 0).nonzero().squeeze(1)
    if not len(kept):
        raise InputError("no image has a pseudo-label, so none can be drawn")
    order = kept[torch.randperm(len(kept), generator=generator)]
    order = order[labels[order].argsort(stable=True)]  # cluster by cluster, at random within
    size_C = labels[kept].unique(return_counts=True)[1]
    share_C = torch.full_like(size_C, count // len(size_C))
    share_C[torch.randperm(len(size_C), generator=generator)[: count % len(size_C)]] += 1
    cluster_M = torch.arange(len(size_C)).repeat_interleave(share_C)
    place_M = torch.arange(count) - (share_C.cumsum(0) - share_C)[cluster_M]
    any_M = (torch.rand(count, generator=generator, dtype=torch.float64) * size_C[cluster_M]).long()
    place_M = torch.where((size_C >= share_C)[cluster_M], place_M, any_M)
    drawn_M = order[(size_C.cumsum(0) - size_C)[cluster_M] + place_M]
    return drawn_M[torch.randperm(count, generator=generator)]
