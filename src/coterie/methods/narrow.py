"""Features with more dimensions than the published heads were made for, in fewer while heads learn from them.

Ten heads of two layers on the 1,280 or 2,048 dimensions of a large network have millions of weights, and a fit of a few hundred images
takes half an hour. They learn as well from 256 directions that hold what the features say of these images; the head that is returned
takes whole features again, since one linear layer after another is one. Shapes: N images, D feature, d direction, H heads.
"""

import torch
from torch import Tensor, nn

from coterie.clustering.rows import chunks, exact
from coterie.networks.heads import WIDEST, MlpHeads
from coterie.run import Run

DIRECTIONS = 256  # that are left of more than WIDEST dimensions


def directions(features_ND: Tensor, run: Run) -> Tensor:
    """Orthogonal directions (D, d) that keep the rows' products best, turned at random among themselves, so that each holds as much as any
    other: heads bring every dimension to the same deviation, and noise would be made as large as what matters."""
    n, width = features_ND.shape
    d = min(DIRECTIONS, n, width)
    with exact(features_ND.device):
        products_DD = torch.zeros(width, width, dtype=torch.float64, device=features_ND.device)
        for part in chunks(n, 8192):
            rows_BD = features_ND[part].double()
            products_DD += rows_BD.T @ rows_BD
        largest_Dd = torch.linalg.eigh(products_DD).eigenvectors[:, -d:]
        turn_dd = torch.linalg.qr(torch.randn(d, d, generator=run.rng("directions"), dtype=torch.float64)).Q.to(largest_Dd)
        return (largest_Dd @ turn_dd).float()


def front_of(axes_Dd: Tensor) -> nn.Module:
    """Features (B, D) -> (B, d)."""
    with torch.device("meta"):  # its weights are given, so none are drawn
        front = nn.Linear(axes_Dd.shape[0], axes_Dd.shape[1], bias=False)
    front.weight = nn.Parameter(axes_Dd.T.contiguous(), requires_grad=False)
    return front


def wide(n_features: int) -> bool:
    """Whether heads learn from fewer dimensions than these."""
    return n_features > WIDEST


@torch.no_grad()
def widened(head: MlpHeads, axes_Dd: Tensor) -> MlpHeads:
    """The head on features (B, D) that says what `head` says of their directions."""
    _, width, _ = head.hidden.weight.shape
    whole = MlpHeads(len(axes_Dd), head.output.weight.shape[1], len(head.output.weight), width).to(axes_Dd.device)
    inner = head.hidden
    whole.hidden.weight.copy_((inner.weight * inner.scale) @ axes_Dd.T)
    whole.hidden.bias.copy_(inner.bias - (inner.weight * inner.scale) @ inner.mean)
    whole.output.load_state_dict(head.output.state_dict())
    return whole
