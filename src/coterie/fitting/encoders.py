"""Which encoder `--encoder auto` takes: given weights, else an installed package's, else what the hub's cache holds here, else none.

No network is asked. The choice and its reason are said on the terminal, in config.json and in the report.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coterie.errors import InputError
from coterie.networks.published import PUBLISHED, how_to_get, parts
from coterie.networks.weights import encoder_of_run, is_here

AUTO = "auto"
SMALL = 64  # px; grey pictures below are drawn signs or the like, which weights trained on photographs do not know
FROZEN: dict[str, dict[str, Any]] = {  # what a method leaves out, or does more gently, when the encoder stays as it came
    "scan": {"selflabel_epochs": 0, "cluster_rate": 2e-3},
    "spice": {"joint_epochs": 0},
    "kmeans": {},
    "temi": {},
    "turtle": {},
    "spectral": {},
    "agglomerative": {},
    "gmm": {},
}
OF_PIXELS = ("kmeans", "spectral", "agglomerative", "gmm")  # what sorts pixels where there is no trained encoder


@dataclass(frozen=True)
class Choice:
    """What `--encoder auto` means here: a sentence, and the settings that follow."""

    reason: str
    settings: dict[str, Any] = field(default_factory=dict)


def choose(method: str, gpu: bool, weights: str = "", small_and_grey: bool = False) -> Choice:
    """What `--encoder auto` means on this machine for a method. Raises InputError for weights whose network cannot be known."""
    if weights:
        return _of_weights(weights)
    scratch = {"encoder": "pixels" if method in OF_PIXELS else "resnet18-stl" if gpu else "small"}
    if method not in FROZEN:
        return Choice(f"from scratch: {method} trains its own encoder", scratch)
    if small_and_grey:
        return Choice(f"from scratch: grey pictures below {SMALL} px are no photographs", scratch)
    for name in PUBLISHED:
        if is_here(name):
            return Choice(in_words(name), {"encoder": name, **as_published(name, method)})
    better = f"{how_to_get('lite0')} brings one, which sorts photographs far better and sooner"
    return Choice(f"from scratch: no pretrained encoder is on this machine; {better}", scratch)


def as_published(encoder: str, method: str) -> dict[str, Any]:
    """The settings that a short name of a published encoder implies: its weights and its working size, and that a method which can leave it
    as it is does. Empty for any other name."""
    known = [PUBLISHED.get(name) for name in parts(encoder)]
    if None in known:
        return {}
    settings = {"pretrained": True, "image_size": max(one.px for one in known if one)}
    return settings | ({"pretext": "frozen", **FROZEN[method]} if method in FROZEN else {})


def in_words(encoder: str) -> str:
    """What a published encoder is, with what its weights were trained on; "" for any other name."""
    known = [(name, PUBLISHED.get(name)) for name in parts(encoder)]
    told = [f"{name}, pretrained on {one.trained}, {'from its package' if one.package else 'from the hub'}" for name, one in known if one]
    return " and ".join(told) if len(told) == len(known) else ""


def _of_weights(weights: str) -> Choice:
    known = encoder_of_run(Path(weights))
    if known is None:
        raise InputError(f"--weights {weights}: name their network with --encoder; only the weights of a run tell it themselves")
    name, size = known
    return Choice(f"{name}, the given weights", {"encoder": name, "image_size": size})
