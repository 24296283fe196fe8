"""What a person's corrections ask of the next clustering: pictures that must lie together, and pictures that must not.

An anchor is a picture whose kind was said: it was confirmed, or moved there. Two anchors of one kind must link, two of different kinds
cannot; pictures that are copies of each other must link as well. Must-links join into groups, so what is said of one picture of a group is
said of all (Wagstaff et al. 2001, COP-KMeans: the transitive closure).
Shapes: N images, P pairs, K kinds.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor


class Anchors(NamedTuple):
    """labels_N int64: the kind of each anchor and of what is linked with it, -1 elsewhere. contradictions: groups of linked pictures
    (their ids) that were said to be of different kinds; none of them is an anchor."""

    labels_N: Tensor
    contradictions: list[list[int]]


class Kept(NamedTuple):
    """Pairs of anchors: how many `must` link and how many `cannot`, and how many of each a clustering keeps."""

    must: int
    must_kept: int
    cannot: int
    cannot_kept: int

    @property
    def share(self) -> float:
        """Of all pairs; 1 where there are none."""
        pairs = self.must + self.cannot
        return (self.must_kept + self.cannot_kept) / pairs if pairs else 1.0


def groups(n: int, must_P2: Tensor) -> Tensor:
    """The smallest id of each image's group, (N,) int64: images joined by a chain of must-links, int64 pairs (P, 2) of ids."""
    group_N = torch.arange(n)
    if not len(must_P2):
        return group_N
    a_P, b_P = must_P2.T
    while True:
        least_P = torch.minimum(group_N[a_P], group_N[b_P])
        before_N = group_N.clone()
        for end_P in (a_P, b_P, before_N[a_P], before_N[b_P]):  # the ends, and those that stand for their groups
            group_N.scatter_reduce_(0, end_P, least_P, "amin")
        group_N = group_N[group_N]
        if torch.equal(group_N, before_N):
            return group_N


def closed(said_N: Tensor, group_N: Tensor) -> Anchors:
    """The transitive closure: what was said of one image (its kind, -1 where nothing was) is said of its whole group."""
    n, here_A = len(said_N), (said_N >= 0).nonzero().squeeze(1)
    least_N, most_N = (
        torch.full((n,), -1).scatter_reduce(0, group_N[here_A], said_N[here_A], how, include_self=False) for how in ("amin", "amax")
    )
    torn_N = least_N != most_N
    labels_N = torch.where(torn_N, -1, least_N)[group_N]
    return Anchors(labels_N, [(group_N == group).nonzero().squeeze(1).tolist() for group in torn_N.nonzero().squeeze(1).tolist()])


def copies(rows_ND: Tensor) -> Tensor:
    """Must-links (P, 2) between images whose features are the very same, which no head can tell apart: each with the first of them."""
    first: dict[bytes, int] = {}
    pairs = []
    for i, row_D in enumerate(rows_ND.numpy()):
        other = first.setdefault(hashlib.blake2b(row_D.tobytes(), digest_size=16).digest(), i)
        pairs += [(other, i)] if other != i else []
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


def kept(anchor_N: Tensor, labels_N: Tensor) -> Kept:
    """How many pairs of anchors (kinds, -1: none) a clustering keeps: must-links in one cluster, cannot-links in two. An image in no
    cluster (-1) is with nobody."""
    said_A, found_A = anchor_N[anchor_N >= 0], labels_N[anchor_N >= 0]
    if not len(said_A):
        return Kept(0, 0, 0, 0)
    table_KK = torch.zeros(int(said_A.max()) + 1, max(1, int(found_A.max()) + 1), dtype=torch.int64)
    table_KK.index_put_((said_A[found_A >= 0], found_A[found_A >= 0]), torch.ones((), dtype=torch.int64), accumulate=True)
    must, together, must_kept = _pairs(said_A.bincount()), _pairs(table_KK.sum(0)), _pairs(table_KK)
    cannot = len(said_A) * (len(said_A) - 1) // 2 - must
    return Kept(must, must_kept, cannot, cannot - (together - must_kept))


def _pairs(count: Tensor) -> int:
    """Pairs within groups of so many."""
    return int((count * (count - 1) // 2).sum())
