"""How far a new picture is from all that were fitted, and from where on that is too far.

score       distance / root of what is usual there: the mean cosine distance to the 7 most similar fitted rows, and the mean of the same
            distance of these rows themselves. Dividing by it in whole would trust kinds of few pictures too much, not at all kinds that
            are spread out too little; chosen on Caltech-101's classes 0 to 49 and on digits (docs/new-pictures.md)
threshold   fitted rows get the same score with themselves and their copies left out; new pictures of the same kinds score as they do, so
            the quantile 1 - r of theirs is passed by a share r of those: the rate of false alarms

Shapes: N fitted rows, S of them that are asked, R some of them, M new rows, D feature, K neighbours.
"""

import math

import torch
from torch import Tensor

from coterie.clustering.neighbours import Neighbours, nearest

NEIGHBOURS = 7
ASKED = 1000  # fitted rows, evenly spread: 0.05 is then known within 0.007, and 60,000 rows need not all be compared with each other
COPY = 1e-5  # cosine distance below which two rows are the same picture: float16 and other batches move a row by a hundredth of that
COPIES = 20  # of a picture that are left out with it at most


class Usual:
    """What is usual at each fitted row: the mean distance of its neighbours, found once for new rows that come a block at a time; for 1,024
    rows together, always the same, so that no score depends on what was asked before."""

    TOGETHER = 1024

    def __init__(self, fitted_ND: Tensor, k: int = NEIGHBOURS):
        self._fitted_ND, self._k = fitted_ND, k
        self._found_N = torch.full((len(fitted_ND),), math.nan, device=fitted_ND.device)

    def __call__(self, index_R: Tensor) -> Tensor:
        for start in (index_R // self.TOGETHER).unique().mul(self.TOGETHER).tolist():
            if self._found_N[start].isnan():
                stop = min(start + self.TOGETHER, len(self._found_N))
                rows = torch.arange(start, stop, device=index_R.device)
                self._found_N[start:stop] = _usual(self._fitted_ND, rows, self._k)
        return self._found_N[index_R]


def novelty(fitted_ND: Tensor, new_MD: Tensor, k: int = NEIGHBOURS, usual: Usual | None = None) -> Tensor:
    """Scores (M,) float32, at least 0, on the device of the fitted rows. With fewer than `k` of those, all are looked at. usual: of these
    rows, where more new ones will come.

    InputError: no rows, rows that are not finite, columns that do not match.
    """
    if not len(new_MD):
        return fitted_ND.new_zeros(0, dtype=torch.float32)
    return _score(fitted_ND, nearest(fitted_ND, min(k, len(fitted_ND)), new_MD.to(fitted_ND.device)), k, usual)


def own_novelty(fitted_ND: Tensor, k: int = NEIGHBOURS, asked: int = ASKED) -> Tensor:
    """Scores (S,) float32 of `asked` fitted rows, or of all, each with itself and its copies left out; (0,) where there is but one row."""
    n = len(fitted_ND)
    if n < 2:
        return fitted_ND.new_zeros(0, dtype=torch.float32)
    index_S = torch.linspace(0, n - 1, min(n, asked), dtype=torch.float64).round().long().to(fitted_ND.device)
    return _score(fitted_ND, _others(fitted_ND, index_S, k), k)


def lowest_rate(own_S: Tensor) -> float:
    """The lowest rate of false alarms that so many scores can tell."""
    return 1 / (len(own_S) + 1)


def threshold(own_S: Tensor, false_alarms: float) -> float:
    """The score above which a new row is novel, such that this share of rows like the fitted ones is called so by mistake.

    The conformal quantile: of S + 1 exchangeable scores the last is above it in at most that share of cases. A rate below the lowest is
    taken as that. Without a score it is infinite, and nothing is novel; it is never so low that rows which are all copies differ.
    """
    if not len(own_S):
        return math.inf
    rank = min(len(own_S), math.ceil((len(own_S) + 1) * (1 - false_alarms) - 1e-9))
    return max(math.sqrt(COPY), float(own_S.sort().values[max(1, rank) - 1]))


def _score(fitted_ND: Tensor, near: Neighbours, k: int, usual: Usual | None = None) -> Tensor:
    distance_M = 1 - near.similarity_NK.mean(1)
    if len(fitted_ND) < 2:
        return distance_M
    rows_R, place_MK = near.index_NK.unique(return_inverse=True)
    usual_R = _usual(fitted_ND, rows_R, k) if usual is None else usual(rows_R)
    return distance_M / usual_R[place_MK].mean(1).clamp(min=COPY).sqrt()


def _usual(fitted_ND: Tensor, index_R: Tensor, k: int) -> Tensor:
    return 1 - _others(fitted_ND, index_R, k).similarity_NK.mean(1)


def _others(fitted_ND: Tensor, index_S: Tensor, k: int) -> Neighbours:
    """The `k` rows most similar to each of these, or all, after itself and its copies."""
    n, k = len(fitted_ND), min(k, len(fitted_ND) - 1)
    found = nearest(fitted_ND, min(n, k + 1 + COPIES), fitted_ND[index_S])
    same_S = (found.similarity_NK > 1 - COPY).sum(1).clamp(1, found.similarity_NK.shape[1] - k)  # wherever it is among them itself
    columns_SK = same_S[:, None] + torch.arange(k, device=index_S.device)
    return Neighbours(found.index_NK.gather(1, columns_SK), found.similarity_NK.gather(1, columns_SK))
