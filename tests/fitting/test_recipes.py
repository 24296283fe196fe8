"""Each published recipe has the numbers of its paper's code, as they were read there; and docs/recipes.md shows them beside ours."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from coterie import fitting, methods
from coterie.errors import InputError
from coterie.fitting import config, presets, recipes

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
SIMCLR = {"pretext_temperature": 0.1, "pretext_epochs": 500, "pretext_batch": 512, "pretext_rate": 0.4, "pretext_optimizer": "sgd"}
SIMCLR |= {"pretext_decay": 1e-4, "pretext_schedule": "cosine", "pretext_anchors": "first", "projection": 128}
SCAN = SIMCLR | {"n_neighbors": 20, "include_self": True, "n_heads": 1, "entropy_weight": 5, "network_rate": 1e-4, "network_decay": 1e-4}
SCAN |= {"network_schedule": "constant", "threshold": 0.99, "selflabel_rate": 1e-4, "selflabel_decay": 1e-4, "selflabel_batch": 1000}
SCAN |= {"selflabel_schedule": "constant", "balance": True, "average_epochs": 0, "cluster_epochs": 0}
MOCO = {"pretext_batch": 128, "pretext_rate": 0.015, "pretext_epochs": 1000, "pretext_decay": 1e-4, "momentum": 0.999}
MOCO |= {"pretext_temperature": 0.2, "pretext_schedule": "cosine", "projection": 128}
SPICE = MOCO | {"n_heads": 10, "head_rate": 5e-3, "head_part": 128, "head_repeats": 8, "core_share": 0.5, "reliable_neighbors": 100}
SPICE |= {"reliable_bar": 0.99, "reliable_balance": True, "joint_init": "random", "joint_batch": 64, "joint_ratio": 7, "joint_rate": 0.03}
SPICE |= {"joint_decay": 5e-4, "threshold": 0.95}
DEEP = {"pseudo_clusters": 10_000, "rate": 0.05, "schedule": "constant", "decay": 1e-5, "batch": 256, "epochs": 500, "draws": 1}
DEEP |= {"components": 256, "cluster_iterations": 20, "classifier_rate": 0.05, "even": True, "image_size": 224}
PCP = {"epochs": 200, "rate": 0.03, "decay": 5e-4, "batch": 128, "temperature": 0.1, "bank_momentum": 0.5, "keep_share": 0.5}
PCP |= {"vote_window": 15, "vote_decay": 0.8, "vote_drop": 0, "vote_add": 3, "vote_from": 0.5, "warm_up": 0.9, "mix_from": 0.2}
PCP |= {"projection": 128, "bank_start": "noise", "cluster_view": "augmented"}
UPDATES, AVERAGE = 2**20, 999  # of stage 3, each of 448 images beside the labelled; memory of its average, in updates


def joint(n: int) -> dict[str, float]:
    """SPICE's third stage in epochs of n images."""
    return {"joint_epochs": -(-UPDATES // (n // 448)), "average_epochs": round(AVERAGE / (n // 448), 1)}


READ = {  # in the published code of each, or in the paper where the code has none
    "scan-cifar10-published": SCAN | {"network_epochs": 50, "network_batch": 128, "selflabel_epochs": 200, "image_size": 32},
    "scan-cifar20-published": SCAN | {"network_epochs": 100, "network_batch": 512, "selflabel_epochs": 200, "image_size": 32},
    "scan-stl10-published": SCAN | {"network_epochs": 100, "network_batch": 128, "selflabel_epochs": 100, "image_size": 96},
    "spice-cifar10-published": SPICE
    | joint(50_000)
    | {"queue": 12_800, "head_batch": 5000, "head_epochs": 30, "reliable_ratio": 0.99, "joint_encoder": "wrn-28-2"},
    "spice-cifar20-published": SPICE
    | joint(50_000)
    | {"queue": 12_800, "head_batch": 10_000, "head_epochs": 100, "reliable_ratio": 0.9, "joint_encoder": "wrn-28-8"},
    "spice-stl10-published": SPICE
    | joint(13_000)
    | {"queue": 65_536, "head_batch": 5000, "head_epochs": 100, "reliable_ratio": 0.9, "joint_encoder": "wrn-37-2"},
    "deepcluster-imagenet-published": DEEP | {"encoder": "alexnet-sobel"},
    "deepcluster-imagenet-vgg16-published": DEEP | {"encoder": "vgg16-sobel"},
    "pcp-cifar10-published": PCP | {"floor": 1000, "rounds": 1, "mix_to": 0.5, "encoder": "resnet18-cifar"},
    "pcp-cifar10-rounds-published": PCP | {"floor": 1000, "rounds": 5, "mix_to": 0.5, "encoder": "resnet18-cifar"},
    "pcp-imagenet100-published": PCP | {"floor": 10_000, "rounds": 1, "mix_to": 0.45, "encoder": "alexnet", "image_size": 224},
}
BESIDE = {"cifar10": 50_000, "cifar20": 50_000, "stl10": 105_000, "imagenet": 1_281_167, "imagenet100": 128_000}  # images of the set


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("gpu", [False, True])
def test_a_recipe_has_the_numbers_that_were_read(name, gpu):
    method = recipes.RECIPES[name][0]
    made = config.change(methods.method(method).Config(), presets.settings(method, name, 50_000, gpu))
    assert {field: getattr(made, field) for field in READ[name]} == READ[name]
    assert config.change(type(made)(), config.plain(made)) == made


def test_every_recipe_is_here():
    assert set(READ) == set(recipes.RECIPES) and all(name.endswith(recipes.ENDING) for name in READ)
    assert all(name.startswith(method) for name, (method, _, _) in recipes.RECIPES.items())


def test_a_recipe_tells_its_method_and_refuses_another():
    pictures = np.zeros((30, 8, 8), np.uint8)
    assert fitting.plan(pictures, clusters=2, preset="spice-cifar10-published")[1].method == "spice"
    with pytest.raises(InputError, match="--preset spice-cifar10-published is the published recipe .* goes with --method spice, not scan"):
        fitting.plan(pictures, "scan", clusters=2, preset="spice-cifar10-published")


def table(name: str) -> list[str]:
    """The lines of the page on a recipe: each setting that it or our preset for a GPU changes."""
    method, _, published = recipes.RECIPES[name]
    key = name.removeprefix(f"{method}-").removesuffix(recipes.ENDING).removesuffix("-rounds").removesuffix("-vgg16")
    preset = {"imagenet": "imagenet1000"}.get(key, key) if "rounds" not in name else "cifar10-rounds"
    ours = config.change(methods.method(method).Config(), presets.settings(method, preset, BESIDE[key], True))
    lines = []
    for field in (field.name for field in fields(ours) if field.name in published):
        own = getattr(ours, field)
        lines.append(f"| `{field}` | {shown(published[field])} | {'the same' if own == published[field] else shown(own)} |")
    return lines


def shown(value: object) -> str:
    return f"`{value}`" if not isinstance(value, float) else f"`{value:g}`"


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_page_shows_it_beside_ours(name):
    section = PAGE.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
    assert "\n".join(table(name)) in section
