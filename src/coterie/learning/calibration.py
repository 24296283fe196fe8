"""Probabilities that keep their word: of the pictures called 90 % sure nine in ten are right, as far as can be known without labels.

One temperature divides all logits, so that a picture's clusters keep their order. It is chosen so that the mean confidence is how often
an independent clustering of the same features agrees (`learning.witness`). Shapes: N images, K clusters.
"""

import math

import torch
from torch import Tensor

COLDEST, HOTTEST = 0.01, 100.0
HALVINGS = 40


def temperature(logits_NK: Tensor, target: float) -> float:
    """The T, 0.01 to 100, with which the mean over the rows of the largest softmax(logits / T) is `target`; logits may be log p as well.

    The nearest end where no T does it, and 1.0 where all T are alike: one cluster, no rows, rows without a preference.
    """
    logits_NK = logits_NK.detach().cpu().double()  # not every device has float64
    if not len(logits_NK) or float((logits_NK.amax(1) - logits_NK.amin(1)).max()) < 1e-9:
        return 1.0
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float(confidence(logits_NK, math.exp(middle)).mean()) > target:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def confidence(logits_NK: Tensor, temperature: float = 1.0) -> Tensor:
    """The largest probability of each row, (N,)."""
    return (logits_NK / temperature).softmax(1).amax(1)


def least_sure(p_NK: Tensor, agrees_N: Tensor, share: float) -> Tensor:
    """bool (N,): the `share` of all rows, rounded, that are least to be trusted: first those that the witness puts elsewhere, among them
    and then among the others the least confident. Equals: those that come first."""
    count = min(len(p_NK), math.floor(share * len(p_NK) + 0.5))
    order = (p_NK.amax(1).double() + agrees_N.to(p_NK.device).double()).argsort(stable=True)
    unsure_N = torch.zeros(len(p_NK), dtype=torch.bool, device=p_NK.device)
    unsure_N[order[:count]] = True
    return unsure_N
