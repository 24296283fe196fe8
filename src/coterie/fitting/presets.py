"""Named settings: what to change in a method's defaults for a kind of pictures, on a CPU and on a GPU.

A preset is a function of the number of images and of whether there is a GPU; it returns settings by name. Those for a CPU are ours: they
make the best of about ten minutes on two cores, where a stage costs (images) x (epochs). For a GPU they are, where something was published
for the set, its numbers, as far as there are settings for them:

    SCAN         cifar10, cifar20, stl10: the pretext's epochs, batch, SGD, rate, decay and temperature; epochs, batch and rate of the
                 network stage and of self-labelling, and its bar. Ours: one cycle and cosines, heads before the network stage, the teacher.
                 imagenet50 to 1000: neighbours, heads, epochs and batches; ours: optimisers and rates
    SPICE        cifar10, cifar20, stl10: MoCo's epochs, momentum, temperature, and rate for four times the batch; the heads' epochs and
                 batches, also of imagenet10 and imagenet-dogs. Ours: ResNet-18 for all, the heads' rate and cores, stage 3 in 200 epochs
    DeepCluster  imagenet: v1 whole. Ours: its 500 epochs for any other set, with a ResNet-18
    PCP          cifar10, cifar10-rounds, imagenet100: whole but for what is stated in docs/methods/pcp.md. cifar100 takes cifar10's
    IR, IS, AND  epochs, SGD, batch, temperature, for any set

Ours altogether: glyphs, garments, photos, cub200, tiny-imagenet; cifar100 with SCAN and SPICE, which takes cifar20's.
"""

from collections.abc import Callable
from typing import Any

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import recipes
from coterie.fitting.kinds_of_pictures import KINDS
from coterie.fitting.own_presets import OWN

MOST_TIMES = 3.0  # times the epochs of `quick`, at most, where the set's own views cost less than those of 32 px
LOOKS = "image_size", "view_size", "augment"  # how pictures are seen: `quick` leaves these as the set's own preset has them

OF_SOURCE = {
    "digits": "digits",
    "torchvision:MNIST": "glyphs",
    "torchvision:KMNIST": "glyphs",
    "torchvision:FashionMNIST": "garments",
    "torchvision:CIFAR10": "cifar10",
    "torchvision:CIFAR100": "cifar10",
    "torchvision:STL10": "stl10",
}


def of_source(source: str) -> str:
    """The preset that belongs to a named set; "photos" for anything else."""
    return OF_SOURCE.get(source.partition("/")[0], "photos")


def settings(method: str, preset: str, n_images: int, gpu: bool, own: str = "photos") -> dict[str, Any]:
    """The settings of `preset` for `method`; `own`: the preset that belongs to the set. Raises InputError for a name that is none.

    A method of a package has the shared part of our presets, and over it, and under names of its own, what its PRESETS say.
    """
    if preset in recipes.RECIPES:
        return recipes.settings(method, preset)
    known = OWN.get(method) or _of_package(method)
    if preset not in KINDS and preset not in (names := [] if method in OWN else list(_package_presets(method))):
        raise InputError(f"no preset is called {preset!r}; there are {', '.join([*KINDS, *names, *recipes.RECIPES])}")
    shared = KINDS[preset][1](n_images, gpu) if preset in KINDS else {}
    made = {**shared, **known(preset, n_images, gpu)}
    return made | _small(made, KINDS[own][1](n_images, gpu)) if preset == "quick" and own != "photos" else made


def _small(made: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What `quick` changes for a set whose looks are known: these, and as many epochs as cost what its own number does at 32 px."""
    seen = {name: own[name] for name in LOOKS if name in own}
    times = min(MOST_TIMES, (32 / (seen.get("view_size") or seen["image_size"])) ** 2)
    return seen | {name: round(made[name] * times) for name in ("pretext_epochs", "epochs") if name in made}


def _of_package(method: str) -> Callable[[str, int, bool], dict[str, Any]]:
    return lambda preset, n, gpu: _package_presets(method).get(preset, {})


def _package_presets(method: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = getattr(methods.method(method), "PRESETS", {})
    return found
