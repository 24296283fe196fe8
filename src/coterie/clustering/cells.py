"""Nearly the nearest of many rows: rows lie in cells around the centres of a k-means, and a query looks into the cells nearest to it.

That is an inverted file (Jégou et al. 2011, without its codes). The queries that look into one cell are multiplied with its rows at once,
so that a row that is looked at costs as little as when all are: benchmarks/results/near.csv has it beside faiss's file and all pairs.
Shapes: N rows searched, M queries, D feature, K neighbours, C cells, P cells looked into, B queries of a chunk, W rows looked at.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.tiles import largest, nearest_of_all

CELLS = 2  # for the root of N: 4 needs half again as many looked into for the same recall, and a longer k-means
LOOKED_INTO = 32  # of the cells: 0.95 of the 20 nearest of 1,000,000 rows lie in them, 0.97 of 100,000 (benchmarks/results/near.csv)
DEEP = 8  # times as many rows as neighbours are asked for lie in these cells at least
LEARNED_FROM, ITERATIONS = 32, 5  # rows a cell that its centre is learned from; 64 and 10 find 0.003 more in five times the k-means
AT_ONCE = 1 << 25  # similarities: 128 MB


class Cells(NamedTuple):
    """The rows, sorted by cell: those of cell c are sorted_ND[first_C[c] : first_C[c] + sizes_C[c]], their numbers in order_N likewise."""

    centres_CD: Tensor
    sorted_ND: Tensor
    order_N: Tensor
    first_C: Tensor
    sizes_C: Tensor


def cells_of(rows_ND: Tensor, count: int) -> Cells:
    """Each row in the cell of its nearest centre. The centres are the same every time."""
    rng = Generator().manual_seed(0)
    some = torch.randperm(len(rows_ND), generator=rng)[: LEARNED_FROM * count].to(rows_ND.device)
    centres_CD = kmeans(rows_ND[some], count, rng, iters=ITERATIONS, spherical=True).centroids_KD
    cell_N = nearest_of_all(centres_CD, rows_ND, 1)[0].squeeze(1)
    order_N, sizes_C = cell_N.argsort(stable=True), cell_N.bincount(minlength=count)
    return Cells(centres_CD, rows_ND[order_N], order_N, sizes_C.cumsum(0) - sizes_C, sizes_C.int())


def nearest_in_cells(rows_ND: Tensor, queries_MD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Numbers (M, K) of rows with large products with each query, and the products; largest first. Rows and queries of unit length.

    All rows are compared where that is no more work. Besides the result it needs a copy of the rows, some 500 bytes a query, and 200 MB.
    """
    n = len(rows_ND)
    count = max(1, min(round(CELLS * math.sqrt(n)), n // LEARNED_FROM))
    looked_into = max(LOOKED_INTO, -(-DEEP * k * count // n))
    if looked_into >= count:
        return nearest_of_all(rows_ND, queries_MD, k)
    cells = cells_of(rows_ND, count)
    cell_MP = nearest_of_all(cells.centres_CD, queries_MD, looked_into)[0].int()
    index_MK = torch.empty(len(queries_MD), k, dtype=torch.int64, device=rows_ND.device)
    similarity_MK = rows_ND.new_empty(len(queries_MD), k)
    most = max(k, int(cells.sizes_C[cell_MP].sum(1).max()))
    high = max(1, min(len(queries_MD), AT_ONCE // most))
    buffer = rows_ND.new_empty(high * most)
    for part_B in cell_MP[:, 0].argsort(stable=True).split(high):  # neighbours of one another look into the same cells
        cell_BP = cell_MP[part_B]
        ends_BP = cells.sizes_C[cell_BP].cumsum(1)  # of each cell's rows among those a query looks at
        wide = max(k, int(ends_BP[:, -1].max()))
        seen_BW = buffer[: len(part_B) * wide].view(len(part_B), wide).fill_(-math.inf)
        _look(seen_BW, queries_MD[part_B], cell_BP, ends_BP, cells)
        similarity_MK[part_B], column_BK = largest(seen_BW, k)
        place_BK = torch.searchsorted(ends_BP, column_BK, right=True).clamp(max=looked_into - 1)
        cell_BK = cell_BP.gather(1, place_BK)
        back_BK = ends_BP.gather(1, place_BK) - column_BK  # places before the end of the cell
        last_BK = cells.first_C[cell_BK] + cells.sizes_C[cell_BK]
        index_MK[part_B] = cells.order_N[(last_BK - back_BK).clamp(0, n - 1)]
    few = (similarity_MK[:, -1] == -math.inf).nonzero().squeeze(1)  # fewer rows in these cells than asked for
    if len(few):
        index_MK[few], similarity_MK[few] = nearest_of_all(rows_ND, queries_MD[few], k)
    return index_MK, similarity_MK


def _look(seen_BW: Tensor, queries_BD: Tensor, cell_BP: Tensor, ends_BP: Tensor, cells: Cells) -> None:
    """Puts the similarity of each query with the rows of the cells it looks into to their places in `seen_BW`: cell by cell."""
    pairs = cell_BP.flatten().argsort(stable=True)
    query = pairs // cell_BP.shape[1]
    begins = query * seen_BW.shape[1] + (ends_BP - cells.sizes_C[cell_BP]).flatten()[pairs]
    known, counts = cell_BP.flatten()[pairs].unique_consecutive(return_counts=True)
    whole, firsts, sizes = seen_BW.view(-1), cells.first_C[known].tolist(), cells.sizes_C[known].tolist()
    for some, begin, first, size in zip(query.split(counts.tolist()), begins.split(counts.tolist()), firsts, sizes):
        columns = torch.arange(size, device=seen_BW.device)
        whole[begin[:, None] + columns] = queries_BD[some] @ cells.sorted_ND[first : first + size].T
