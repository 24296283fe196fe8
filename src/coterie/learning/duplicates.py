"""Near-duplicates: copies that were scaled, compressed anew, or a little brighter; not those that were cut or turned. Found by a
difference hash, confirmed by what the pictures and their features say; never all pairs.

Shapes: N images, P pairs, D feature.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coterie.clustering.rows import unit

SIDE = 8  # the hash says of 8 x 8 places whether the next one to the right is brighter
BITS = 3  # that may differ; of 4 parts of 16 bits one is then the same, and only images that share a part are compared
FLAT = 1e-4  # of full scale: two places that differ by no more are equally bright, but for rounding
ALIKE = 0.025  # of full scale: mean difference of the thumbnails, seen from their mean, at most: flat pictures have a hash of noise
COSINE = 0.9  # of the features, seen from the mean of all, at least
WINDOW = 16  # images of one part that are compared with each, by the order of their hashes: where thousands share a part


def near_duplicates(thumbnails_N89: Tensor, features_ND: Tensor) -> list[list[int]]:
    """Groups of two ids or more, ascending, the largest first; what joins a group may be a chain.

    thumbnails_N89  grey float in 0..1 of each image, 8 rows of 9 (area means); features_ND any float
    """
    return _groups(len(thumbnails_N89), *_pairs(thumbnails_N89, features_ND, COSINE))


def representatives(thumbnails_N89: Tensor, features_ND: Tensor, cosine: float = COSINE) -> Tensor:
    """int64 (N,): of each image the smallest id that stands for it, its own where it is like no other. No chain: an image joins one that
    it is like itself, until no two of those that are left are alike. cosine: of the features, at least."""
    of_N = left_R = torch.arange(len(thumbnails_N89))
    while True:
        here_P, there_P = _pairs(thumbnails_N89[left_R], features_ND[left_R], cosine)
        if not len(here_P):
            return of_N
        joined_R = left_R[_first(len(left_R), here_P, there_P)]
        of_N = joined_R[torch.searchsorted(left_R, of_N)]
        left_R = joined_R.unique()


def _first(n: int, here_P: NDArray[np.int64], there_P: NDArray[np.int64]) -> Tensor:
    """Image by image: the first earlier one that it makes a pair with, among those that stand for themselves; else itself."""
    stands = np.arange(n)
    for i in np.lexsort((here_P, there_P)):
        here, there = here_P[i], there_P[i]
        if stands[here] == here and stands[there] == there:
            stands[there] = here
    return torch.from_numpy(stands)


def _pairs(thumbnails_N89: Tensor, features_ND: Tensor, cosine: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (P,), (P,) of near-duplicates, the smaller id first."""
    bits_N64 = (thumbnails_N89[:, :, 1:] - thumbnails_N89[:, :, :-1] > FLAT).flatten(1).cpu().numpy()
    here_P, there_P = _candidates(bits_N64)
    flat_NT = (thumbnails_N89.flatten(1) - thumbnails_N89.mean((1, 2))[:, None]).cpu()
    rows_ND = unit(features_ND - features_ND.mean(0)).cpu()
    keep_P = np.zeros(len(here_P), bool)
    for start in range(0, len(here_P), 1 << 15):
        a, b = (torch.from_numpy(ids_P[start : start + (1 << 15)]) for ids_P in (here_P, there_P))
        alike_B = ((flat_NT[a] - flat_NT[b]).abs().mean(1) <= ALIKE) & ((rows_ND[a] * rows_ND[b]).sum(1) >= cosine)
        keep_P[start : start + (1 << 15)] = alike_B.numpy()
    return here_P[keep_P], there_P[keep_P]


def _candidates(bits_N64: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (P,), (P,) of at most `BITS` bits' difference: all, where fewer than `WINDOW` images share a part."""
    packed_N8 = np.packbits(bits_N64, axis=1)
    parts_N4 = packed_N8.view(np.uint16)
    whole_N = packed_N8.view(">u8").ravel()
    found = []
    for part in range(parts_N4.shape[1]):
        order = np.lexsort((whole_N, parts_N4[:, part]))
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            a, b = order[:-step], order[step:]
            same = parts_N4[a, part] == parts_N4[b, part]
            if not same.any():
                break
            a, b = a[same], b[same]
            close = np.unpackbits(packed_N8[a] ^ packed_N8[b], axis=1).sum(1) <= BITS
            found.append(np.sort(np.stack([a[close], b[close]], 1), axis=1))
    pairs_P2 = np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)
    return pairs_P2[:, 0], pairs_P2[:, 1]


def _groups(n: int, here_P: NDArray[np.int64], there_P: NDArray[np.int64]) -> list[list[int]]:
    """Connected images, without the lone ones."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, group_N = connected_components(coo_matrix((np.ones(len(here_P)), (here_P, there_P)), shape=(n, n)), directed=False)
    joined = np.unique(np.concatenate([here_P, there_P]))
    groups: dict[int, list[int]] = {}
    for i in joined.tolist():
        groups.setdefault(int(group_N[i]), []).append(i)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0]))
