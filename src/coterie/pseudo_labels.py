"""Who is trusted, and what to call them: pseudo-labels are int64 (N,) or (B,), -1 = left out, everywhere.

Shapes: N images, B batch, D feature, H heads, K clusters, M chosen pairs of image and label, C images of a core.
What SPICE does on a batch takes one head, p_BK, or all at once, p_HBK; its results have the dimension H when p has.
"""

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coterie.errors import InputError
from coterie.losses import cross_entropy
from coterie.neighbours import nearest
from coterie.rows import CHUNK, check, chunks, exact, unit


def confident(p_BK: Tensor, threshold: float) -> Tensor:
    """The most probable cluster where its probability is above `threshold` (strictly, as in SCAN's code), else -1. (B,) int64."""
    p_max, labels = p_BK.max(-1)
    return torch.where(p_max > threshold, labels, -1)


# ---- prototypes (SPICE sec. III-B)


def prototype(features_BD: Tensor, p_BK: Tensor, core_share: float = 0.5, overlap: bool = True) -> tuple[Tensor, Tensor]:
    """SPICE's prototype pseudo-labels: each cluster names the B // K images that are most similar to the mean of its core.

    features_BD  of the clean images; made unit length here. p_BK or p_HBK: probabilities of weak views of the same images.
    core_share   of B // K, in (0, 1]: so many of a cluster's most probable images are its core. Rounded down, at least 1.
                 0.5: the published code; Fig. 4 of the paper shows 1.
    overlap      an image may get several labels, or none (the paper's choice, sec. IV-F2). False: at most one. The most similar free pair
                 of image and cluster is always taken next, so the order of clusters does not matter; in the published code cluster 0
                 chooses first. Similar is what has the larger dot product with the mean; of equals the earlier image comes first.
    Returns (index, labels), both int64 (M,) or (H, M), with M = K * (B // K): image index[m] is called labels[m], cluster by cluster. Every
    cluster has as many, also one that a head predicts nowhere. InputError: fewer images than clusters, numbers that are not finite.
    """
    _checked(features_BD, p_BK, core_share)
    *_, b, k = p_BK.shape
    each = b // k
    means = core_means(features_BD, p_BK, core_share)
    with exact(features_BD.device):
        similarity_HKB = means @ unit(features_BD).T
        chosen = similarity_HKB.topk(each).indices if overlap else _one_label_each(similarity_HKB, each)
    index = chosen.flatten(-2)
    return index, torch.arange(k, device=index.device).repeat_interleave(each).expand_as(index).contiguous()


