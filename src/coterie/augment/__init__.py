"""Batch augmentation on the device: a separate draw for every image, few kernels for the whole batch.

An `Augment` maps pixels (B, 3, H, W) float in [0, 1] and a CPU generator to augmented pixels on the same device, of the same shape
but for the pretext's views, which may be smaller.
What may change without changing the kind depends on the pictures, so each of the three strengths comes in sets of the same names:

    photos    SimCLR as SCAN uses it: crops, flips, colour jitter, grey; strong: four of SCAN's 14 operations and a hole
    moco      photos as MoCo v2 sees them, and SPICE after it: the same and a blur on every other image
    glyphs    drawn signs, whose left and right and whose colours mean something: turns, shifts, scale, brightness
    garments  things photographed upright on an even ground: as glyphs, flips but little turning
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Generator, Tensor

from coterie.augment.operations import FIXMATCH, Shifted, Strong
from coterie.augment.recipe import Recipe
from coterie.errors import InputError

Augment = Callable[[Tensor, Generator], Tensor]

PHOTOS = Recipe()  # area 0.2 to 1, flip, jitter 0.4 / 0.4 / 0.4 / 0.1 with p 0.8, grey 0.2, no blur: SCAN's SimCLR
GLYPHS = Recipe(area=(0.4, 1.2), inside=False, shift=0.1, rotate=20, flip=0, contrast=0, saturation=0, hue=0, jitter=1, grey=0)
GARMENTS = replace(GLYPHS, rotate=6, flip=0.5)
MOCO = replace(PHOTOS, blur=0.5)  # MoCo v2 (Chen et al. 2020)
SETS = {"photos": PHOTOS, "glyphs": GLYPHS, "garments": GARMENTS, "moco": MOCO}


def pretext(name: str, size: int = 0) -> Augment:
    """The views of the pretext task, `size` px large (0: as the images)."""
    return replace(_set(name), size=size)


def crops(name: str, size: int = 0) -> Augment:
    """The geometry of the pretext's views alone, no colours and no blur: what DeepCluster trains on, crops of 0.08 to 1 and flips."""
    recipe = _set(name)
    return replace(recipe, area=(0.08, 1.0) if recipe.inside else recipe.area, jitter=0, grey=0, blur=0, size=size)


def details(name: str, size: int) -> Augment:
    """The small views of multi-crop: crops of 0.05 to 0.14 (Caron et al. 2020), for glyphs and garments the smaller half of their crops."""
    recipe = _set(name)
    low, high = recipe.area
    return replace(recipe, area=(0.05, 0.14) if recipe.inside else (low, (low + high) / 2), size=size)


def weak(name: str) -> Augment:
    """A little of the set: crops of 0.8 to 1 (clamped to the image, at least 0.77), half the turn and shift, no colour, no blur."""
    recipe = _set(name)
    area = (0.8, 1.0 if recipe.inside else 1.1)
    return replace(recipe, area=area, rotate=recipe.rotate / 2, shift=recipe.shift / 2, jitter=0, grey=0, blur=0)


def strong(name: str) -> Augment:
    """What self-labelling learns from: SCAN's strong augmentation for photos; for the others the pretext's, sheared, with a hole."""
    return Strong() if _photographs(name) else replace(_set(name), shear=0.2, cutout=0.5)


def fixmatch_weak(name: str) -> Augment:
    """The weak view of FixMatch and of both later stages of SPICE: a flip and a shift, zeros moving in.

    For glyphs and garments `weak(name)`: their ground need not be black, and zeros would draw an edge across it.
    """
    return Shifted() if _photographs(name) else weak(name)


def fixmatch_strong(name: str) -> Augment:
    """The strong view of FixMatch as SPICE's joint training uses it: three operations, a grey hole, the weak augmentation.

    For glyphs and garments `strong(name)`.
    """
    return Strong(FIXMATCH, count=3, flip=0, weak=Shifted(), fill=0.5) if _photographs(name) else strong(name)


def clean(pixels_B3HW: Tensor, generator: Generator) -> Tensor:
    """The image itself: what SCAN's published code calls its weak augmentation."""
    return pixels_B3HW


def _set(name: str) -> Recipe:
    if name not in SETS:
        raise InputError(f"augment={name}: no set of augmentations is called so; there are {', '.join(SETS)}")
    return SETS[name]


def _photographs(name: str) -> bool:
    return _set(name) in (PHOTOS, MOCO)
