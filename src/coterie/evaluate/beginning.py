"""An encoder as the beginning of another network: its maps or its features, in a copy, for the run's own encoder stays as it is.

"all" learns everything further, "fc6-8" leaves the convolutions as they are (after the layers of AlexNet that learn then; Kraehenbuehl et
al., 2016). Normalisations keep the statistics they came with, as is usual where a batch holds few images; an untrained encoder's are mean 0
and variance 1.

Shapes: B batch, D feature, h and w places of maps.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from coterie.errors import InputError
from coterie.evaluate.voc import VocSet

LEARN = ("fc6-8", "all")
STRIDE = 16  # pixels a place: of AlexNet's and VGG-16's conv5 in Fast R-CNN (Girshick, 2015)


class Begun(nn.Module):
    """A copy of an encoder without its projection. InputError: `learn` is neither "fc6-8" nor "all"."""

    def __init__(self, encoder: Any, learn: str):
        super().__init__()
        if learn not in LEARN:
            raise InputError(f"learn = {learn!r}; {' or '.join(LEARN)}")
        self.encoder = copy.deepcopy(encoder)
        self.encoder.projection = nn.Identity()
        self.learn, self.classic = learn, hasattr(self.encoder.backbone, "connected")
        self.encoder.requires_grad_(learn == "all")

    def train(self, mode: bool = True) -> "Begun":
        super().train(mode)
        for part in self.encoder.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) or (self.learn == "fc6-8" and not list(part.children())):
                part.eval()
        return self


class Maps(Begun):
    """Pixels (B, 3, H, W) in [0, 1] -> maps (B, D, h, w) of at most 16 pixels a place where the network has such; `out_channels` is D.

    Of AlexNet and VGG-16 the last convolutional maps before the last pooling, of a network from timm the deepest level of that stride,
    of the others their last maps. InputError: a network without maps, or pictures of `size` px too small for it.
    """

    def __init__(self, encoder: Any, learn: str, size: int):
        super().__init__(encoder, learn)
        backbone = self.encoder.backbone
        strides = [level["reduction"] for level in getattr(backbone, "feature_info", [])]
        self.level = max((i for i, stride in enumerate(strides) if stride <= STRIDE), default=None)
        if not hasattr(backbone, "maps" if self.level is None else "forward_intermediates"):
            raise InputError("this encoder has no maps: no convolutional network")
        with torch.no_grad():
            device = next(iter(self.encoder.parameters()), torch.empty(0)).device
            try:
                probe = self.eval()(torch.zeros(1, 3, size, size, device=device))
            except (RuntimeError, AssertionError) as error:  # a pooling with nothing left; a transformer made for another size
                raise InputError(f"this encoder cannot see pictures of {size} px ({error})") from error
        self.out_channels = probe.shape[1]

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        backbone: Any = self.encoder.backbone
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learn == "all"):
            x = self.encoder.standardised(pixels_B3HW)
            if self.classic:
                return backbone.convolutions[:-1](x)
            if self.level is not None:
                return backbone.forward_intermediates(x, indices=[self.level], intermediates_only=True, stop_early=True)[0]
            return backbone.maps(x)


class Connected(nn.Module):
    """AlexNet's and VGG-16's two connected layers, behind a ReLU: maps (B, D, side, side) -> (B, 4096)."""

    def __init__(self, encoder: Any, learn: str):
        super().__init__()
        self.layers = copy.deepcopy(encoder.backbone.connected)
        self.side, self.width = int(encoder.backbone.side), int(encoder.backbone.n_features)
        self.layers.requires_grad_(True)
        if learn == "fc6-8":  # convolutions are judged then, not what was learned behind them
            reset(self.layers)

    def forward(self, maps_BDhw: Tensor) -> Tensor:
        return F.relu(self.layers(F.adaptive_avg_pool2d(maps_BDhw, self.side).flatten(1)))


class Features(Begun):
    """Pixels (B, 3, S, S) in [0, 1] -> features (B, D); `n_features` is D. Of AlexNet and VGG-16 the connected layers learn in any case."""

    def __init__(self, encoder: Any, learn: str, size: int):
        super().__init__(encoder, learn)
        self.connected = Connected(encoder, learn) if self.classic else None
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, size, size, device=next(iter(self.parameters()), torch.empty(0)).device))
        self.n_features = probe.shape[1]

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        backbone: Any = self.encoder.backbone
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learn == "all"):
            x = self.encoder.standardised(pixels_B3SS)
            z_BD = backbone.maps(x) if self.classic else backbone(x)
        return self.connected(z_BD) if self.connected is not None else z_BD


def reset(layers: nn.Module) -> None:
    """New weights of the linear layers, N(0, 0.01) and bias 0.1 (DeepCluster's published evaluation); draws from torch's global generator,
    as `Run.new` seeds it."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.constant_(layer.bias, 0.1)


def learned(network: nn.Module) -> list[nn.Parameter]:
    """The weights that learn."""
    return [weight for weight in network.parameters() if weight.requires_grad]


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[tuple[float, Tensor]]:
    """How far an epoch is, in [0, 1), and the int64 (B,) rows of a batch, all n in a drawn order; a last one that would stand alone is left
    out, as normalisations need two."""
    order = torch.randperm(n, generator=generator)
    for start in range(0, n, size):
        if start == 0 or n - start > 1:
            yield start / n, order[start : start + size]


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The rate of all weights from here on."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def check_parts(train: VocSet, test: VocSet) -> None:
    """InputError unless both parts have the same classes and there are two pictures to learn from."""
    if train.classes != test.classes:
        raise InputError(f"the classes of {train.part} and of {test.part} differ; read the second with those of the first")
    if len(train) < 2:
        raise InputError(f"{train.part}: 1 picture to learn from; at least 2 are needed")


def of_classes(word: str, names: Sequence[str], each_C: NDArray[np.float64]) -> dict[str, float]:
    """The scores of the classes that occur, each under `word` and its name."""
    return {f"{word} {name}": float(score) for name, score in zip(names, each_C) if np.isfinite(score)}
