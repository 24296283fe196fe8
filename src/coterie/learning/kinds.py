"""Kinds of their own among rows that fit no cluster, without labels.

    near       of a row: the share of its nearest neighbours, among all rows, that fit no cluster either. A stray picture of a known kind
               has its own kind around it, far as it may be; one of a new kind has others of that
    overlap    of two parts of such rows: how often neighbours lie in the one and the other, beside how often in the same; 0 never, 1 as
               often as if they were one (clustering/hierarchy.py)

A kind is as many rows as are needed whose neighbours are mostly their own; what falls into parts that hardly touch is several.
Shapes: N known rows, M rows that fit nowhere, G of them in a group, D feature.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coterie.clustering.hierarchy import affinity, parted
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import unit
from coterie.clustering.sampling import sample

NEIGHBOURS = 7  # as novelty asks
FEWEST = 10  # rows of a kind: with fewer, seven neighbours cannot be its own
MOSTLY = 0.5  # near, and own, at least
TOUCH = 0.12  # overlap below which two parts are two kinds; of Caltech-101 (classes 0 to 49) two classes have 0.04, halves of one 0.26


class Kind(NamedTuple):
    """rows int64 (G,), ascending; own: the share of their neighbours, among all rows, that are of the kind."""

    rows: Tensor
    own: float


def kinds(known_ND: Tensor, strange_MD: Tensor, generator: Generator) -> list[Kind]:
    """The kinds among rows that fit nowhere, the largest first. The rows of both, float32, are seen from the mean of the known ones."""
    m, n, mean_D = len(strange_MD), len(known_ND), known_ND.mean(0)
    if m < FEWEST:
        return []
    rows_MD = unit(strange_MD - mean_D)
    near_MK = _neighbours(torch.cat([unit(known_ND - mean_D), rows_MD]), n)
    core_M = (near_MK >= n).double().mean(1) >= MOSTLY
    found = []
    for rows in _apart(rows_MD, core_M.nonzero().squeeze(1), generator):
        own = float(torch.isin(near_MK[rows], rows + n).double().mean())
        if len(rows) >= FEWEST and own >= MOSTLY:
            found.append(Kind(rows, own))
    return sorted(found, key=lambda kind: (-len(kind.rows), int(kind.rows[0])))


def _neighbours(rows_RD: Tensor, n: int) -> Tensor:
    """Of each row from the n-th on its nearest of all, itself left out, int64 (M, K)."""
    ids_M = torch.arange(n, len(rows_RD))
    found = nearest(rows_RD, min(NEIGHBOURS + 1, len(rows_RD)), rows_RD[n:])
    index_MK = found.index_NK
    other_MK = index_MK != ids_M[:, None]
    other_MK[:, -1] &= ~other_MK.all(1)  # not found itself, among copies: its last neighbour goes instead
    return index_MK[other_MK].view(len(ids_M), -1)


def _apart(rows_MD: Tensor, group: Tensor, generator: Generator) -> list[Tensor]:
    """The group, or its parts, cut in two again and again as long as the two hardly touch."""
    if len(group) < 2 * FEWEST:
        return [group]
    rows_GD = rows_MD[group]
    part_G = parted(rows_GD, 2, generator)
    some = sample(len(group), generator)
    near_SK = nearest(rows_GD[some], min(NEIGHBOURS, len(some) - 1)).index_NK
    within = affinity(F.one_hot(part_G[some], 2), near_SK)
    if not float(within[0, 1]) < TOUCH * float((within[0, 0] * within[1, 1]).sqrt()):
        return [group]
    return [found for part in (0, 1) for found in _apart(rows_MD, group[part_G == part], generator)]
