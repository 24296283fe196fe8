"""k-means (Lloyd's algorithm, exact) on one process or many, and the PCA-whitening that DeepCluster puts before it.

Shapes: N rows, D feature, K clusters, B rows of a chunk, E empty clusters, S rows of a sample, T trials.
"""

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.rows import CHUNK, check, chunks, exact, unit, working_dtype
from coterie.errors import InputError

SCORES = {"cpu": 1 << 20}  # scores (row x centroid) at once: 4 MB stay in the cache, 1.5 x faster than 64 MB (measured, two cores)
SCORES_ELSEWHERE = 1 << 24  # 64 MB
SPLIT = 1 / 1024  # how far an empty cluster's centroid goes from its donor's (faiss, used by the DeepCluster paper's code)
SEED_ROWS = 20_000  # k-means++ looks at no more rows than this, or 4 per cluster


class Clustering(NamedTuple):
    labels_N: Tensor  # int64, the nearest centroid
    centroids_KD: Tensor  # float32, or float64 for float64 features
    sizes_K: Tensor  # int64
    inertia: float  # sum of squared distances of rows to their centroids


class Ranks(Protocol):
    """Several processes of one computation, as `kmeans` needs them; `run.devices` is one."""

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    def sum(self, x: Tensor, /) -> Tensor: ...
    def broadcast(self, x: Tensor, /) -> Tensor: ...


class Alone:
    rank, world = 0, 1

    def sum(self, x: Tensor) -> Tensor:
        return x

    broadcast = sum


def kmeans(
    features_ND: Tensor,
    k: int,
    generator: torch.Generator | None = None,
    iters: int = 20,
    init: str | Tensor = "random",
    spherical: bool = False,
    run: Ranks | None = None,
    restarts: int = 1,
    tol: float = 0.0,
) -> Clustering:
    """Clusters rows by squared Euclidean distance; labels, centroids and sizes belong together (each row has its nearest centroid).

    features_ND  any device; float32 and float64 are computed as they are, other types in float32. Never copied as a whole
    generator    of the initial centroids and of the donors for empty clusters; None: a fresh one with seed 0
    iters        at most this many updates of the centroids (20: the DeepCluster paper's code)
    init         "random": k different rows; "k-means++": greedy, on a sample of 20,000 rows (4 k when more); or centroids (k, D)
    spherical    rows are taken at unit length and centroids brought back to it: cosine similarity
    run          processes that share the work. Each holds all rows, all get the same result
    restarts     the clustering with the lowest inertia of so many; 1 with given centroids
    tol          stop when no larger share of the rows changes cluster; 0.0: when none does

    An empty cluster takes the centroid of a non-empty one, slightly moved, and shares its members (DeepCluster, sec. 3.3). The donor is
    drawn in proportion to size - 1, faiss's choice. After the last update clusters still empty take the rows farthest from their centroids,
    so that none is empty where there are k distinct rows; with fewer, some are.
    InputError: k < 1, fewer rows than k, rows that are not finite, an init of another shape.
    """
    check(features_ND)
    if not 1 <= k <= len(features_ND):
        raise InputError(f"k = {k} clusters asked of {len(features_ND)} rows; 1 to {len(features_ND)} are possible")
    if iters < 0 or restarts < 1:
        raise InputError(f"iters = {iters}, restarts = {restarts}; at least 0 and 1 are needed")
    if isinstance(init, Tensor):
        check(init, "initial centroids")
        if init.shape != (k, features_ND.shape[1]):
            raise InputError(f"init has shape {tuple(init.shape)}; k = {k} needs {(k, features_ND.shape[1])}")
        restarts = 1
    elif init not in ("random", "k-means++"):
        raise InputError(f"init = {init!r}; 'random', 'k-means++' or a tensor of centroids are known")
    generator = generator or torch.Generator().manual_seed(0)
    with exact(features_ND.device):
        lloyd = _Lloyd(features_ND.detach(), k, spherical, run or Alone(), generator)
        return min((lloyd.fit(init, iters, tol) for _ in range(restarts)), key=lambda clustering: clustering.inertia)


