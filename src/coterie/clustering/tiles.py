"""The nearest of all rows to each query, exactly: products in tiles, never an N x N matrix in memory.

Shapes: N rows searched, M queries, D feature, K neighbours, B rows of a tile, C columns of a tile, G groups of columns.
"""

import math

import torch
from torch import Tensor

from coterie.clustering.rows import chunks

TILE = {"cpu": (1024, 1 << 14)}  # measured on two cores, 60,000 x 128: rows and columns of similarities at once, 64 MB
TILE_ELSEWHERE = (4096, 1 << 14)  # 256 MB; larger products keep an accelerator busy


def nearest_of_all(rows_ND: Tensor, queries_MD: Tensor, k: int, without_self: bool = False) -> tuple[Tensor, Tensor]:
    """Numbers (M, K) of the rows with the largest products with each query, and the products; largest first."""
    high, wide = TILE.get(rows_ND.device.type, TILE_ELSEWHERE)
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
            values, columns = largest(tile_BC, k)
            found.append((values, columns + part.start))
        values, columns = (torch.cat(each, 1) for each in zip(*found))
        similarity_MK[some], best = values.topk(k)
        index_MK[some] = columns.gather(1, best)
    return index_MK, similarity_MK


def largest(tile_BC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, and their columns: they lie in the k groups with the largest maxima, so only those are searched."""
    wide, k = tile_BC.shape[1], min(k, tile_BC.shape[1])
    # k of n by groups costs n / size maxima and k * size members: least where the two are equal
    size = 1 << max(0, round(math.log2(wide / k) / 2))
    groups = wide // size
    if groups <= k or size == 1:
        values, columns = tile_BC.topk(k)
        return values, columns
    whole = groups * size  # group g: columns g, g + groups, g + 2 groups, ..., so that maxima run along memory
    best_BK = tile_BC[:, :whole].unflatten(1, (size, groups)).amax(1).topk(k, sorted=False).indices
    steps = torch.arange(0, whole, groups, device=tile_BC.device)
    columns = (best_BK[:, None] + steps[:, None]).flatten(1)
    if whole < wide:
        rest = torch.arange(whole, wide, device=tile_BC.device)
        columns = torch.cat([columns, rest.expand(len(columns), -1)], 1)
    values, best = tile_BC.gather(1, columns).topk(k)
    return values, columns.gather(1, best)
