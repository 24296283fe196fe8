"""Which pictures a person should be asked about: the answers that would tell most of all other pictures.

A set of pictures covers a picture as well as the nearest of them does: the square of the cosine, 0 where that is negative. Asked is, one
after the other, the picture that adds most to the cover of what is uncertain, sum_j (1 - lead_j) max_i cover_ij over all answered and asked
i: so it is itself uncertain, stands for many, and is near no answer and no other question (facility location among the uncertain ones: Wei,
Iyer and Bilmes 2015). lead: how far the likeliest kind is before the second.
Shapes: N images, D feature, K kinds, M candidates, A answered.
"""

import torch
from torch import Tensor

from coterie.clustering.rows import chunks, exact, unit

CANDIDATES = 1000  # the most uncertain ones, among which is chosen
COVERED = 5000  # images that are to be covered at most, the most uncertain ones


def leads(p_NK: Tensor) -> Tensor:
    """How far the likeliest kind of each image is before the second, (N,); 1 where there is one kind."""
    top_N2 = p_NK.topk(min(2, p_NK.shape[1]), 1).values
    return top_N2[:, 0] - top_N2[:, 1] if p_NK.shape[1] > 1 else torch.ones(len(p_NK))


def telling(rows_ND: Tensor, p_NK: Tensor, free_N: Tensor, answered_N: Tensor, count: int) -> Tensor:
    """The ids of `count` images of those that may be asked (free_N, bool), or of all there are, the most telling first, int64.

    rows_ND: features seen from their mean. p_NK: what is believed of each (`taught.first_beliefs`). answered_N bool: what was said already.
    """
    doubt_N = (1 - leads(p_NK)).masked_fill(~free_N, 0)
    order_N = (doubt_N - 2 * (~free_N).float()).argsort(descending=True, stable=True)
    free = int(free_N.sum())
    asked_M, covered_C = order_N[: min(CANDIDATES, free)], order_N[: min(COVERED, free)]
    with exact(rows_ND.device):
        rows_ND = unit(rows_ND).float()
        cover_CM = _cover(rows_ND[covered_C], rows_ND[asked_M])
        best_C = torch.zeros(len(covered_C))
        for part in chunks(int(answered_N.sum()), CANDIDATES):
            answered_A = answered_N.nonzero().squeeze(1)[part]
            best_C = torch.maximum(best_C, _cover(rows_ND[covered_C], rows_ND[answered_A]).amax(1))
        chosen = list[int]()
        open_M = torch.ones(len(asked_M), dtype=torch.bool)
        for _ in range(min(count, len(asked_M))):
            gain_M = doubt_N[covered_C] @ (cover_CM - best_C[:, None]).clamp(min=0)
            chosen.append(int(gain_M.masked_fill(~open_M, -1).argmax()))
            open_M[chosen[-1]] = False
            best_C = torch.maximum(best_C, cover_CM[:, chosen[-1]])
    return asked_M[chosen]


def _cover(rows_CD: Tensor, others_MD: Tensor) -> Tensor:
    return (rows_CD @ others_MD.T).clamp(min=0).square()
