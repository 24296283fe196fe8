"""Batch normalisation folded into the convolution before it: the same function in eval mode, with a pass over the maps less."""

import copy
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def folded(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, whose normalisations that stand right behind a convolution are part of it; what acts after them
    (timm keeps an activation inside its normalisations) stays. Weights are equal to rounding; the network itself is left alone."""
    quick = copy.deepcopy(network).eval().requires_grad_(False)
    for part in quick.modules():
        _fold_children(part)
    return quick


def _fold_children(part: nn.Module) -> None:
    # "Right behind" is what registration order says, which for a convolution and a normalisation of the same width is how they run:
    # in ResNets, EfficientNets and ConvNets of timm alike. Anything else between the two breaks the pair.
    children: list[tuple[str, Any]] = list(part.named_children())
    for (_, convolution), (name, norm) in zip(children, children[1:]):
        pair = isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if not pair or convolution.out_channels != norm.num_features or norm.running_mean is None:
            continue
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        setattr(part, name, nn.Sequential(*(getattr(norm, after) for after in ("drop", "act") if hasattr(norm, after))))