class _Lloyd:
    """One rank's share of the rows, and the steps of the algorithm on it."""

    def __init__(self, features_ND: Tensor, k: int, spherical: bool, run: Ranks, generator: torch.Generator):
        self.all_ND, self.k, self.spherical, self.run, self.generator = features_ND, k, spherical, run, generator
        n = len(features_ND)
        self.first, last = n * run.rank // run.world, n * (run.rank + 1) // run.world
        self.mine_ND = features_ND[self.first : last]
        self.dtype, self.device = working_dtype(features_ND), features_ND.device

    def fit(self, init: str | Tensor, iters: int, tol: float) -> Clustering:
        centroids_KD = self.run.broadcast(self.start(init))
        labels = self.assign(centroids_KD)
        for _ in range(iters):
            before = labels
            centroids_KD = self.update(centroids_KD, labels)
            labels = self.assign(centroids_KD)
            if self.run.sum((labels != before).sum()) <= tol * len(self.all_ND):
                break
        labels, gaps = self.fill(centroids_KD, labels)
        labels_N = self.together(labels)
        inertia = float(self.run.sum(gaps.sum()))
        return Clustering(labels_N, centroids_KD, labels_N.bincount(minlength=self.k), inertia)

    def rows(self, which: Tensor | slice) -> Tensor:
        rows_BD = self.all_ND[which].to(self.dtype)
        return unit(rows_BD) if self.spherical else rows_BD

    def parts(self, size: int = CHUNK):
        """(slice of this rank's share, its rows)"""
        for part in chunks(len(self.mine_ND), size):
            yield part, self.rows(slice(self.first + part.start, self.first + part.stop))

    def together(self, x: Tensor) -> Tensor:
        """A vector over this rank's share -> over all rows, on every rank."""
        whole = x.new_zeros(len(self.all_ND))
        whole[self.first : self.first + len(x)] = x
        return self.run.sum(whole)

    # ---- where to begin

    def start(self, init: str | Tensor) -> Tensor:
        if isinstance(init, Tensor):
            centroids_KD = init.detach().to(self.device, self.dtype, copy=True)
            return unit(centroids_KD) if self.spherical else centroids_KD
        sample = len(self.all_ND) if init == "random" else max(SEED_ROWS, 4 * self.k)
        order = torch.randperm(len(self.all_ND), generator=self.generator, device=self.generator.device).to(self.device)
        if init == "random":
            return self.rows(order[: self.k])
        return self.plus_plus(self.rows(order[:sample]))

    def plus_plus(self, rows_SD: Tensor) -> Tensor:
        """Greedy k-means++: of 2 + ln k rows drawn in proportion to squared distance, the one that lowers the sum most (Arthur and
        Vassilvitskii, 2007, their closing remark; scikit-learn's number of trials)."""
        trials = 2 + int(math.log(self.k))
        square_S = rows_SD.square().sum(1)
        chosen = [torch.zeros((), dtype=torch.int64, device=self.device)]  # the rows are in random order already
        gap_S = (rows_SD - rows_SD[0]).square().sum(1)
        draws = torch.rand(self.k, trials, generator=self.generator, device=self.generator.device).to(self.device, self.dtype)
        for draw_T in draws[1:]:
            up_to_S = gap_S.cumsum(0)
            trial_T = torch.searchsorted(up_to_S, draw_T * up_to_S[-1]).clamp_(max=len(rows_SD) - 1)
            gap_TS = torch.addmm(square_S, rows_SD[trial_T], rows_SD.T, alpha=-2) + square_S[trial_T, None]
            gap_TS = torch.minimum(gap_TS.clamp_(min=0), gap_S)
            best = gap_TS.sum(1).argmin()
            gap_S = gap_TS[best]
            chosen.append(trial_T[best])
        return rows_SD[torch.stack(chosen)]

    # ---- the two steps

    def assign(self, centroids_KD: Tensor) -> Tensor:
        """The nearest centroid of each row of the share; the lowest index among equals.

        |x - c|^2 orders centroids as |c|^2 - 2 x c does. Seen from the centroids' mean m that is (c - m)(c + m) - 2 x (c - m), which
        does not drown in rounding when the rows lie far from the origin.
        """
        mean_D = centroids_KD.mean(0)
        offset_KD = centroids_KD - mean_D
        bias_K = (offset_KD * (centroids_KD + mean_D)).sum(1) * (not self.spherical)  # unit centroids: by the product alone
        size = max(1, min(CHUNK, max(256, SCORES.get(self.device.type, SCORES_ELSEWHERE) // len(offset_KD)), (1 << 24) // len(offset_KD)))
        scores_BK = centroids_KD.new_empty(min(size, len(self.mine_ND)), len(offset_KD))
        labels = torch.empty(len(self.mine_ND), dtype=torch.int64, device=self.device)
        for part, rows_BD in self.parts(size):
            torch.addmm(bias_K, rows_BD, offset_KD.T, alpha=-2, out=scores_BK[: len(rows_BD)])
            labels[part] = scores_BK[: len(rows_BD)].min(1).indices
        return labels

    def update(self, centroids_KD: Tensor, labels: Tensor) -> Tensor:
        sums_KD = torch.zeros_like(centroids_KD)
        for part, rows_BD in self.parts():
            sums_KD += _sums(rows_BD, labels[part], self.k)  # sums of sums: float32 would lose the last rows of large clusters
        sums_KD, sizes_K = self.run.sum(sums_KD), self.run.sum(labels.bincount(minlength=self.k))
        means_KD = F.normalize(sums_KD) if self.spherical else sums_KD / sizes_K.clamp(min=1)[:, None]
        moved_K = means_KD.any(1) if self.spherical else sizes_K > 0  # opposite unit rows have no mean direction: the old one stays
        centroids_KD = torch.where(moved_K[:, None], means_KD, centroids_KD)
        return self.run.broadcast(self.split(centroids_KD, sizes_K))

    def split(self, centroids_KD: Tensor, sizes_K: Tensor) -> Tensor:
        """Empty clusters take the centroids of drawn donors; the two go apart by 1/1024, coordinates alternately up and down."""
        weight_K = (sizes_K - 1).clamp(min=0).to(self.generator.device, torch.float64)
        empty_E = (sizes_K == 0).nonzero().squeeze(1)[: int(weight_K.count_nonzero())]
        if not len(empty_E):
            return centroids_KD
        donor_E = weight_K.multinomial(len(empty_E), generator=self.generator).to(self.device)
        step_D = centroids_KD.new_full((centroids_KD.shape[1],), SPLIT)
        step_D[1::2] *= -1
        given_ED = centroids_KD[donor_E]
        centroids_KD[empty_E] = given_ED * (1 + step_D)
        centroids_KD[donor_E] = given_ED * (1 - step_D)
        return F.normalize(centroids_KD) if self.spherical else centroids_KD

    # ---- the end: no cluster without a member

    def gaps(self, centroids_KD: Tensor, labels: Tensor) -> Tensor:
        """Squared distances of the share's rows to their centroids, without the rounding of an expanded square."""
        gaps = torch.empty(len(labels), dtype=self.dtype, device=self.device)
        for part, rows_BD in self.parts(CHUNK // 4):
            torch.sum((rows_BD - centroids_KD[labels[part]]).square_(), 1, out=gaps[part])
        return gaps

    def fill(self, centroids_KD: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Puts centroids of empty clusters (in place) on the farthest rows, until none is empty or every row is its centroid.

        Each round lowers the inertia, so it ends; a round costs one product with the new centroids only. -> labels, squared distances
        """
        gaps = self.gaps(centroids_KD, labels)
        for _ in range(self.k):
            empty_E = (self.run.sum(labels.bincount(minlength=self.k)) == 0).nonzero().squeeze(1)
            if not len(empty_E):
                break
            gap_N = self.together(gaps)
            far = gap_N.topk(min(len(gap_N), 4 * len(empty_E))).indices  # four times as many: duplicates are worth one
            rows_BD = self.rows(far)
            apart = rows_BD.any(1) if self.spherical else torch.ones_like(far, dtype=torch.bool)  # a zero row is no direction
            apart &= gap_N[far] > (8 * torch.finfo(self.dtype).eps) ** 2 * rows_BD.square().sum(1)  # else only rounding parts them
            new_ED = rows_BD[apart].unique(dim=0)[: len(empty_E)]
            if not len(new_ED):
                break
            empty_E = empty_E[: len(new_ED)]
            centroids_KD[empty_E] = new_ED
            rivals = empty_E[self.assign(new_ED)]
            rival_gaps = self.gaps(centroids_KD, rivals)
            labels = torch.where(rival_gaps < gaps, rivals, labels)
            gaps = torch.minimum(rival_gaps, gaps)
        return labels, gaps


def _sums(rows_BD: Tensor, labels_B: Tensor, k: int, by_index: bool | None = None) -> Tensor:
    """Sum of the rows of each cluster, (k, D). Adding by index is fastest on a CPU; elsewhere its order, so its rounding, differs from run
    to run, and a product with a one-hot matrix is taken."""
    sums_KD = rows_BD.new_zeros(k, rows_BD.shape[1])
    if by_index is None and rows_BD.device.type == "cpu" or by_index:
        return sums_KD.index_add_(0, labels_B, rows_BD)
    for part in chunks(len(rows_BD), SCORES_ELSEWHERE // k):
        some_BD = rows_BD[part]
        sums_KD.addmm_(some_BD.new_zeros(len(some_BD), k).scatter_(1, labels_B[part, None], 1.0).T, some_BD)
    return sums_KD


def pca_whiten(features_ND: Tensor, n_components: int = 256) -> Tensor:
    """Projection on the first principal components, each scaled to the same variance, rows then brought to unit length.

    As in DeepCluster (sec. 3.3: 256 components). d = min(n_components, D, N - 1). A component's variance counts as at least 1e-8 of
    the largest one (added to it), so that directions without variance, such as constant columns, stay at zero instead of becoming noise.
    Returns (N, d) in float32 (float64 for float64 features) on the same device; a row equal to the mean stays zero.
    InputError: fewer than 2 rows, n_components < 1, rows that are not finite.
    """
    check(features_ND)
    n, d = len(features_ND), min(n_components, features_ND.shape[1], len(features_ND) - 1)
    if d < 1:
        raise InputError(f"n_components = {n_components} of {n} rows; at least 1 of at least 2 rows is needed")
    mean_D, axes_Dd = whitening(features_ND, n_components)
    with exact(features_ND.device):
        whitened_Nd = axes_Dd.new_empty(n, d)  # filled in chunks: parts to be joined would need twice its memory
        for part in chunks(n, CHUNK):
            whitened_Nd[part] = unit((features_ND[part].detach().to(mean_D) - mean_D) @ axes_Dd)
        return whitened_Nd


def whitening(features_ND: Tensor, n_components: int, floor: float = 1e-8) -> tuple[Tensor, Tensor]:
    """The mean (D,) and the scaled axes (D, d) of `pca_whiten`: (row - mean) @ axes, then unit length. `floor`: of the largest variance,
    which is added to each."""
    n, d = len(features_ND), min(n_components, features_ND.shape[1], len(features_ND) - 1)
    features_ND, dtype = features_ND.detach(), working_dtype(features_ND)
    solver = torch.device("cpu") if features_ND.device.type == "mps" else features_ND.device  # mps has no float64
    with exact(features_ND.device):
        mean_D = torch.stack([features_ND[part].to(dtype).sum(0) for part in chunks(n, CHUNK)]).sum(0) / n
        if len(mean_D) > n:  # wide rows, such as pixels: their D x D numbers may not fit in memory, and N x N tell the same
            centred_ND = features_ND.to(dtype) - mean_D
            parts = (centred_ND[:, part].to(solver, torch.float64) for part in chunks(len(mean_D), CHUNK))
            variance_N, rows_NN = torch.linalg.eigh(sum(part @ part.T for part in parts))
            variance, left_Nd = variance_N.flip(0)[:d].clamp(min=0), rows_NN.flip(1)[:, :d]
            length_d = torch.where(variance > floor * variance[0], variance.rsqrt(), 0.0)  # a direction without variance is none
            axes = centred_ND.T @ (left_Nd * length_d).to(features_ND.device, dtype)
        else:
            covariance_DD = torch.zeros(len(mean_D), len(mean_D), dtype=dtype, device=features_ND.device)
            for part in chunks(n, CHUNK):
                centred_BD = features_ND[part].to(dtype) - mean_D
                covariance_DD.addmm_(centred_BD.T, centred_BD)
            variance_D, axes_DD = torch.linalg.eigh(covariance_DD.to(solver, torch.float64))
            variance, axes = variance_D.flip(0)[:d].clamp(min=0), axes_DD.flip(1)[:, :d]
        scale = (variance + floor * variance[0]).clamp(min=torch.finfo(dtype).tiny).rsqrt()
        return mean_D, (axes.to(solver) * scale).to(features_ND.device, dtype)
