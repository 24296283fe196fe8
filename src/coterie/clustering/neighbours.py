"""The nearest rows by cosine similarity, or by distance: exact, in tiles, never an N x N matrix in memory.

Shapes: N rows searched, M queries, D feature, K neighbours, B rows of a tile, C columns of a tile, G groups of columns.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coterie.clustering.rows import check, chunks, exact, unit
from coterie.errors import InputError

ROOT = 2.5  # neighbours for the root of N / K: neighbourhoods grow more slowly than kinds
PROBED = 48  # cells of faiss's file that are looked into: 0.96 of the true neighbours of 100,000 rows lie in 32 of its 1,265
DEEP = 8  # times as many rows as neighbours are asked for lie in these cells at least
TRAINED, ROUNDS = 64, 10  # rows a cell that its middles are learned from, and iterations (256 and 25 in faiss, for the same recall)
TILE = {"cpu": (1024, 1 << 14)}  # measured on two cores, 60,000 x 128: rows and columns of similarities at once, 64 MB
TILE_ELSEWHERE = (4096, 1 << 14)  # 256 MB; larger products keep an accelerator busy


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

    approximate  through faiss (an inverted file that looks into 48 of its cells) instead of all pairs: benchmarks/results/near.csv
    Returns Neighbours(index (N or M, k) int64, similarity (N or M, k) float32) on the device of the features.
    InputError: k below 1 or more than there are, rows that are not finite, columns that do not match, faiss missing.
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
        search = _search_approximately if approximate else _search
        index, similarity = search(rows_ND, queries, k, queries_MD is None)
        index, order = index.sort(1)
        similarity, ranks = similarity.gather(1, order).sort(dim=1, descending=True, stable=True)
        return Neighbours(index.gather(1, ranks), similarity.float().clamp_(-1, 1))


def _search(rows_ND: Tensor, queries_MD: Tensor, k: int, without_self: bool) -> tuple[Tensor, Tensor]:
    high, wide = TILE.get(rows_ND.device.type, TILE_ELSEWHERE)
    # k of n by groups costs n / size maxima and k * size members: least where the two are equal
    size = 1 << max(0, round(math.log2(min(wide, len(rows_ND)) / k) / 2))
    buffer = rows_ND.new_empty(min(high, len(queries_MD)) * min(wide, len(rows_ND)))
    index_MK = torch.empty(len(queries_MD), k, dtype=torch.int64, device=rows_ND.device)
    similarity_MK = rows_ND.new_empty(len(queries_MD), k)
    for some in chunks(len(queries_MD), high):
        found = []
        for part in chunks(len(rows_ND), wide):
            shape = some.stop - some.start, part.stop - part.start
            tile_BC = torch.mm(queries_MD[some], rows_ND[part].T, out=buffer[: shape[0] * shape[1]].view(shape))
            if without_self:
                tile_BC.diagonal(some.start - part.start).fill_(-math.inf)  # empty where the tile holds no row's own column
            values, columns = _largest(tile_BC, k, size)
            found.append((values, columns + part.start))
        values, columns = (torch.cat(each, 1) for each in zip(*found))
        similarity_MK[some], best = values.topk(k)
        index_MK[some] = columns.gather(1, best)
    return index_MK, similarity_MK


def _largest(tile_BC: Tensor, k: int, size: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, and their columns: they lie in the k groups with the largest maxima, so only those are searched."""
    groups, k = tile_BC.shape[1] // size, min(k, tile_BC.shape[1])
    if groups <= k or size == 1:
        values, columns = tile_BC.topk(k)
        return values, columns
    whole = groups * size  # group g: columns g, g + groups, g + 2 groups, ..., so that maxima run along memory
    best_BK = tile_BC[:, :whole].unflatten(1, (size, groups)).amax(1).topk(k, sorted=False).indices
    steps = torch.arange(0, whole, groups, device=tile_BC.device)
    columns = (best_BK[:, None] + steps[:, None]).flatten(1)
    if whole < tile_BC.shape[1]:
        rest = torch.arange(whole, tile_BC.shape[1], device=tile_BC.device)
        columns = torch.cat([columns, rest.expand(len(columns), -1)], 1)
    values, best = tile_BC.gather(1, columns).topk(k)
    return values, columns.gather(1, best)


def _search_approximately(rows_ND: Tensor, queries_MD: Tensor, k: int, without_self: bool) -> tuple[Tensor, Tensor]:
    try:
        import faiss
    except ImportError:
        raise InputError("approximate neighbours need faiss: pip install coterie[faiss], or ask for exact ones") from None
    cells = max(1, round(4 * math.sqrt(len(rows_ND))))  # faiss's own advice: 4 to 16 times the root
    cells = min(cells, max(1, len(rows_ND) // 39))  # and 39 training rows a cell
    probed = max(PROBED, -(-DEEP * k * cells // len(rows_ND)))
    if probed >= cells:  # nothing would be spared
        return _search(rows_ND, queries_MD, k, without_self)
    rows = rows_ND.float().cpu().numpy()
    index: Any = faiss.index_factory(rows.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.niter = TRAINED, ROUNDS
    index.train(rows)
    index.add(rows)
    index.nprobe = probed
    similarity, found = index.search(queries_MD.float().cpu().numpy(), k + without_self)
    found_MK, similarity_MK = torch.from_numpy(found).to(rows_ND.device), torch.from_numpy(similarity).to(rows_ND)
    short = (found_MK < 0).any(1).nonzero().squeeze(1)  # cells with fewer rows than asked: those few exactly
    if len(short):
        found_MK[short], similarity_MK[short] = _search(rows_ND, queries_MD[short], k + without_self, False)
    return _drop_self(found_MK, similarity_MK) if without_self else (found_MK, similarity_MK)


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
