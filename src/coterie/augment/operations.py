"""The strong augmentations of SCAN and FixMatch: a few of 14 operations per image, drawn with replacement, then a hole.

Each operation computes what Pillow computes on 8 bits, to within one level (tests/parity), as tensor operations on those images
of the batch that drew it. The five geometric ones compose into one matrix per image and are sampled once, at the end:
the others look at values, not places (sharpness at the nearest neighbours only), so the order hardly shows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from coterie.augment.recipe import LUMA, Draws, cut_hole, in_full, warp

Operation = Callable[[Tensor, Tensor], Tensor]  # pixels (B, 3, H, W) in [0, 1], magnitude (B,) -> pixels
Table = tuple[tuple[str, float, float], ...]  # name, least and greatest magnitude; Identity, AutoContrast and Equalize have none

OPERATIONS: Table = (  # SCAN's published list
    ("Identity", 0.0, 1.0),
    ("AutoContrast", 0.0, 1.0),
    ("Equalize", 0.0, 1.0),
    ("Rotate", -30.0, 30.0),
    ("Solarize", 0.0, 256.0),
    ("Color", 0.05, 0.95),
    ("Contrast", 0.05, 0.95),
    ("Brightness", 0.05, 0.95),
    ("Sharpness", 0.05, 0.95),
    ("ShearX", -0.1, 0.1),
    ("TranslateX", -0.1, 0.1),
    ("TranslateY", -0.1, 0.1),
    ("Posterize", 4.0, 8.0),
    ("ShearY", -0.1, 0.1),
)
FIXMATCH: Table = tuple(  # Sohn et al. 2020, table 12: the same with wider shears and translations
    (name, -0.3, 0.3) if name.startswith(("Shear", "Translate")) else (name, low, high) for name, low, high in OPERATIONS
)


@dataclass(frozen=True)
class Shifted:
    """A flip, then a shift by whole pixels, each as likely; zeros move in.

    FixMatch's weak augmentation as SPICE takes it, in its second stage too: a random crop of the flipped image in a frame of zeros.
    """

    flip: float = 0.5
    shift: float = 1 / 8  # at most, share of each side: 4 px at 32, FixMatch's 12.5 %

    @in_full
    def __call__(self, pixels_B3HW: Tensor, generator: Generator) -> Tensor:
        matrix_B33 = self.matrix(Draws(len(pixels_B3HW), generator), *pixels_B3HW.shape[2:])
        return warp(pixels_B3HW, matrix_B33[:, :2], padding="zeros")

    def matrix(self, draws: Draws, h: int, w: int) -> Tensor:
        """(B, 3, 3) of output -> input coordinates."""
        mirror = 1 - 2 * draws.coin(self.flip)
        x, y = (2 / n * draws.whole(round(self.shift * n)) for n in (w, h))  # px to coordinates, in which the side is 2
        return _matrix(mirror, 0, x, 0, 1, y)


@dataclass(frozen=True)
class Strong:
    """`count` of `operations` per image at uniform magnitudes, with a flip before or a weak augmentation after, and a hole.

    SCAN's as it stands. FixMatch moves the hole with the weak augmentation; here it is drawn on the view itself.
    """

    operations: Table = OPERATIONS
    count: int = 4
    flip: float = 0.5  # probability, before the operations
    weak: Shifted | None = None  # after the operations
    cutout: float = 0.5  # largest side of the hole, share of the side; SCAN's are 16 of 32 px, 32 of STL-10's 96, 75 of ImageNet's 224
    fill: float | None = None  # grey of the hole, in [0, 1]; None: the image's mean colour

    @in_full
    def __call__(self, pixels_B3HW: Tensor, generator: Generator) -> Tensor:
        draws = Draws(len(pixels_B3HW), generator)
        x = pixels_B3HW.clone(memory_format=torch.contiguous_format)
        matrix_B33 = torch.diag_embed(torch.stack([1 - 2 * draws.coin(self.flip), *torch.ones(2, draws.size)], 1))
        for _ in range(self.count):
            which = torch.randint(len(self.operations), (draws.size,), generator=generator)
            level = draws.uniform(0, 1)
            for number, (name, low, high) in enumerate(self.operations):
                rows = (which == number).nonzero()[:, 0]
                if not len(rows):
                    continue
                magnitude = low + (high - low) * level[rows]
                if name in GEOMETRY:
                    matrix_B33[rows] = matrix_B33[rows] @ GEOMETRY[name](magnitude)
                elif name in VALUES:
                    there = rows.to(x.device)
                    x[there] = VALUES[name](x[there], magnitude.to(x.device).view(-1, 1, 1, 1))
        if self.weak:
            matrix_B33 = matrix_B33 @ self.weak.matrix(draws, *x.shape[2:])
        return cut_hole(warp(x, matrix_B33[:, :2], padding="zeros"), draws, self.cutout, self.fill)


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Each channel stretched to [0, 1]; a flat channel stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Each channel's 256 levels spread to equal counts, by Pillow's rule (integer steps, the last level left out)."""
    b, c, h, w = x.shape
    levels = (x * 255).round().long().reshape(b * c, h * w)
    counts = torch.zeros(b * c, 256, dtype=torch.long, device=x.device).scatter_add_(1, levels, torch.ones_like(levels))
    last = counts.gather(1, levels.amax(1, keepdim=True))
    step = (h * w - last) // 255
    table = ((step // 2 + counts.cumsum(1) - counts) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=x.device))
    return (table.gather(1, levels).to(x.dtype) / 255).view(b, c, h, w)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Levels at or above the threshold (0 to 256) are inverted."""
    return torch.where((x * 255).round() < threshold, x, 1 - x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Only the highest int(bits) of 8 are kept."""
    unit = 2 ** (8 - bits.floor().clamp(1, 8))
    return ((x * 255).round() / unit).floor() * unit / 255


def color(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's grey."""
    return _blend(_grey(x), x, factor)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of the image's grey."""
    return _blend((_grey(x).mean((2, 3), keepdim=True) * 255 + 0.5).floor() / 255, x, factor)


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return x * factor


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image (3 x 3, centre 5 of 13); the border, which has no neighbours, stays."""
    kernel = torch.ones(3, 3, device=x.device, dtype=x.dtype)
    kernel[1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, (kernel / 13).expand(3, 1, 3, 3), groups=3)
    return _blend(smooth, x, factor)


VALUES: dict[str, Operation] = {
    "AutoContrast": autocontrast,
    "Equalize": equalize,
    "Solarize": solarize,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "Posterize": posterize,
}


def rotate(degrees: Tensor) -> Tensor:
    """Matrices (B, 3, 3) of output -> input coordinates that turn the image counter-clockwise about its centre."""
    angle = degrees * (math.pi / 180)
    return _matrix(angle.cos(), -angle.sin(), 0, angle.sin(), angle.cos(), 0)


def shear_x(tangent: Tensor) -> Tensor:
    """About the upper edge, as Pillow does it."""
    return _matrix(1, tangent, tangent, 0, 1, 0)


def shear_y(tangent: Tensor) -> Tensor:
    """About the left edge."""
    return _matrix(1, 0, 0, tangent, 1, tangent)


def translate_x(share: Tensor) -> Tensor:
    """By a share of the width, to the left."""
    return _matrix(1, 0, 2 * share, 0, 1, 0)


def translate_y(share: Tensor) -> Tensor:
    """By a share of the height, upwards."""
    return _matrix(1, 0, 0, 0, 1, 2 * share)


GEOMETRY: dict[str, Callable[[Tensor], Tensor]] = {
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
}


def _blend(other: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(x), x, factor.expand_as(x)).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    return ((x * LUMA.to(x).view(1, 3, 1, 1)).sum(1, keepdim=True) * 255).round() / 255


def _matrix(*entries: Tensor | float) -> Tensor:
    size = max(entry.numel() for entry in entries if isinstance(entry, Tensor))
    rows = [entry if isinstance(entry, Tensor) else torch.full((size,), float(entry)) for entry in (*entries, 0, 0, 1)]
    return torch.stack(rows, 1).view(-1, 3, 3)
