"""Crops, turns, flips and colours of a whole batch in two kernels, a separate draw for every image.

Two facts make it fast. Every geometric operation is one 2 x 3 matrix, so crop, resize, flip, rotate, shear and translate
are one `grid_sample`. And brightness, contrast, saturation, hue and grayscale are linear in the colours and, left unclipped
between each other, commute: with luma weights w, image mean luma m, and P, Q the chroma plane and its quarter turn (in YIQ),

    colour(x) = b * (c * w.x + (1 - c) * m) * 1  +  b * c * s * (cos(h) P + sin(h) Q) x

for brightness b, contrast c, saturation s (0: grayscale) and hue angle h, so they are one 3 x 4 matrix per image.
torchvision clips to [0, 1] after each operation and turns hue in HSV, which moves one channel at a time; here the result is clipped once
and hue turns in YIQ, which keeps the luma and moves all three: a step of the same length for small angles, in another direction (the tests
state how far). No order needs to be drawn, because the order does not matter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coterie.augment.blur import SIGMA, gaussian_blur

LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow and torchvision weigh grey
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_TURN = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
GREY = torch.ones(3, 1) @ LUMA[None]  # x -> (w.x) * 1
CHROMA = torch.eye(3) - GREY  # P: what is left without the luma
QUARTER_TURN = torch.linalg.inv(_YIQ) @ _TURN @ _YIQ  # Q: the chroma turned by 90 degrees


def in_full(call: Callable[[Any, Tensor, Generator], Tensor]) -> Callable[[Any, Tensor, Generator], Tensor]:
    """Views are made in the precision of their pixels, also where a network is about to see them in bf16: a place that is rounded to eight
    bits is another place."""

    @wraps(call)
    def exactly(self: Any, pixels_B3HW: Tensor, generator: Generator) -> Tensor:
        with torch.autocast(pixels_B3HW.device.type, enabled=False):
            return call(self, pixels_B3HW, generator)

    return exactly


@dataclass(frozen=True)
class Recipe:
    """What one view is drawn from. Probabilities in [0, 1], areas and shifts as shares of the image, angles in degrees."""

    area: tuple[float, float] = (0.2, 1.0)  # of the crop; above 1 zooms out, the border repeats
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    inside: bool = True  # the crop lies inside the image; False: its centre moves by `shift` only
    shift: float = 0.0  # +- share of the image's side
    rotate: float = 0.0  # +- degrees
    shear: float = 0.0  # +- tangent
    flip: float = 0.5
    brightness: float = 0.4  # factor in 1 +- this
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # +- turns
    jitter: float = 0.8  # probability of the four above, together
    grey: float = 0.2
    cutout: float = 0.0  # largest side of a square hole, share of the image's side; the side is uniform in (0, this]
    blur: float = 0.0  # probability of a Gaussian blur, its sigma uniform in `blur.SIGMA`: 0.1 to 2 px
    size: int = 0  # px of the view; 0: as large as the image

    @in_full
    def __call__(self, pixels_B3HW: Tensor, generator: Generator) -> Tensor:
        draws = Draws(len(pixels_B3HW), generator)
        # Cropping moves pixels and colouring maps their values, so the two commute but for the mean that contrast needs;
        # SimCLR colours the crop, so the crop comes first.
        x = warp(pixels_B3HW, self._geometry(draws), size=self.size)
        if self.jitter or self.grey:
            x = colour(x, *self._colours(draws))
        if self.cutout:
            x = cut_hole(x, draws, self.cutout)
        return self._blurred(x, draws) if self.blur else x  # drawn last: with or without it, the rest of the view is the same

    def _geometry(self, draws: "Draws") -> Tensor:
        area = draws.uniform(*self.area)
        aspect = draws.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])).exp()
        width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
        if self.inside:  # RandomResizedCrop draws again until the crop fits: 0.54 of the image on average, not 0.59
            width, height = width.clamp(max=1), height.clamp(max=1)
            x, y = draws.uniform(-1, 1) * (1 - width), draws.uniform(-1, 1) * (1 - height)
        else:
            x, y = draws.uniform(-2, 2) * self.shift, draws.uniform(-2, 2) * self.shift
        mirror = 1 - 2 * draws.coin(self.flip)
        angle = draws.uniform(-self.rotate, self.rotate) * (math.pi / 180)
        shear = draws.uniform(-self.shear, self.shear)
        cos, sin = angle.cos(), angle.sin()
        # output -> input coordinates: scale, shear, turn, shift
        rows = [width * mirror * cos, height * (shear * cos - sin), x, width * mirror * sin, height * (shear * sin + cos), y]
        return torch.stack(rows, 1).view(-1, 2, 3)

    def _colours(self, draws: "Draws") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        on = draws.coin(self.jitter)
        brightness, contrast, saturation = (1 + on * draws.uniform(-v, v) for v in (self.brightness, self.contrast, self.saturation))
        hue = on * draws.uniform(-self.hue, self.hue) * (2 * math.pi)
        return brightness, contrast, saturation * (1 - draws.coin(self.grey)), hue

    def _blurred(self, x: Tensor, draws: "Draws") -> Tensor:
        on, sigma = draws.coin(self.blur).nonzero()[:, 0], draws.uniform(*SIGMA)
        there = on.to(x.device)
        return x.index_copy(0, there, gaussian_blur(x[there], sigma[on]))


class Draws:
    """Per-image random numbers for a batch of `size`, from one CPU generator."""

    def __init__(self, size: int, generator: Generator):
        self.size, self.generator = size, generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.size, generator=self.generator)

    def whole(self, largest: int) -> Tensor:
        """Whole numbers from -largest to largest, all as likely."""
        return torch.randint(-largest, largest + 1, (self.size,), generator=self.generator).float()

    def coin(self, probability: float) -> Tensor:
        """1.0 with the probability, else 0.0."""
        return (torch.rand(self.size, generator=self.generator) < probability).float()


def warp(pixels_B3HW: Tensor, matrix_B23: Tensor, padding: str = "border", mode: str = "bilinear", size: int = 0) -> Tensor:
    """Each image sampled through its 2 x 3 matrix of output -> input coordinates in [-1, 1], to `size` px (0: its own size)."""
    x = pixels_B3HW.contiguous()  # grid_sample's fast path on the CPU wants planes
    grid_BHW2 = places(matrix_B23.to(x.device, x.dtype), size or x.shape[2], size or x.shape[3])
    return F.grid_sample(x, grid_BHW2, mode=mode, padding_mode=padding, align_corners=False)


def places(matrix_B23: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of a view is looked up, (B, height, width, 2), x before y: `F.affine_grid` without corners aligned. That multiplies
    a matrix for every pixel; but what a row adds and what a column adds are sums, in a tenth of the time."""
    y_H, x_W = ((2 * torch.arange(n, device=matrix_B23.device, dtype=matrix_B23.dtype) + 1) / n - 1 for n in (height, width))
    grid_BHW2 = matrix_B23.new_empty(len(matrix_B23), height, width, 2)
    for axis in range(2):
        by_x_B1, by_y_B1, shift_B1 = matrix_B23[:, axis].unsqueeze(2).unbind(1)
        torch.add((by_x_B1 * x_W + shift_B1)[:, None], (by_y_B1 * y_H)[:, :, None], out=grid_BHW2[..., axis])
    return grid_BHW2


