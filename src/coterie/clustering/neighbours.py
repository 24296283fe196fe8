"""The nearest rows by cosine similarity, or by distance: exact, in tiles, never an N x N matrix in memory; or nearly so, among many rows.

Shapes: N rows searched, M queries, D feature, K neighbours, B rows of a tile.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from coterie.clustering.cells import nearest_in_cells
from coterie.clustering.rows import check, chunks, exact, unit
from coterie.clustering.tiles import TILE, nearest_of_all
from coterie.errors import InputError

ROOT = 2.5  # neighbours for the root of N / K: neighbourhoods grow more slowly than kinds


class Neighbours(NamedTuple):
    index_NK: Tensor  # int64, most similar first
    similarity_NK: Tensor  # float32, cosine in [-1, 1]


def neighbourhood(n: int, n_clusters: int, most: int) -> int:
    """How many neighbours of a row are asked where nothing else is said: 2.5 times the root of the rows a cluster has on average, 3 at
    least, `most` at most, and fewer than the `n` rows: 14 of 30 images a kind, 56 of 500. As many of each would join small kinds or cut
    large ones (benchmarks/results/heads.csv)."""
    return min(n - 1, max(3, min(most, round(ROOT * math.sqrt(n / n_clusters)))))


def nearest(features_ND: Tensor, k: int, queries_MD: Tensor | None = None, approximate: bool = False) -> Neighbours:
    """The `k` rows of `features_ND` most similar to each of its rows, or to each of `queries_MD`.

    Cosine similarity; rows are made unit length here, a zero row is similar to nothing (0.0). Without queries a row is never its own
    neighbour, by index: a duplicate of it may be. Most similar first; equals that are returned, lowest index first. Any device; besides a
    unit-length copy of the features it needs about 150 MB (CPU; 600 MB elsewhere) and the result.

    approximate  some 0.95 to 0.98 of them, sooner and with more memory (clustering/cells.py; benchmarks/results/near.csv)
    Returns Neighbours(index (N or M, k) int64, similarity (N or M, k) float32) on the device of the features.
    InputError: k below 1 or more than there are, rows that are not finite, columns that do not match.
    """
    check(features_ND)
    if queries_MD is not None:
        check(queries_MD, "queries")
        if queries_MD.shape[1] != features_ND.shape[1]:
            raise InputError(f"queries have {queries_MD.shape[1]} columns, features {features_ND.shape[1]}")
    most = len(features_ND) - (queries_MD is None)
    if not 1 <= k <= most:
        raise InputError(f"k = {k} neighbours asked, {len(features_ND)} rows have 1 to {max(most, 0)}")
    with exact(features_ND.device):
        rows_ND = unit(features_ND)
        queries = rows_ND if queries_MD is None else unit(queries_MD.to(rows_ND))
        if approximate and queries_MD is None:
            index, similarity = _drop_self(*nearest_in_cells(rows_ND, rows_ND, k + 1))
        elif approximate:
            index, similarity = nearest_in_cells(rows_ND, queries, k)
        else:
            index, similarity = nearest_of_all(rows_ND, queries, k, queries_MD is None)
        index, order = index.sort(1)
        similarity, ranks = similarity.gather(1, order).sort(dim=1, descending=True, stable=True)
        return Neighbours(index.gather(1, ranks), similarity.float().clamp_(-1, 1))


def _drop_self(index_MK: Tensor, similarity_MK: Tensor) -> tuple[Tensor, Tensor]:
    mine_MK = index_MK == torch.arange(len(index_MK), device=index_MK.device)[:, None]
    mine_MK[:, -1] |= ~mine_MK.any(1)  # not found itself (a zero row, many duplicates): its last neighbour goes instead
    return index_MK[~mine_MK].view(len(index_MK), -1), similarity_MK[~mine_MK].view(len(index_MK), -1)


def nearest_by_distance(rows_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` nearest other rows of each by Euclidean distance, (N, k) int64, nearest first, and the squared distances; in tiles.

    For rows whose length means something, such as pixels. InputError: k below 1 or more than there are others, rows that are not finite.
    """
    check(rows_ND)
    if not 1 <= k <= len(rows_ND) - 1:
        raise InputError(f"k = {k} neighbours asked, {len(rows_ND)} rows have 1 to {len(rows_ND) - 1}")
    found = []
    with exact(rows_ND.device):
        rows_ND = rows_ND - rows_ND.mean(0)  # so that distances do not drown in the rounding of large squares
        square_N = rows_ND.square().sum(1)
        for part in chunks(len(rows_ND), TILE["cpu"][0]):
            tile_BN = (square_N[part, None] + square_N).addmm_(rows_ND[part], rows_ND.T, alpha=-2)
            tile_BN.diagonal(part.start).fill_(math.inf)
            found.append(tile_BN.topk(k, largest=False))
    return torch.cat([one.indices for one in found]), torch.cat([one.values for one in found]).clamp_(min=0)


def with_itself(index_NK: Tensor) -> Tensor:
    """Each row's own number, then its neighbours', (N, 1 + K)."""
    return torch.cat([torch.arange(len(index_NK), device=index_NK.device)[:, None], index_NK], 1)
