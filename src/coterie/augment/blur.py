"""Gaussian blur of a whole batch, a separate sigma for every image: two batched matrix products.

A blur along one axis is linear, so it is a banded n x n matrix per image, and the reflection at the border is part of it. Up to about
100 px that is as fast on a CPU as a grouped convolution or faster, needs no padded copy, and serves images smaller than the kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA = (0.1, 2.0)  # px of the images given. MoCo v2 draws from it at 224 px; SPICE keeps it at 32 and 96 px, where it hides far more
RADIUS = 8  # px, four times the largest sigma: what lies beyond is 6e-5 of the weight


def gaussian_blur(pixels_B3HW: Tensor, sigma_B: Tensor) -> Tensor:
    """Each image under a Gaussian of its own, sigma in px and at most RADIUS / 4; reflected at the border, the edge not repeated."""
    b, c, h, w = pixels_B3HW.shape
    x, sigma = pixels_B3HW.contiguous(), sigma_B.to(pixels_B3HW.device, pixels_B3HW.dtype)
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=x.device)
    kernel_BT = torch.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, 1)
    rows_BHH, columns_BWW = (kernel_BT @ _taps(n, offsets).to(x).flatten(1) for n in (h, w))
    along = torch.bmm(x.view(b, c * h, w), columns_BWW.view(b, w, w).mT).view(b, c, h, w)
    return (rows_BHH.view(b, 1, h, h) @ along).clamp_(max=1)  # rounding lifts white above 1


def _taps(n: int, offsets_T: Tensor) -> Tensor:
    """(T, n, n): entry [t, i, j] is 1 where pixel i finds pixel j at offset t, reflected as often as needed, else 0."""
    there = (torch.arange(n, device=offsets_T.device) + offsets_T[:, None]) % max(2 * n - 2, 1)
    return F.one_hot((n - 1) - (there - (n - 1)).abs(), n)