def colour(pixels_B3HW: Tensor, brightness_B: Tensor, contrast_B: Tensor, saturation_B: Tensor, hue_B: Tensor) -> Tensor:
    """Each image through its own composed colour matrix (module docstring); factors 1 and angle 0 change nothing. Clipped to [0, 1]."""
    b, _, h, w = pixels_B3HW.shape
    x = pixels_B3HW.reshape(b, 3, h * w)
    chroma = brightness_B * contrast_B * saturation_B
    coefficients = torch.stack([brightness_B * contrast_B, chroma * hue_B.cos(), chroma * hue_B.sin()], 1)
    matrix_B33 = (coefficients @ torch.stack([GREY, CHROMA, QUARTER_TURN]).view(3, 9)).view(b, 3, 3).to(x.device, x.dtype)
    mean_luma_B = x.mean(2) @ LUMA.to(x.device, x.dtype)
    offset_B = (brightness_B * (1 - contrast_B)).to(x.device, x.dtype) * mean_luma_B
    return torch.baddbmm(offset_B.view(b, 1, 1), matrix_B33, x).clamp_(0, 1).view(b, 3, h, w)


def cut_hole(pixels_B3HW: Tensor, draws: Draws, largest: float, fill: float | None = None) -> Tensor:
    """One square hole per image (cutout): side uniform in (0, largest], centre uniform, filled with the grey `fill` in [0, 1],
    or, when None, with the image's mean colour.

    SCAN's published code fills with 0 after normalisation, the mean colour of the data set; the mean of the image itself
    needs no data set and hides no less.
    """
    _, _, h, w = pixels_B3HW.shape
    side = draws.uniform(0, largest) / 2
    rows = ((torch.arange(h) + 0.5) / h - draws.uniform(0, 1)[:, None]).abs() < side[:, None]
    columns = ((torch.arange(w) + 0.5) / w - draws.uniform(0, 1)[:, None]).abs() < side[:, None]
    hole_B1HW = (rows[:, None, :, None] & columns[:, None, None, :]).to(pixels_B3HW.device)
    inside = pixels_B3HW.mean((2, 3), keepdim=True) if fill is None else pixels_B3HW.new_tensor(fill)
    return torch.where(hole_B1HW, inside, pixels_B3HW)
