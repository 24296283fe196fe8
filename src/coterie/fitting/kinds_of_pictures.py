"""What suits a kind of pictures, whatever the method: the shared part of a preset, a function of the number of images and of whether there
is a GPU (presets.py)."""

from collections.abc import Callable
from typing import Any

Preset = Callable[[int, bool], dict[str, Any]]


def _digits(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 16, "view_size": 12, "augment": "glyphs", "pretext_epochs": 54}


def _glyphs(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 28, "augment": "glyphs", "pretext_epochs": epochs_for(n, 2_400_000, 20, 200)}
    return {"image_size": 20, "augment": "glyphs", "pretext_epochs": epochs_for(n, 240_000, 4, 100)}


def _garments(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return _glyphs(n, gpu) | {"augment": "garments"}
    return {"image_size": 28, "view_size": 20, "augment": "garments", "pretext_epochs": epochs_for(n, 360_000, 6, 100)}


def _cifar10(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 32, "encoder": "resnet18-cifar", **SIMCLR}
    return {"image_size": 32, "view_size": 24, "encoder": "small", "pretext_epochs": epochs_for(n, 360_000, 6, 200)}


def _stl10(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 96, "encoder": "resnet18-stl", **SIMCLR} if gpu else photos(n, gpu)


def _tiny(n: int, gpu: bool) -> dict[str, Any]:
    return _stl10(n, gpu) | {"image_size": 64}


def _imagenet(n: int, gpu: bool) -> dict[str, Any]:
    """The published runs start from weights of MoCo v2, which `--weights` names."""
    return {"image_size": 224, "encoder": "resnet50", "pretext": "frozen"}


def _birds(n: int, gpu: bool) -> dict[str, Any]:
    return photos(n, gpu) | ({"image_size": 224} if gpu else {})


def photos(n: int, gpu: bool) -> dict[str, Any]:
    if gpu:
        return {"image_size": 96, "encoder": "resnet18-stl", "pretext_epochs": epochs_for(n, 5_000_000, 50, 800)}
    return {"image_size": 64, "encoder": "small", "pretext_epochs": epochs_for(n, 400_000, 10, 300)}


def _folder(n: int, gpu: bool) -> dict[str, Any]:
    """As `photos`, where no pretrained encoder is to be had."""
    return photos(n, gpu) | {"encoder": "auto"}


def _quick(n: int, gpu: bool) -> dict[str, Any]:
    return {"image_size": 32, "pretext_epochs": QUICK, "pretext_batch": 64, "pretext_rate": 2e-3}


QUICK = 8  # epochs of what `quick` trains, on views of 32 px

# SimCLR on 32 and 96 px as SCAN's published settings have it
SIMCLR: dict[str, Any] = {"pretext_epochs": 500, "pretext_batch": 512, "pretext_optimizer": "sgd", "pretext_rate": 0.4}
SIMCLR |= {"pretext_decay": 1e-4, "pretext_temperature": 0.1}


def epochs_for(n: int, images: int, least: int, most: int) -> int:
    """Epochs that show about `images` images in all, within bounds."""
    return max(least, min(most, images // max(1, n)))


KINDS: dict[str, tuple[str, Preset]] = {
    "digits": ("scikit-learn's 8 px digits", _digits),
    "glyphs": ("drawn signs, MNIST: no flips, no colour", _glyphs),
    "garments": ("Fashion-MNIST: upright, flips but little turning", _garments),
    "cifar10": ("32 px photographs, CIFAR-10", _cifar10),
    "cifar20": ("32 px photographs, the 20 superclasses of CIFAR-100", _cifar10),
    "cifar10-rounds": ("CIFAR-10 in five rounds (PCP)", _cifar10),
    "cifar100": ("32 px photographs, the 100 classes of CIFAR-100", _cifar10),
    "stl10": ("96 px photographs, STL-10", _stl10),
    "imagenet10": ("10 classes of ImageNet, from given weights", _imagenet),
    "imagenet-dogs": ("15 kinds of dogs of ImageNet, from given weights", _imagenet),
    "tiny-imagenet": ("200 classes of ImageNet at 64 px", _tiny),
    "imagenet50": ("50 classes of ImageNet, from given weights", _imagenet),
    "imagenet100": ("100 classes of ImageNet, from given weights", _imagenet),
    "imagenet200": ("200 classes of ImageNet, from given weights", _imagenet),
    "imagenet1000": ("all of ImageNet, from given weights", _imagenet),
    "cub200": ("200 kinds of birds, CUB-200", _birds),
    "photos": ("a folder of photographs, the default", _folder),
    "quick": ("the smallest sensible setting, for trying out", _quick),
}