def core_means(features_BD: Tensor, p_BK: Tensor, core_share: float = 0.5) -> Tensor:
    """SPICE's prototypes (eqs. 2 and 3): for each cluster the mean of the unit features of its max(1, int(core_share * (B // K))) most
    probable images. (K, D) or (H, K, D), not unit length, in float32 or better. Arguments and errors as `prototype`."""
    _checked(features_BD, p_BK, core_share)
    *_, b, k = p_BK.shape
    size = max(1, int(core_share * (b // k)))
    core_HKC = p_BK.detach().mT.topk(size).indices
    with exact(features_BD.device):  # an embedding bag takes means of rows without a copy of the rows
        means = F.embedding_bag(core_HKC.flatten(0, -2), unit(features_BD), mode="mean")
    return means.unflatten(0, core_HKC.shape[:-1])


def prototype_losses(features_ND: Tensor, p_HNK: Tensor, core_share: float = 0.5) -> Tensor:
    """What SPICE chooses head and epoch by, without labels (sec. III-B, remark): each head's double-softmax cross-entropy on the prototype
    pseudo-labels of the whole set. (H,), lower is better; p_HNK has the dimension H. Arguments and errors as `prototype`."""
    index, labels = prototype(features_ND, p_HNK, core_share)
    # probabilities in the place of logits are the double softmax; head by head, as the rows picked are as many again as there are
    return torch.stack([cross_entropy(p_NK[index_M], labels_M) for p_NK, index_M, labels_M in zip(p_HNK, index, labels)])


def _checked(features_BD: Tensor, p_BK: Tensor, core_share: float) -> None:
    check(features_BD)
    check(p_BK.flatten(0, -2), "probabilities")
    b, k = p_BK.shape[-2:]
    assert len(features_BD) == b, f"{len(features_BD)} features, probabilities of {b} images"
    if b < k:
        raise InputError(f"{b} images cannot be shared out among {k} clusters; take a larger batch or fewer clusters")
    if not 0 < core_share <= 1:
        raise InputError(f"core_share = {core_share}; a share in (0, 1] is needed")


def _one_label_each(similarity_HKB: Tensor, each: int) -> Tensor:
    """The images of each cluster, (H, K, each) int64, when the most similar free pair is always taken next.

    Until the first cluster is full every image gets its favourite, so that all pairs up to there are taken at once; K rounds in all.
    """
    k = similarity_HKB.shape[-2]
    free_HBK = similarity_HKB.mT.clone(memory_format=torch.contiguous_format)
    labels_HB = torch.full_like(free_HBK[..., 0], -1, dtype=torch.int64)
    room_HK = torch.full_like(free_HBK[..., 0, :], each, dtype=torch.int64)
    for _ in range(k):
        best, favourite = free_HBK.max(-1)
        order = best.argsort(dim=-1, descending=True, stable=True)
        queue = favourite.gather(-1, order)
        place = F.one_hot(queue, k).cumsum(-2).gather(-1, queue[..., None])[..., 0]  # 1, 2, ... among those with the same favourite
        full = (place == room_HK.gather(-1, queue)).long()
        taken = full.cumsum(-1) - full == 0  # up to the first who fills a cluster, and that one
        labels_HB.scatter_(-1, order, torch.where(taken, queue, labels_HB.gather(-1, order)))
        room_HK = each - F.one_hot(labels_HB + 1, k + 1)[..., 1:].sum(-2)
        free_HBK.masked_fill_((labels_HB >= 0)[..., None] | (room_HK == 0)[..., None, :], -math.inf)
    left_last = torch.where(labels_HB >= 0, labels_HB, k)
    return left_last.argsort(dim=-1, stable=True)[..., : k * each].unflatten(-1, (k, each))


# ---- local consistency (SPICE sec. III-C)


def reliable(
    features_ND: Tensor,
    p_NK: Tensor,
    n_neighbors: int = 100,
    ratio: float = 0.95,
    threshold: float | None = None,
    balance: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """SPICE's reliable pseudo-labels: the most probable cluster of an image whose neighbours agree on it, else -1. (N,) int64.

    n_neighbors  most similar images by cosine, the image itself counted (100: sec. IV-B); ratio: the share of them, in [0, 1], that must
                 have its label, reached or passed (0.95: sec. IV-B; the published settings have 0.90 and, for CIFAR-10, 0.99)
    threshold    also asks for a probability above it, strictly (the published code: 0.99; the paper has none)
    balance      cuts every cluster to the count of the smallest one, drawn with `generator` (None: seed 0), as the published code does. A
                 cluster with no reliable image is left out of the cut; there it empties the whole set.
    InputError: n_neighbors below 1 or more than there are images, features or probabilities that are not finite.
    """
    check(p_NK, "probabilities")
    n = len(p_NK)
    assert len(features_ND) == n, f"{len(features_ND)} features, probabilities of {n} images"
    if not 1 <= n_neighbors <= n:
        raise InputError(f"n_neighbors = {n_neighbors} counts the image itself; with {n} images it can be 1 to {n}")
    p_max, labels = p_NK.max(1)
    agreeing = torch.ones_like(labels)
    if n_neighbors > 1:
        index_NK = nearest(features_ND, n_neighbors - 1).index_NK
        for some in chunks(n, CHUNK):
            agreeing[some] += (labels[index_NK[some]] == labels[some, None]).sum(1)
    needed = math.ceil(round(ratio * n_neighbors, 6))  # 0.55 of 100 is 55, though in floating point it is a little more
    kept = (agreeing >= needed) if threshold is None else (agreeing >= needed) & (p_max > threshold)
    labels = torch.where(kept, labels, -1)
    return _cut_to_equal_counts(labels, generator or torch.Generator().manual_seed(0)) if balance else labels


def _cut_to_equal_counts(labels_N: Tensor, generator: Generator) -> Tensor:
    kept = (labels_N >= 0).nonzero().squeeze(1)
    if not len(kept):
        return labels_N
    order = kept[torch.randperm(len(kept), generator=generator).to(kept.device)]
    order = order[labels_N[order].argsort(stable=True)]  # cluster by cluster, at random within
    counts = labels_N[kept].bincount()
    first = counts.cumsum(0) - counts
    place = torch.arange(len(order), device=order.device) - first[labels_N[order]]
    order = order[place < counts[counts > 0].min()]
    return torch.full_like(labels_N, -1).index_copy(0, order, labels_N[order])


# ---- as many images of each cluster (DeepCluster sec. 3.3)


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
