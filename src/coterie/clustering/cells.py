"""Nearly the nearest of many rows: rows lie in cells around the centres of a k-means, and a query looks into the cells nearest to it.

That is an inverted file (Jégou et al. 2011, without its codes). The queries that look into one cell are multiplied with its rows at once,
so that a row that is looked at costs as little as when all are: benchmarks/results/near.csv has it beside faiss's file and all pairs.
Shapes: N rows searched, M queries, D feature, K neighbours, C cells, P cells looked into, B queries of a chunk, W rows looked at.
"""

import math

import torch
from torch import Generator, Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.tiles import largest, nearest_of_all

CELLS = 2  # for the root of N: 4 needs twice as many looked into for the same recall, and a longer k-means
LOOKED_INTO = 32  # of the cells: 0.95 of the 20 nearest of 1,000,000 rows lie in them, 0.97 of 100,000 (benchmarks/results/near.csv)
DEEP = 8  # times as many rows as neighbours are asked for lie in these cells at least
LEARNED_FROM, ITERATIONS = 32, 5  # rows a cell that its centre is learned from; 64 and 10 have the same recall
AT_ONCE = 1 << 25  # similarities: 128 MB


def nearest_in_cells(rows_ND: Tensor, queries_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Numbers (M, K) of rows with large products with each query, and the products; largest first. Rows and queries of unit length.

    All rows are compared where that is no more work. The centres are the same every time.
    """
    n = len(rows_ND)
    cells = max(1, min(round(CELLS * math.sqrt(n)), n // LEARNED_FROM))
    count = max(LOOKED_INTO, -(-DEEP * k * cells // n))
    if count >= cells:
        return nearest_of_all(rows_ND, queries_MD, k)
    rng = Generator().manual_seed(0)
    some = torch.randperm(n, generator=rng)[: LEARNED_FROM * cells].to(rows_ND.device)
    centres_CD = kmeans(rows_ND[some], cells, rng, iters=ITERATIONS, spherical=True).centroids_KD
    cell_N = nearest_of_all(centres_CD, rows_ND, 1)[0].squeeze(1)
    order_N, sizes_C = cell_N.argsort(stable=True), cell_N.bincount(minlength=cells).int()
    first_C, sorted_ND = sizes_C.cumsum(0) - sizes_C, rows_ND[order_N]
    cell_MP = nearest_of_all(centres_CD, queries_MD, count)[0].int()
    index_MK = torch.empty(len(queries_MD), k, dtype=torch.int64, device=rows_ND.device)
    similarity_MK = rows_ND.new_empty(len(queries_MD), k)
    most = int(sizes_C[cell_MP].sum(1).max())
    high = max(1, min(len(queries_MD), AT_ONCE // most))
    buffer = rows_ND.new_empty(high * max(k, most))
    for part_B in cell_MP[:, 0].argsort(stable=True).split(high):  # neighbours of one another look into the same cells
        cell_BP = cell_MP[part_B]
        place_BP = sizes_C[cell_BP].cumsum(1) - sizes_C[cell_BP]  # where the rows of each cell begin among those a query looks at
        wide = max(k, int((place_BP + sizes_C[cell_BP])[:, -1].max()))
        seen_BW = buffer[: len(part_B) * wide].view(len(part_B), wide).fill_(-math.inf)
        _look(seen_BW, queries_MD[part_B], sorted_ND, cell_BP, place_BP, first_C, sizes_C)
        similarity_MK[part_B], column_BK = largest(seen_BW, k)
        cell_BK = torch.searchsorted(place_BP, column_BK, right=True) - 1
        within_BK = column_BK - place_BP.gather(1, cell_BK)
        index_MK[part_B] = order_N[(first_C[cell_BP.gather(1, cell_BK)] + within_BK).clamp(max=n - 1)]
    few = (similarity_MK[:, -1] == -math.inf).nonzero().squeeze(1)  # fewer rows in these cells than asked for
    if len(few):
        index_MK[few], similarity_MK[few] = nearest_of_all(rows_ND, queries_MD[few], k)
    return index_MK, similarity_MK


def _look(
    seen_BW: Tensor, queries_BD: Tensor, sorted_ND: Tensor, cell_BP: Tensor, place_BP: Tensor, first_C: Tensor, sizes_C: Tensor
) -> None:
    """Puts the similarity of each query with the rows of the cells it looks into to their places in `seen_BW`: cell by cell."""
    wide, pairs = seen_BW.shape[1], cell_BP.flatten().argsort(stable=True)
    query = pairs // cell_BP.shape[1]
    begins = query * wide + place_BP.flatten()[pairs]
    cells, counts = cell_BP.flatten()[pairs].unique_consecutive(return_counts=True)
    whole, firsts, sizes = seen_BW.view(-1), first_C[cells].tolist(), sizes_C[cells].tolist()
    for some, begin, first, size in zip(query.split(counts.tolist()), begins.split(counts.tolist()), firsts, sizes):
        columns = torch.arange(size, device=seen_BW.device)
        whole[begin[:, None] + columns] = queries_BD[some] @ sorted_ND[first : first + size].T
