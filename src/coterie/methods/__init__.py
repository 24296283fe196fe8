"""One file per paper. A method is a module with `Config` (a dataclass), `preset(name, n_images, gpu)` and `fit(images, config, run)`."""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from coterie.errors import InputError

METHODS = {
    "scan": "coterie.methods.scan",
    "kmeans": "coterie.methods.baselines",
}
SUMMARIES = {
    "scan": "neighbours share a cluster, then confident images teach the network (Van Gansbeke et al. 2020)",
    "kmeans": "k-means on pixels, or on an encoder's features: the baseline everyone must beat",
}


@dataclass
class Fitted:
    """What a method returns: `encoder` (B, 3, S, S) -> (B, D), `head` (B, D) -> logits (1, B, K), and both applied to the images.

    features_ND are the clean images' features, p_NK their probabilities; row i is image i.
    """

    encoder: nn.Module
    head: nn.Module
    features_ND: Tensor
    p_NK: Tensor

    @staticmethod
    def from_parts(encoder: nn.Module, head: nn.Module, features_ND: Tensor) -> "Fitted":
        with torch.no_grad():
            p_NK = head(features_ND)[0].float().softmax(1)
        return Fitted(encoder, head, features_ND, p_NK)


def method(name: str) -> ModuleType:
    """The module of a method. Raises InputError for a name that is none."""
    if name not in METHODS:
        raise InputError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    return import_module(METHODS[name])
