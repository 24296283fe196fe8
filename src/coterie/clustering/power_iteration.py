"""Power iteration clustering, the other clustering that DeepCluster is compared with (its sec. 3.1 and app.; Lin and Cohen 2010).

Shapes: N rows, D feature, K neighbours, E edges of the graph of neighbours, B rows of a tile.
"""

import torch
from torch import Tensor

from coterie.clustering.rows import check, chunks, exact, working_dtype
from coterie.errors import InputError

TILE = 1 << 24  # distances at once


def power_iteration_clustering(
    features_ND: Tensor, n_neighbors: int = 5, sigma: float = 0.2, alpha: float = 0.001, iters: int = 200
) -> Tensor:
    """Clusters rows by the hills of a random walk on their graph of neighbours; how many clusters there are comes out of it.

    features_ND  any device; distances as the rows are, so unit rows if angles are to count
    n_neighbors  of each row, by distance, itself excluded (5; this and what follows: the DeepCluster paper's code), at most N - 1
    sigma        an edge weighs exp(-distance^2 / sigma^2)
    alpha        share of the even start that is added at each of `iters` steps of the walk, which would else forget where rows differ

    With W = A + A^T of the weights and G = W / row sums:  v <- alpha / N + (1 - alpha) G^T v, brought to sum 1. A row then goes to that
    neighbour in W for which W_ij (v_j - v_i) is largest, if it is positive, and on from there; rows that end at the same top are a
    cluster. A row alone joins the cluster of the nearest row that is not.
    Returns int64 (N,) on the device of the features, clusters 0 .. C - 1. The graph and the walk are on the CPU in float64, with at most
    2 K N edges, so that every device finds the same.
    InputError: fewer than 2 rows, n_neighbors < 1, sigma <= 0, rows that are not finite.
    """
    check(features_ND)
    n = len(features_ND)
    if n < 2 or n_neighbors < 1 or sigma <= 0:
        raise InputError(
            f"{n} rows, n_neighbors = {n_neighbors}, sigma = {sigma}; at least 2 rows, 1 neighbour and a positive sigma are needed"
        )
    with exact(features_ND.device):
        rows_ND = features_ND.detach().to(working_dtype(features_ND))
        gap_NK, index_NK = _nearest(rows_ND, rows_ND, min(n_neighbors, n - 1), without_self=True)
        here_E, there_E, weight_E = _graph(index_NK.cpu(), (-gap_NK.cpu().double() / sigma**2).exp())
        v_N = _walk(here_E, there_E, weight_E, n, alpha, iters)
        labels_N = _uphill(here_E, there_E, weight_E, v_N)
        return _join_the_lonely(labels_N.to(rows_ND.device), rows_ND)


def _nearest(queries_MD: Tensor, rows_ND: Tensor, k: int, without_self: bool = False) -> tuple[Tensor, Tensor]:
    """Squared distances and ids (M, k) of the nearest rows, in tiles; without_self: the queries are the rows, none its own neighbour."""
    mean_D = rows_ND.mean(0)  # seen from here, distances do not drown in the rounding of large squares
    rows_ND = rows_ND - mean_D
    square_N = rows_ND.square().sum(1)
    gaps, ids = [], []
    for part in chunks(len(queries_MD), max(1, TILE // len(rows_ND))):
        some_BD = queries_MD[part] - mean_D
        gap_BN = torch.addmm(square_N, some_BD, rows_ND.T, alpha=-2) + some_BD.square().sum(1)[:, None]
        if without_self:
            gap_BN.diagonal(part.start).fill_(float("inf"))
        gap_Bk, id_Bk = gap_BN.topk(k, largest=False)
        gaps.append(gap_Bk.clamp_(min=0))
        ids.append(id_Bk)
    return torch.cat(gaps), torch.cat(ids)


def _graph(index_NK: Tensor, weight_NK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W = A + A^T as edges (from, to, weight), sorted by where they start."""
    n, k = index_NK.shape
    here, there = torch.arange(n).repeat_interleave(k), index_NK.flatten()
    edge_E, which = torch.cat([here * n + there, there * n + here]).unique(return_inverse=True)
    weight_E = torch.zeros(len(edge_E), dtype=weight_NK.dtype).index_add_(0, which, weight_NK.flatten().repeat(2))
    return edge_E // n, edge_E % n, weight_E


def _walk(here_E: Tensor, there_E: Tensor, weight_E: Tensor, n: int, alpha: float, iters: int) -> Tensor:
    sums_N = weight_E.new_zeros(n).index_add_(0, here_E, weight_E)
    share_E = weight_E / sums_N.clamp(min=torch.finfo(weight_E.dtype).tiny)[here_E]  # far rows: their weights may be all 0
    v_N = start_N = torch.full_like(sums_N, 1 / n)
    for _ in range(iters):
        v_N = alpha * start_N + (1 - alpha) * torch.zeros_like(v_N).index_add_(0, there_E, share_E * v_N[here_E])
        v_N = v_N / v_N.sum()
    return v_N


def _uphill(here_E: Tensor, there_E: Tensor, weight_E: Tensor, v_N: Tensor) -> Tensor:
    """The number of the top that each row comes to; the lowest neighbour among equals."""
    gain_E = weight_E * (v_N[there_E] - v_N[here_E])
    best_N = torch.zeros_like(v_N).scatter_reduce(0, here_E, gain_E, "amax")  # at least 0: stay
    steepest = (gain_E == best_N[here_E]) & (gain_E > 0)
    stay_N = torch.arange(len(v_N))
    goal_N = stay_N.scatter_reduce(0, here_E[steepest], there_E[steepest], "amin", include_self=False)
    while not torch.equal(goal_N, further_N := goal_N[goal_N]):  # v rises at each step, so there are no circles
        goal_N = further_N
    return goal_N.unique(return_inverse=True)[1]


def _join_the_lonely(labels_N: Tensor, rows_ND: Tensor) -> Tensor:
    lonely_N = (labels_N.bincount() == 1)[labels_N]
    if lonely_N.all() or not lonely_N.any():
        return labels_N
    _, nearest = _nearest(rows_ND[lonely_N], rows_ND[~lonely_N], 1)
    joined_N = labels_N.clone()
    joined_N[lonely_N] = labels_N[~lonely_N][nearest[:, 0]]
    return joined_N.unique(return_inverse=True)[1]
