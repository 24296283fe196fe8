"""Spectral clustering (Ng, Jordan and Weiss 2001; von Luxburg 2007): k-means among the slowest vibrations of the graph of neighbours.

Two kinds that touch in a few places are one hill of features but two groups of neighbours: what is cut is the graph where it is thinnest.
Shapes: N rows, D feature, K clusters or neighbours, M vectors.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.rows import exact, unit
from coterie.errors import InputError

DEGREE = 12  # of the Chebyshev filter, products with the graph between two orthogonalisations
ROUNDS = 40  # at most
TOLERANCE = 1e-5  # change of the sum of eigenvalues, relative, at which the vectors are good enough to cluster
SPARE = 12  # vectors more than asked: those at the edge come out last, and are thrown away


def spectral(index_NK: Tensor, similarity_NK: Tensor, k: int, generator: torch.Generator, restarts: int = 10) -> Tensor:
    """The cluster of each row, (N,) int64, 0 to k - 1, from its neighbours and how similar they are (`neighbours.nearest`; below 0 counts
    as 0). k-means, the best of `restarts`, on unit rows of the k leading eigenvectors of D^-1/2 W D^-1/2, W the graph made symmetric.
    InputError: k < 1 or more than there are rows.
    """
    if not 1 <= k <= len(index_NK):
        raise InputError(f"k = {k} clusters asked of {len(index_NK)} rows; 1 to {len(index_NK)} are possible")
    with exact(index_NK.device):
        rows_NK = unit(leading(normalised(index_NK, similarity_NK), k, generator)).float().to(index_NK.device)
        return kmeans(rows_NK, k, generator, 100, "k-means++", restarts=restarts).labels_N


class Graph(NamedTuple):
    """A sparse symmetric matrix (N, N): edges sorted by the row they start from, the first edge of each row, weights in float64."""

    there_E: Tensor
    first_N: Tensor
    weight_E: Tensor

    def __matmul__(self, x_NM: Tensor) -> Tensor:
        return F.embedding_bag(self.there_E, x_NM, self.first_N, mode="sum", per_sample_weights=self.weight_E)


def normalised(index_NK: Tensor, similarity_NK: Tensor) -> Graph:
    """D^-1/2 W D^-1/2 on the CPU, W = (A + A^T) / 2 of the similarities. A row without similar neighbours stays zero."""
    n, k = index_NK.shape
    here_E, there_E = torch.arange(n).repeat_interleave(k), index_NK.cpu().flatten()
    edge_E, which_E = torch.cat([here_E * n + there_E, there_E * n + here_E]).unique(return_inverse=True)
    weight_E = similarity_NK.cpu().double().clamp(min=0).flatten().repeat(2) / 2
    weight_E = torch.zeros(len(edge_E), dtype=torch.float64).index_add_(0, which_E, weight_E)
    here_E, there_E = edge_E // n, edge_E % n
    scale_N = torch.zeros(n, dtype=torch.float64).index_add_(0, here_E, weight_E).clamp(min=1e-12).rsqrt()
    sizes_N = here_E.bincount(minlength=n)
    return Graph(there_E, sizes_N.cumsum(0) - sizes_N, weight_E * scale_N[here_E] * scale_N[there_E])


def leading(graph: Graph, k: int, generator: torch.Generator) -> Tensor:
    """The eigenvectors (N, k) of the k largest eigenvalues, largest first, float64; all eigenvalues lie in [-1, 1].

    Subspace iteration: a Chebyshev polynomial keeps what lies below the wanted eigenvalues small and lets the others grow, then the vectors
    are made orthogonal and turned to the axes of the graph within their span (Zhou et al. 2006).
    """
    n = len(graph.first_N)
    if n <= 4 * (k + SPARE):
        return torch.linalg.eigh(graph @ torch.eye(n, dtype=torch.float64))[1].flip(1)[:, :k]
    x_NM = torch.randn(n, k + SPARE, dtype=torch.float64, generator=generator)
    edge, before = 0.0, -1.0
    for _ in range(ROUNDS):
        half, middle = (edge + 1) / 2, (edge - 1) / 2  # the interval [-1, edge] that is kept small
        last_NM, x_NM = x_NM, (graph @ x_NM - middle * x_NM) / half
        for _ in range(DEGREE - 1):
            last_NM, x_NM = x_NM, 2 / half * (graph @ x_NM - middle * x_NM) - last_NM
        x_NM = torch.linalg.qr(x_NM)[0]
        values_M, axes_MM = torch.linalg.eigh(x_NM.T @ (graph @ x_NM))
        x_NM, edge = x_NM @ axes_MM, min(0.999, float(values_M[0]))
        total = float(values_M[-k:].sum())
        if abs(total - before) <= TOLERANCE * abs(total):
            break
        before = total
    return x_NM.flip(1)[:, :k]
