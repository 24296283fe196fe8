"""The published settings of a paper and a set, `--preset METHOD-SET-published`: what its code has, as far as our options say it.

Hundreds of epochs for a GPU, whatever the machine is. docs/recipes.md has each number beside our preset's, and what of a recipe is missing.
"""

from typing import Any

from coterie.errors import InputError

ENDING = "-published"

SIMCLR: dict[str, Any] = {  # SCAN's first stage on small images
    "augment": "photos", "pretext": "simclr", "pretext_epochs": 500, "pretext_batch": 512, "pretext_optimizer": "sgd", "pretext_rate": 0.4,
    "pretext_schedule": "cosine", "pretext_decay": 1e-4, "pretext_temperature": 0.1, "pretext_anchors": "first", "projection": 128,
}  # fmt: skip
SCAN: dict[str, Any] = SIMCLR | {
    "n_neighbors": 20, "neighbor_components": 0, "include_self": True, "n_heads": 1, "start": "random", "sizes": "even",
    "entropy_weight": 5.0, "cluster_epochs": 0, "network_rate": 1e-4, "network_schedule": "constant", "network_decay": 1e-4,
    "threshold": 0.99, "balance": True, "average_epochs": 0.0,
    "selflabel_batch": 1000, "selflabel_rate": 1e-4, "selflabel_schedule": "constant", "selflabel_decay": 1e-4, "final": "heads",
}  # fmt: skip
SPICE: dict[str, Any] = {
    "pretext": "moco", "augment": "moco", "pretext_epochs": 1000, "pretext_batch": 128, "pretext_optimizer": "sgd", "pretext_rate": 0.015,
    "pretext_schedule": "cosine", "pretext_decay": 1e-4, "pretext_temperature": 0.2, "momentum": 0.999, "projection": 128, "queue": 65_536,
    "n_heads": 10, "head_repeats": 8, "head_part": 128, "head_rate": 5e-3, "core_share": 0.5, "components": 0, "overlap": True,
    "double_softmax": True, "choice": "loss", "label_view": "weak", "train_view": "strong", "reliable_neighbors": 100, "reliable_bar": 0.99,
    "reliable_balance": True, "joint_init": "random", "joint_batch": 64, "joint_ratio": 7, "joint_rate": 0.03, "joint_decay": 5e-4,
    "threshold": 0.95, "final": "heads",
}  # fmt: skip
DEEPCLUSTER: dict[str, Any] = {
    "pretext_epochs": 0, "variant": "v1", "clustering": "k-means", "components": 256, "cluster_iterations": 20, "epochs": 500, "batch": 256,
    "draws": 1.0, "even": True, "views": "crops", "augment": "photos", "optimizer": "sgd", "rate": 0.05, "schedule": "constant",
    "decay": 1e-5, "classifier_rate": 0.05, "image_size": 224, "view_size": 0, "pseudo_clusters": 10_000,
}  # fmt: skip
PCP: dict[str, Any] = {
    "pretext_epochs": 0, "augment": "photos", "epochs": 200, "rounds": 1, "batch": 128, "rate": 0.03, "decay": 5e-4, "temperature": 0.1,
    "bank_momentum": 0.5, "bank_start": "noise", "log_outside": True, "cluster_view": "augmented", "progressive": True, "keep_share": 0.5,
    "vote": True, "vote_from": 0.5, "vote_window": 15, "vote_decay": 0.8, "vote_drop": 0.0, "vote_add": 3.0, "vote_signed": True,
    "warm_up": 0.9, "mix_from": 0.2, "mix_to": 0.5, "projection": 128, "final": "k-means", "whiten": False, "encoder": "resnet18-cifar",
    "image_size": 32, "view_size": 0, "floor": 1000,
}  # fmt: skip
# 2^20 updates and an average over 1,000 of them, in epochs of 50,000 images, and of STL-10's 13,000
JOINT_50K: dict[str, Any] = {"joint_epochs": 9447, "average_epochs": 9.0}
JOINT_13K: dict[str, Any] = {"joint_epochs": 36_158, "average_epochs": 34.4}
SMALL = {"encoder": "resnet18-cifar", "image_size": 32, "view_size": 0}
LARGE = {"encoder": "resnet18-stl", "image_size": 96, "view_size": 0}

RECIPES: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> method, in a line, settings
    "scan-cifar10-published": (
        "scan", "SCAN on CIFAR-10", SCAN | SMALL | {"network_epochs": 50, "network_batch": 128, "selflabel_epochs": 200},
    ),
    "scan-cifar20-published": (
        "scan", "SCAN on CIFAR-100's superclasses",
        SCAN | SMALL | {"network_epochs": 100, "network_batch": 512, "selflabel_epochs": 200},
    ),
    "scan-stl10-published": (
        "scan", "SCAN on STL-10", SCAN | LARGE | {"network_epochs": 100, "network_batch": 128, "selflabel_epochs": 100},
    ),
    "spice-cifar10-published": (
        "spice", "SPICE on CIFAR-10",
        SPICE | SMALL | JOINT_50K
        | {"queue": 12_800, "head_epochs": 30, "head_batch": 5000, "reliable_ratio": 0.99, "joint_encoder": "wrn-28-2"},
    ),
    "spice-cifar20-published": (
        "spice", "SPICE on CIFAR-100's superclasses",
        SPICE | SMALL | JOINT_50K
        | {"queue": 12_800, "head_epochs": 100, "head_batch": 10_000, "reliable_ratio": 0.9, "joint_encoder": "wrn-28-8"},
    ),
    "spice-stl10-published": (
        "spice", "SPICE on STL-10",
        SPICE | LARGE | JOINT_13K
        | {"encoder": "resnet34-stl", "head_epochs": 100, "head_batch": 5000, "reliable_ratio": 0.9, "joint_encoder": "wrn-37-2"},
    ),
    "deepcluster-imagenet-published": ("deepcluster", "DeepCluster on ImageNet, AlexNet", DEEPCLUSTER | {"encoder": "alexnet-sobel"}),
    "deepcluster-imagenet-vgg16-published": ("deepcluster", "DeepCluster on ImageNet, VGG-16", DEEPCLUSTER | {"encoder": "vgg16-sobel"}),
    "pcp-cifar10-published": ("pcp", "PCP on CIFAR-10, one round", PCP),
    "pcp-cifar10-rounds-published": ("pcp", "PCP on CIFAR-10, five rounds", PCP | {"rounds": 5}),
    "pcp-imagenet100-published": (
        "pcp", "PCP on 100 classes of ImageNet",
        PCP | {"encoder": "alexnet", "image_size": 224, "floor": 10_000, "mix_to": 0.45},
    ),
}  # fmt: skip


def method_of(preset: str | None) -> str | None:
    """The method of a recipe; None for any other preset."""
    return RECIPES[preset][0] if preset in RECIPES else None


def settings(method: str, preset: str) -> dict[str, Any]:
    """The settings of a recipe. Raises InputError for a method that is not its own."""
    own, title, found = RECIPES[preset]
    if method != own:
        raise InputError(f"--preset {preset} is the published recipe of {title}: it goes with --method {own}, not {method}")
    return dict(found)
