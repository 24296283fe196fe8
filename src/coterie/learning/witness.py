"""A second clustering of the same rows, made in another way, that tells how often a first one can be right.

Where two ways of looking at the features agree they are mostly right, and where they are wrong they mostly are in different pictures: how
often they agree is near to how often the first is right, and no label is asked (docs/confidence.md has how near).
Shapes: N rows, S rows of a sample, D feature, K clusters.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.diffusion import diffused
from coterie.clustering.kmeans import kmeans
from coterie.clustering.neighbours import nearest, neighbourhood
from coterie.clustering.rows import chunks, unit
from coterie.clustering.sampling import sample
from coterie.clustering.spectral import spectral
from coterie.learning.diagnose import discord

SAMPLE = 3000  # rows that are clustered, at most; the others go where the nearest of these are
CLUSTERS = 300  # at most: a tenth of the sample
MOST = 50  # neighbours in the graph that is cut
NEAR, STEPS = 10, 10  # neighbours, and steps, of the diffusion; both are half of PCP's, so that it is no copy of what that found
RESTARTS = 5
LEAD = 0.01  # of the score, from which k-means after diffusion is the witness: nearer ones are as good, and the cut wavers less
KINDS = ("cut of the graph of neighbours", "k-means after diffusion")
VOTES = 5  # nearest rows of the sample that say where another row belongs


class Witness(NamedTuple):
    """`labels_N`: its cluster of each row, by the numbers of the first clustering. `kind`: its place in KINDS. `agreed`: share of the
    sample in the same cluster as in the first, by the rule of succession, inside (0, 1)."""

    labels_N: Tensor
    kind: int
    agreed: float


def witness(features_ND: Tensor, labels_N: Tensor, k: int, generator: torch.Generator) -> Witness | None:
    """The graph of neighbours of the features, seen from their mean, cut where it is thinnest; or k-means after diffusion along it, where
    neighbours tell that this is clearly better (`diagnose.discord`). Computed on the CPU.

    labels_N  the first clustering, 0 .. k - 1
    None where it would tell nothing or take too long: one cluster or above 300, fewer than 3 rows or than clusters.
    InputError for rows that are not finite.
    """
    n = len(features_ND)
    if not 2 <= k <= min(n, CLUSTERS) or n < 3:
        return None
    labels_N = labels_N.cpu()
    index_S = sample(n, generator, SAMPLE)
    z_ND = unit((features_ND - features_ND.mean(0)).float())
    rows_SD = z_ND[index_S.to(z_ND.device)].cpu()
    count = max(neighbourhood(len(rows_SD), k, MOST), min(NEAR, len(rows_SD) - 1))
    found = nearest(rows_SD, count)
    few = found.index_NK[:, :NEAR]
    cut_S = spectral(found.index_NK, found.similarity_NK, k, generator)
    moved_S = kmeans(diffused(rows_SD, few, STEPS), k, generator, 100, "k-means++", restarts=RESTARTS).labels_N
    kind = int(discord(moved_S, few, k) < discord(cut_S, few, k) - LEAD)
    theirs_S, mine_S = renamed((cut_S, moved_S)[kind], labels_N[index_S], k), labels_N[index_S]
    agreed = (int((theirs_S == mine_S).sum()) + 1) / (len(mine_S) + 2)
    return Witness(theirs_S if n == len(index_S) else _spread(theirs_S, rows_SD, z_ND, index_S, k), kind, agreed)


def renamed(labels_N: Tensor, like_N: Tensor, k: int) -> Tensor:
    """`labels_N` with its 0 .. k - 1 numbered so that as many rows as possible have the number of `like_N` (the Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    table_KK = torch.bincount(labels_N * k + like_N, minlength=k * k).view(k, k).numpy()
    _, new_K = linear_sum_assignment(table_KK, maximize=True)
    return torch.from_numpy(np.asarray(new_K, np.int64))[labels_N]


def _spread(labels_S: Tensor, rows_SD: Tensor, z_ND: Tensor, index_S: Tensor, k: int) -> Tensor:
    """Labels (N,): those of the sample, and for the others the cluster of most of the nearest rows there."""
    found = []
    for part in chunks(len(z_ND), 1 << 14):
        index_BV = nearest(rows_SD.to(z_ND.device), VOTES, z_ND[part]).index_NK.cpu()
        found.append(F.one_hot(labels_S[index_BV], k).sum(1).argmax(1))
    labels_N = torch.cat(found)
    labels_N[index_S] = labels_S
    return labels_N
