"""Which pictures a person should be asked about: the answers that would tell most of all other pictures.

A set of pictures covers a picture as well as the nearest of them does: the square of the cosine, 0 where that is negative. The mean of the
kind that a picture is held for covers it too, as if it had been asked about. Asked is, one after the other, the picture that adds most to
the cover of all, sum_j max_i cover_ij over means, answered and asked i (facility location: Wei, Iyer and Bilmes 2015): so it stands for
many that no kind's mean stands for, as those of a kind that is hidden in another's cluster do, and is near no answer and no other question.
Shapes: N images, D feature, K kinds, M candidates, A answered.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.rows import chunks, exact, unit

CANDIDATES = 1000  # images among which is chosen, drawn evenly from those that are to be covered
COVERED = 5000  # images that are to be covered at most, the worst covered ones


def leads(p_NK: Tensor) -> Tensor:
    """How far the likeliest kind of each image is before the second, (N,); 1 where there is one kind."""
    top_N2 = p_NK.topk(min(2, p_NK.shape[1]), 1).values
    return top_N2[:, 0] - top_N2[:, 1] if p_NK.shape[1] > 1 else torch.ones(len(p_NK))


def telling(rows_ND: Tensor, p_NK: Tensor, free_N: Tensor, answered_N: Tensor, count: int) -> Tensor:
    """The ids of `count` images of those that may be asked (free_N, bool), or of all there are, the most telling first, int64.

    rows_ND: features seen from their mean. p_NK: what is believed of each (`taught.first_beliefs`). answered_N bool: what was said already.
    """
    with exact(rows_ND.device):
        rows_ND = unit(rows_ND).float()
        means_KD = F.normalize(p_NK.T @ rows_ND)
        best_N = (rows_ND * means_KD[p_NK.argmax(1)]).sum(1).clamp(min=0).square()
        known_AD = rows_ND[answered_N]
        for part in chunks(len(rows_ND) if len(known_AD) else 0, CANDIDATES):
            best_N[part] = torch.maximum(best_N[part], _cover(rows_ND[part], known_AD).amax(1))
        covered_C = best_N.masked_fill(~free_N, 2).argsort(stable=True)[: min(COVERED, int(free_N.sum()))]
        asked_M = covered_C[:: -(-len(covered_C) // CANDIDATES) or 1]
        cover_CM, best_C = _cover(rows_ND[covered_C], rows_ND[asked_M]), best_N[covered_C]
        chosen = list[int]()
        open_M = torch.ones(len(asked_M), dtype=torch.bool)
        for _ in range(min(count, len(asked_M))):
            gain_M = (cover_CM - best_C[:, None]).clamp(min=0).sum(0)
            chosen.append(int(gain_M.masked_fill(~open_M, -1).argmax()))
            open_M[chosen[-1]] = False
            best_C = torch.maximum(best_C, cover_CM[:, chosen[-1]])
    return asked_M[chosen]


def _cover(rows_CD: Tensor, others_MD: Tensor) -> Tensor:
    return (rows_CD @ others_MD.T).clamp(min=0).square()
