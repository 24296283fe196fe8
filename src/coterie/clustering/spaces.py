"""Frozen features as heads learn on them: every encoder's seen from their mean at unit length, then on their main axes only.

What a linear head costs grows with the columns, and most columns of a large encoder repeat each other. The axes are one linear map, so the
learned heads are folded into heads on the features as they were (`networks.heads.folded`).
Shapes: N rows, B batch, D feature, d components, W columns of one encoder, S encoders.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from coterie.clustering.kmeans import whitening
from coterie.clustering.rows import check, exact
from coterie.errors import InputError


class Reduced(NamedTuple):
    """rows_Nd = (unit rows - centre) @ axes, columns of one encoder together, as many as `widths` says; their mean square is 1."""

    rows_Nd: Tensor
    widths: Tensor  # int64, components of each encoder
    mean_D: Tensor
    space_D: Tensor  # int64, the number of the encoder a column belongs to
    centre_D: Tensor  # mean of the unit rows
    axes_Dd: Tensor  # zero between encoders


def reduced(features_ND: Tensor, spaces: str = "", components: int = 64, whiten: bool = False) -> Reduced:
    """At most `components` main axes (0: all) of each encoder's features, whose widths `spaces` gives ("1280,1280"; empty: one encoder).

    whiten: each axis scaled to the same variance. One scale for all else, so that no axis gains on another.
    InputError: rows that are not finite, widths that are no positive numbers or do not sum to D.
    """
    check(features_ND)
    widths = widths_of(spaces, features_ND.shape[1])
    z_ND = features_ND.detach().float()
    mean_D = z_ND.mean(0)
    space_D = torch.arange(len(widths), device=z_ND.device).repeat_interleave(torch.tensor(widths, device=z_ND.device))
    with exact(z_ND.device):
        unit_ND = unit_by_space(z_ND - mean_D, space_D)
        centre_D, blocks, parts = unit_ND.mean(0), [], unit_ND.split(widths, 1)
        for part_NW in parts:
            width = part_NW.shape[1]
            axes_Wd = whitening(part_NW, components or width)[1] if len(z_ND) > 1 else torch.eye(width, 1, device=z_ND.device)
            blocks.append(axes_Wd if whiten else axes_Wd / axes_Wd.norm(dim=0).clamp(min=1e-30))
        axes_Dd = torch.block_diag(*blocks)
        rows_Nd = (unit_ND - centre_D) @ axes_Dd
        scale = rows_Nd.square().mean().clamp(min=1e-12).rsqrt()
        counts = torch.tensor([block.shape[1] for block in blocks])
        return Reduced(rows_Nd * scale, counts, mean_D, space_D, centre_D, axes_Dd * scale)


def widths_of(spaces: str, n_features: int) -> list[int]:
    """The widths a setting names. InputError when they are no positive numbers or do not sum to `n_features`."""
    words = spaces.split(",") if spaces else [str(n_features)]
    widths = [int(word) for word in words if word.strip().isdecimal()]
    if len(widths) != len(words) or 0 in widths or sum(widths) != n_features:
        raise InputError(
            f"spaces={spaces}: wanted positive widths with commas between that sum to the {n_features} columns of the features"
        )
    return widths


def unit_by_space(z_BD: Tensor, space_D: Tensor) -> Tensor:
    """Rows whose columns of the same number have length 1 together; zeros stay."""
    square_BS = z_BD.new_zeros(z_BD.shape[0], int(space_D[-1]) + 1).index_add_(1, space_D, z_BD.square())
    return z_BD * square_BS.clamp(min=1e-24).rsqrt()[:, space_D]
