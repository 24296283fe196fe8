"""Muon (Jordan et al. 2024): an update that moves all directions of a matrix alike, for networks that see few images.

The momentum of a matrix is replaced by the nearest matrix whose singular values are all one: directions whose gradients are small learn as
fast as those whose gradients are large. What it gains on CIFAR-10: benchmarks/results/shorter.csv.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

STEPS = 5  # of Newton-Schulz
QUINTIC = 3.4445, -4.7750, 2.0315  # Jordan et al. 2024: singular values from 0.01 to 1 come to lie between 0.7 and 1.2
LENGTH = 0.2  # root mean square of an update at rate 1, that of AdamW's (Liu et al. 2025), so that one decay and one schedule fit both
MOMENTUM = 0.95
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's


class Muon(Optimizer):
    """Weights of two dimensions and more, a convolution as (out, in * height * width), decay and learn by orthogonalised Nesterov momentum;
    the others (biases, batch norm) by Adam at the same rate, without decay."""

    def __init__(self, weights: Iterable[Tensor], lr: float = 0.02, weight_decay: float = 0.01):
        weights = list(weights)
        matrices = {"params": [w for w in weights if w.ndim > 1], "matrices": True, "weight_decay": weight_decay}
        others = {"params": [w for w in weights if w.ndim < 2], "matrices": False, "weight_decay": 0.0}
        super().__init__([group for group in (matrices, others) if group["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None, "one gradient an update"
        for group in self.param_groups:
            move = self._orthogonal if group["matrices"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(move(weight, weight.grad), alpha=-group["lr"])

    def _orthogonal(self, weight: Tensor, gradient: Tensor) -> Tensor:
        kept = self.state[weight]
        if not kept:
            kept["momentum"] = torch.zeros_like(weight)
        momentum = kept["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM).flatten(1))
        return update.mul_(LENGTH * math.sqrt(max(update.shape))).view_as(weight)

    def _adam(self, weight: Tensor, gradient: Tensor) -> Tensor:
        kept = self.state[weight]
        if not kept:
            kept.update(step=torch.zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        count = kept["step"].add_(1).item()
        mean = kept["mean"].lerp_(gradient, 1 - BETAS[0]) / (1 - BETAS[0] ** count)
        square = kept["square"].lerp_(gradient.square(), 1 - BETAS[1]) / (1 - BETAS[1] ** count)
        return mean / (square.sqrt() + TINY)


def orthogonal(matrix_AB: Tensor) -> Tensor:
    """About U V' of a matrix U S V', by an odd polynomial that drives singular values to one: (A, B), float32. Zeros stay zeros."""
    x = matrix_AB.float()
    x = x.T if len(x) > x.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if len(matrix_AB) > matrix_AB.shape[1] else x
