"""Nearly as many clusters as rows: the most alike are merged, until k are left, in place of k centroids that look for their rows.

k-means compares every row with every centroid, again and again; with k near N that is N x N each time, though hardly anything can change.
Here the work shrinks with what is left to merge, and nothing larger than rows x LEAF is built.

Shapes: N rows, D feature, K clusters, L levels of a tree, C leaves, M rows of a leaf.
"""

import torch
from torch import Generator, Tensor

from coterie.clustering.kmeans import Alone, Clustering, Ranks
from coterie.clustering.rows import check, chunks, exact, means, working_dtype
from coterie.errors import InputError

LEAF = 256  # rows of a tree's leaf, at most; each is compared with the others of it
TREES = 4  # in which a cluster looks for its nearest
POLISH = 4  # rounds in which rows may still change sides, each in a tree of its own
SCORES = 1 << 24  # distances at once, 64 MB


def merged(features_ND: Tensor, k: int, generator: Generator | None = None, run: Ranks | None = None) -> Clustering:
    """k clusters of rows by squared Euclidean distance, as `kmeans` gives them, for a k that is not much smaller than the rows.

    Ward's method: pairs of clusters that are nearest to each other are merged, those first whose merging adds least to the inertia. Nearest
    means nearest of the at most 256 clusters in the same leaf of one of four random trees. Then rows change to the cluster of a neighbour
    whose mean is nearer, four times. Clusters without rows are left only where there are fewer than k distinct rows.
    generator: of the trees; None: a fresh one with seed 0. run: processes that are to have the same result; the first one's is taken.
    InputError: k < 1, fewer rows than k, rows that are not finite.
    """
    check(features_ND)
    n = len(features_ND)
    if not 1 <= k <= n:
        raise InputError(f"k = {k} clusters asked of {n} rows; 1 to {n} are possible")
    generator = generator or torch.Generator().manual_seed(0)
    with exact(features_ND.device):
        rows_ND = features_ND.detach().to(working_dtype(features_ND))
        labels_N = torch.arange(n, device=rows_ND.device)
        while (left := int(labels_N.max()) + 1) > k:
            labels_N = _merge(rows_ND, labels_N, left, left - k, generator)
        for _ in range(POLISH if k < n else 0):
            labels_N = _polish(rows_ND, labels_N, k, generator)
        labels_N = (run or Alone()).broadcast(labels_N)
        centroids_KD = means(rows_ND, labels_N, k)
        inertia = float((rows_ND - centroids_KD[labels_N]).square().sum(1).double().sum())
        return Clustering(labels_N, centroids_KD, labels_N.bincount(minlength=k), inertia)


def _merge(rows_ND: Tensor, labels_N: Tensor, left: int, most: int, generator: Generator) -> Tensor:
    """The labels after one round, in which at most `most` pairs become one; numbers stay without a gap."""
    centroids_KD, sizes_K = means(rows_ND, labels_N, left), labels_N.bincount(minlength=left)
    cost_K, partner_K = _nearest_by_cost(centroids_KD, sizes_K, generator)
    itself_K = torch.arange(left, device=labels_N.device)
    mutual = ((partner_K[partner_K] == itself_K) & (itself_K < partner_K)).nonzero().squeeze(1)
    if not len(mutual):  # rounding can make a ring of almost equal pairs
        mutual = cost_K.argmin()[None]
    cheapest = mutual[cost_K[mutual].argsort(stable=True)[:most]]
    into_K = itself_K.index_copy(0, partner_K[cheapest], cheapest)
    return into_K.unique(return_inverse=True)[1][labels_N]


def _nearest_by_cost(centroids_KD: Tensor, sizes_K: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """For each cluster what merging it with its cheapest partner adds to the inertia, and that partner; infinity and itself where no tree
    showed it one."""
    k = len(centroids_KD)
    best_K = torch.full((k,), torch.inf, dtype=centroids_KD.dtype, device=centroids_KD.device)
    partner_K = torch.arange(k, device=centroids_KD.device)
    for _ in range(TREES if k > LEAF else 1):
        for leaf_CM, gap_CMM in _leaves(centroids_KD, centroids_KD, generator):
            weight_CM = sizes_K[leaf_CM].to(gap_CMM.dtype)
            gap_CMM *= 1 / (1 / weight_CM[:, :, None] + 1 / weight_CM[:, None])
            gap_CMM.diagonal(dim1=1, dim2=2).fill_(torch.inf)
            cost_CM, column_CM = gap_CMM.min(2)
            index = leaf_CM.flatten()
            better = cost_CM.flatten() < best_K[index]
            best_K[index[better]] = cost_CM.flatten()[better]
            partner_K[index[better]] = leaf_CM.gather(1, column_CM).flatten()[better]
    return best_K, partner_K


def _polish(rows_ND: Tensor, labels_N: Tensor, k: int, generator: Generator) -> Tensor:
    """Each row goes to the nearest mean among the clusters of its leaf; clusters left empty take the rows farthest from their means."""
    centroids_KD = means(rows_ND, labels_N, k)
    moved_N = labels_N.clone()
    gap_N = (rows_ND - centroids_KD[labels_N]).square().sum(1)
    for leaf_CM, gap_CMM in _leaves(rows_ND, centroids_KD[labels_N], generator):
        nearest_CM, column_CM = gap_CMM.min(2)
        index = leaf_CM.flatten()
        better = nearest_CM.flatten() < gap_N[index]
        moved_N[index[better]] = labels_N[leaf_CM.gather(1, column_CM)].flatten()[better]
        gap_N[index[better]] = nearest_CM.flatten()[better]
    while len(empty := (moved_N.bincount(minlength=k) == 0).nonzero().squeeze(1)):
        centroids_KD = means(rows_ND, moved_N, k)
        gap_N = (rows_ND - centroids_KD[moved_N]).square().sum(1)
        far = gap_N.topk(len(empty)).indices
        far = far[gap_N[far] > 0]
        if not len(far):
            break
        moved_N[far] = empty[: len(far)]
    return moved_N


def _leaves(rows_ND: Tensor, others_ND: Tensor, generator: Generator):
    """Parts of a random tree over the rows: (ids (C, M), squared distances (C, M, M) of each leaf's rows to its others).

    A level cuts every cell in two equal halves, across the line through two rows drawn at random; what cannot be halved is left out.
    """
    n, device = len(rows_ND), rows_ND.device
    levels = max(0, (-(-n // LEAF) - 1).bit_length())
    order = torch.randperm(n, generator=generator).to(device)
    ends = torch.randint(n, (2, levels), generator=generator).to(device)
    across_NL = rows_ND @ (rows_ND[ends[0]] - rows_ND[ends[1]]).T
    leaf_CM = order[: n >> levels << levels][None]
    for level in range(levels):
        leaf_CM = leaf_CM.gather(1, across_NL[leaf_CM, level].argsort(1)).view(2 * len(leaf_CM), -1)
    for some in chunks(len(leaf_CM), SCORES // leaf_CM.shape[1] ** 2):
        part_CM = leaf_CM[some]
        row_CMD, other_CMD = rows_ND[part_CM], others_ND[part_CM]
        middle_C1D = row_CMD.mean(1, keepdim=True)  # seen from here, distances do not drown in the rounding of large squares
        row_CMD, other_CMD = row_CMD - middle_C1D, other_CMD - middle_C1D
        square_CM1, square_C1M = row_CMD.square().sum(2)[:, :, None], other_CMD.square().sum(2)[:, None]
        yield part_CM, torch.baddbmm(square_C1M, row_CMD, other_CMD.mT, alpha=-2).add_(square_CM1).clamp_(min=0)
