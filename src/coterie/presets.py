"""Named settings: what to change in a method's defaults for a kind of pictures, on a CPU and on a GPU.

A preset is a function of the number of images and of whether there is a GPU; it returns settings by name.
CPU schedules make the best of about ten minutes on two cores; the cost of a stage is (images) x (epochs).
"""

from collections.abc import Callable
from typing import Any

from coterie.errors import InputError

Preset = Callable[[int, bool], dict[str, Any]]


def _digits(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 16, "augment": "glyphs", "pretext_epochs": 36}


def _glyphs(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 28, "augment": "glyphs", "pretext_epochs": _epochs(n, 360_000, 6, 100)}


def _garments(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 28, "augment": "garments", "pretext_epochs": _epochs(n, 480_000, 8, 100)}


def _cifar10(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 32, "encoder": "resnet18-cifar", "pretext_epochs": 500, "pretext_batch": 512}
    return {"image_size": 32, "encoder": "small-32", "pretext_epochs": _epochs(n, 800_000, 10, 200)}


def _photos(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 96, "encoder": "resnet18-stl", "pretext_epochs": _epochs(n, 5_000_000, 50, 800)}
    return {"image_size": 64, "encoder": "small", "pretext_epochs": _epochs(n, 400_000, 10, 300)}


def _quick(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 32, "pretext_epochs": 8, "pretext_batch": 64, "pretext_rate": 2e-3}


def _epochs(n: int, images: int, least: int, most: int) -> int:
    """Epochs that show about `images` images in all, within bounds."""
    return max(least, min(most, images // max(1, n)))


PRETEXT: dict[str, tuple[str, Preset]] = {
    "digits": ("scikit-learn's 8 px digits", _digits),
    "glyphs": ("drawn signs, MNIST: no flips, no colour", _glyphs),
    "garments": ("Fashion-MNIST: upright, flips but little turning", _garments),
    "cifar10": ("32 px photographs, CIFAR-10", _cifar10),
    "photos": ("a folder of photographs, the default", _photos),
    "quick": ("the smallest sensible setting, for trying out", _quick),
}

# What a method adds to the shared part.
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "scan": {
        "digits": {"selflabel_epochs": 24},
        "quick": {"n_heads": 4, "cluster_epochs": 6, "cluster_steps": 20, "selflabel_epochs": 2, "selflabel_batch": 64},
    },
    "kmeans": {name: {"encoder": "pixels", "pretext": "frozen"} for name in PRETEXT},
}

OF_SOURCE = {
    "digits": "digits",
    "torchvision:MNIST": "glyphs",
    "torchvision:KMNIST": "glyphs",
    "torchvision:FashionMNIST": "garments",
    "torchvision:CIFAR10": "cifar10",
    "torchvision:CIFAR100": "cifar10",
}


def of_source(source: str) -> str:
    """The preset that belongs to a named set; "photos" for anything else."""
    return OF_SOURCE.get(source.partition("/")[0], "photos")


def settings(method: str, preset: str, n_images: int, gpu: bool) -> dict[str, Any]:
    """The settings of `preset` for `method`. Raises InputError for a name that is none."""
    if preset not in PRETEXT:
        raise InputError(f"no preset is called {preset!r}; there are {', '.join(PRETEXT)}")
    return {**PRETEXT[preset][1](n_images, gpu), **OWN.get(method, {}).get(preset, {})}
