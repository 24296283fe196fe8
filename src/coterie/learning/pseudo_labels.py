"""Who is trusted, and what to call them: pseudo-labels are int64 (N,) or (B,), -1 = left out, everywhere.

Shapes: N images, B batch, D feature, H heads, K clusters (or neighbours), M chosen pairs of image and label, C images of a core.
What SPICE does on a batch takes one head, p_BK, or all at once, p_HBK; its results have the dimension H when p has.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import CHUNK, check, chunks, exact, means, unit
from coterie.errors import InputError
from coterie.learning.losses import by_rank, cross_entropy


def confident(p_BK: Tensor, threshold: float) -> Tensor:
    """The most probable cluster where its probability is above `threshold` (strictly, as in SCAN's code), else -1. (B,) int64."""
    p_max, labels = p_BK.max(-1)
    return torch.where(p_max > threshold, labels, -1)


# ---- prototypes (SPICE sec. III-B)


def prototype(
    features_BD: Tensor, p_BK: Tensor, core_share: float = 0.5, overlap: bool = True, shares_K: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """SPICE's prototype pseudo-labels: each cluster names the B // K images that are most similar to the mean of its core.

    features_BD  of the clean images; made unit length here. p_BK or p_HBK: probabilities of weak views of the same images.
    core_share   of B // K, in (0, 1]: so many of a cluster's most probable images are its core. Rounded down, at least 1.
                 0.5: the published code; Fig. 4 of the paper shows 1.
    overlap      an image may get several labels, or none (the paper's choice, sec. IV-F2). False: at most one. The most similar free pair
                 of image and cluster is always taken next, so the order of clusters does not matter; in the published code cluster 0
                 chooses first. Similar is what has the larger dot product with the mean; of equals the earlier image comes first.
    shares_K     how large kinds are, in any order, summing to one: the cluster with the most probability takes the largest share of B,
                 and so on (with overlap only). None: each takes B // K, as published.
    Returns (index, labels), both int64 (M,) or (H, M), with M = K * (B // K): image index[m] is called labels[m], cluster by cluster. Every
    cluster has as many, also one that a head predicts nowhere; with shares at least one. InputError: fewer images than clusters,
    numbers that are not finite.
    """
    _checked(features_BD, p_BK, core_share)
    *_, b, k = p_BK.shape
    counts_HK = _counts(p_BK, shares_K)
    means = core_means(features_BD, p_BK, core_share, shares_K)
    with exact(features_BD.device):
        similarity_HKB = means @ unit(features_BD).T
        each = int(counts_HK.max())
        chosen_HKC = similarity_HKB.topk(each).indices if overlap else _one_label_each(similarity_HKB, each)
    names_HKC = torch.arange(k, device=chosen_HKC.device)[:, None].expand_as(chosen_HKC)
    if shares_K is None:
        return chosen_HKC.flatten(-2), names_HKC.flatten(-2).contiguous()
    taken_HKC = torch.arange(each, device=chosen_HKC.device) < counts_HK[..., None]  # of each head as many: only the order differs
    shape = *p_BK.shape[:-2], -1
    return chosen_HKC[taken_HKC].view(shape), names_HKC[taken_HKC].view(shape)


def _counts(p_BK: Tensor, shares_K: Tensor | None) -> Tensor:
    """How many images each cluster names, (K,) or (H, K) int64."""
    *_, b, k = p_BK.shape
    if shares_K is None:
        return torch.full_like(p_BK[..., 0, :], b // k, dtype=torch.int64)
    return by_rank((shares_K * b).long().clamp(min=1), p_BK.float().mean(-2))


def core_means(features_BD: Tensor, p_BK: Tensor, core_share: float = 0.5, shares_K: Tensor | None = None) -> Tensor:
    """SPICE's prototypes (eqs. 2 and 3): for each cluster the mean of the unit features of its max(1, int(core_share * (B // K))) most
    probable images, or of its share of B in the place of B // K. (K, D) or (H, K, D), not unit length, in float32 or better. Arguments
    and errors as `prototype`."""
    _checked(features_BD, p_BK, core_share)
    sizes_HK = (core_share * _counts(p_BK, shares_K)).long().clamp(min=1)
    core_HKC = p_BK.detach().mT.topk(int(sizes_HK.max())).indices
    rows_BD = unit(features_BD)
    sizes_HK1, place_C = sizes_HK[..., None], torch.arange(core_HKC.shape[-1], device=rows_BD.device)
    weight_HKC = (place_C < sizes_HK1) / sizes_HK1.to(rows_BD)
    how: Any = {"mode": "mean"} if shares_K is None else {"mode": "sum", "per_sample_weights": weight_HKC.flatten(0, -2)}
    with exact(features_BD.device):  # an embedding bag takes means of rows without a copy of the rows
        means = F.embedding_bag(core_HKC.flatten(0, -2), rows_BD, **how)
    return means.unflatten(0, core_HKC.shape[:-1])


def prototype_losses(features_ND: Tensor, p_HNK: Tensor, core_share: float = 0.5, shares_K: Tensor | None = None) -> Tensor:
    """What SPICE chooses head and epoch by, without labels (sec. III-B, remark): each head's double-softmax cross-entropy on the prototype
    pseudo-labels of the whole set. (H,), lower is better; p_HNK has the dimension H. Arguments and errors as `prototype`."""
    index, labels = prototype(features_ND, p_HNK, core_share, shares_K=shares_K)
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


# ---- cluster purification (PCP)

KEPT_WHOLE = 5  # clusters of at most so many images are kept as they are (the published code)


def near_centroid(features_ND: Tensor, labels_N: Tensor, share: float = 0.5) -> Tensor:
    """PCP's unreliable sample filtering, CP_r: of each cluster the int(size * share) images nearest to its mean keep the label. (N,) int64.

    share 0.5: the published setting, the paper's 1 - gamma. Euclidean distance; a cluster of at most 5 images is kept whole. What is not
    kept is -1, and so is the only image that is left of a cluster. The published code returns at the first cluster with one member, which
    leaves all later ones out; here they are filtered like any other. InputError: features that are not finite, a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise InputError(f"share = {share}; a share in [0, 1] is needed")
    order, sizes_K, first_K = _by_closeness(features_ND, labels_N)
    quota_K = torch.where(sizes_K > KEPT_WHOLE, (sizes_K.double() * share).long(), sizes_K)
    quota_K = torch.where(quota_K > 1, quota_K, 0)
    found = labels_N[order]
    place = torch.arange(len(order), device=order.device) - first_K[found]
    return torch.full_like(labels_N, -1).index_copy(0, order, torch.where(place < quota_K[found], found, -1))


def anchors(features_ND: Tensor, labels_N: Tensor) -> Tensor:
    """The image nearest to the mean of each cluster, (K,) int64 with K the largest label + 1; -1 for a cluster without images."""
    order, sizes_K, first_K = _by_closeness(features_ND, labels_N)
    return torch.where(sizes_K > 0, order[first_K.clamp(max=len(order) - 1)], -1) if len(order) else sizes_K - 1


def _by_closeness(features_ND: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The labelled images cluster by cluster, in each the nearest to its mean first; sizes (K,); where each cluster begins (K,)."""
    check(features_ND)
    assert len(features_ND) == len(labels_N), f"{len(features_ND)} features, {len(labels_N)} labels"
    rows = (labels_N >= 0).nonzero().squeeze(1)
    k = int(labels_N.max()) + 1 if len(labels_N) else 0
    sizes_K = labels_N[rows].bincount(minlength=k)
    with exact(features_ND.device):
        means_KD = means(features_ND, labels_N, k)
        gaps = [(features_ND[some] - means_KD[labels_N[some]]).square().sum(1) for some in rows.split(CHUNK)]
    order = rows[torch.cat(gaps).argsort(stable=True)] if gaps else rows
    return order[labels_N[order].argsort(stable=True)], sizes_K, sizes_K.cumsum(0) - sizes_K


class Votes:
    """PCP's unstable sample filtering, CP_s (eq. 2): past clusterings vote on who belongs to a cluster's anchor.

    score(v) = 1 + sum over k = 1 .. window of s_k * decay^k, s_k = +1 if v and the anchor of its present cluster shared a cluster k
    clusterings ago, else -1 (signed, the published code) or 0 (the paper). A kept image below `drop_below` goes, one that was not kept
    with `add_from` or more comes; the published numbers are the defaults, with 15 votes a score is at most 4.859.
    """

    def __init__(
        self, window: int = 15, decay: float = 0.8, drop_below: float = 0.0, add_from: float = 3.0, signed: bool = True
    ):  # fmt: skip
        if window < 1:
            raise InputError(f"window = {window}; at least one past clustering must vote")
        self.window, self.decay, self.drop_below, self.add_from, self.signed = window, decay, drop_below, add_from, signed
        self.past: list[Tensor] = []  # the latest last, int32 (N,)

    @property
    def full(self) -> bool:
        """Whether as many clusterings are remembered as vote."""
        return len(self.past) >= self.window

    def remember(self, labels_N: Tensor) -> None:
        """One clustering more, of the whole set; the oldest goes."""
        self.past = [*self.past, labels_N.to(torch.int32)][-self.window :]

    def scores(self, labels_N: Tensor, anchor_K: Tensor) -> Tensor:
        """(N,) float32; images without a label have 1."""
        score_N = torch.ones_like(labels_N, dtype=torch.float32)
        for ago, past in enumerate(reversed(self.past), 1):
            past_N = past.to(labels_N.device)
            together_N = (past_N == past_N[anchor_K.clamp(min=0)][labels_N.clamp(min=0)]).float()
            score_N += self.decay**ago * (2 * together_N - 1 if self.signed else together_N)
        return torch.where(labels_N >= 0, score_N, 1.0)

    def revise(self, kept_N: Tensor, labels_N: Tensor, anchor_K: Tensor) -> Tensor:
        """The kept images after the vote, (N,) int64, -1 = left out; unchanged until `full`.

        kept_N from `near_centroid`, labels_N the clustering it was made of, anchor_K from `anchors`. The only image left of a cluster is
        left out. Clusters of at most 5, which `near_centroid` keeps whole, are voted on like any other.
        """
        if not self.full or not len(anchor_K):
            return kept_N
        score_N = self.scores(labels_N, anchor_K)
        stays_N = torch.where(kept_N >= 0, score_N >= self.drop_below, score_N >= self.add_from)
        revised_N = torch.where(stays_N & (labels_N >= 0), labels_N, -1)
        counts_K = revised_N[revised_N >= 0].bincount(minlength=len(anchor_K))
        return torch.where(counts_K[revised_N.clamp(min=0)] > 1, revised_N, -1)

    def state_dict(self) -> dict[str, Any]:
        return {"past": list(self.past)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.past = list(state["past"])


# ---- anchor neighbourhoods (AND)


def surest_neighbourhoods(features_ND: Tensor, count: int, n_neighbors: int = 1, temperature: float = 0.1) -> Tensor:
    """AND's curriculum (Huang et al. 2019, eqs. 5 and 6): ids (N, K) int64 of the neighbours of the `count` images that are surest, rows of
    -1 for the rest.

    Sure is a low entropy of the softmax of an image's similarities to all N, itself among them, divided by the temperature (0.1, as in
    the published code). Of equals the earlier image comes first.
    """
    neighbours_NK = nearest(features_ND, n_neighbors).index_NK
    with exact(features_ND.device):
        rows_ND = unit(features_ND)
        entropy = []
        for part in chunks(len(rows_ND), max(1, (1 << 24) // len(rows_ND))):
            log_p_BN = (rows_ND[part] @ rows_ND.T / temperature).log_softmax(1)
            entropy.append(-(log_p_BN.exp() * log_p_BN).sum(1))
    surest = torch.cat(entropy).argsort(stable=True)[:count]
    return torch.full_like(neighbours_NK, -1).index_copy(0, surest, neighbours_NK[surest])
