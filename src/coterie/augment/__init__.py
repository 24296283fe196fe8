"""Batch augmentation on the device: a separate draw for every image, few kernels for the whole batch.

An `Augment` maps pixels (B, 3, H, W) float in [0, 1] and a CPU generator to augmented pixels of the same shape and device.
What may change without changing the kind depends on the pictures, so each of the three strengths comes in sets of the same names:

    photos    SimCLR as SCAN uses it: crops, flips, colour jitter, grey; strong: four of SCAN's 14 operations and a hole
    glyphs    drawn signs, whose left and right and whose colours mean something: turns, shifts, scale, brightness
    garments  things photographed upright on an even ground: as glyphs, flips but little turning
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Generator, Tensor

from coterie.augment.operations import Strong
from coterie.augment.recipe import Recipe
from coterie.errors import InputError

Augment = Callable[[Tensor, Generator], Tensor]

PHOTOS = Recipe()  # area 0.2 to 1, flip, jitter 0.4 / 0.4 / 0.4 / 0.1 with p 0.8, grey 0.2, no blur: SCAN's SimCLR
GLYPHS = Recipe(area=(0.4, 1.2), inside=False, shift=0.1, rotate=20, flip=0, contrast=0, saturation=0, hue=0, jitter=1, grey=0)
GARMENTS = replace(GLYPHS, rotate=6, flip=0.5)
SETS = {"photos": PHOTOS, "glyphs": GLYPHS, "garments": GARMENTS}


def pretext(name: str) -> Augment:
    """The views of the pretext task."""
    return _set(name)


def weak(name: str) -> Augment:
    """A little of the set: crops of 0.8 to 1, half the turn and shift, no colour."""
    recipe = _set(name)
    return replace(recipe, area=(0.8, 1.0 if recipe.inside else 1.1), rotate=recipe.rotate / 2, shift=recipe.shift / 2, jitter=0, grey=0)


def strong(name: str) -> Augment:
    """What self-labelling learns from: SCAN's strong augmentation for photos; for the others the pretext's, sheared, with a hole."""
    return Strong() if name == "photos" else replace(_set(name), shear=0.2, cutout=0.5)


def clean(pixels_B3HW: Tensor, generator: Generator) -> Tensor:
    """The image itself: what SCAN's published code calls its weak augmentation."""
    return pixels_B3HW


def _set(name: str) -> Recipe:
    if name not in SETS:
        raise InputError(f"augment={name}: no set of augmentations is called so; there are {', '.join(SETS)}")
    return SETS[name]
