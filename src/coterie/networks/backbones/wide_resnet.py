"""Wide residual networks as FixMatch trains them (its sec. 4 and appendix), which SPICE's joint training takes over.

Zagoruyko and Komodakis 2016, blocks that normalise first; leaky ReLU of slope 0.1, and running statistics that keep 0.999 of themselves at
a step: in eval mode a network is of use only after some thousand steps. Weights without a classifier: 1,466,320 (WRN-28-2),
23,349,712 (WRN-28-8), 5,926,864 (WRN-37-2).
"""

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1  # of the leaky ReLU below zero (the published FixMatch code)
MOMENTUM = 0.001  # of the batch norm: the share of a batch in the running statistics (the published FixMatch code)
BLOCKS = 4  # of a group: (28 - 4) / 6 in WRN-28, and as many in WRN-37


def _norm(n: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n, momentum=MOMENTUM)


class Block(nn.Module):
    """Norm, leaky ReLU, 3 x 3 convolution, twice, and a short cut. `normalised`: the short cut, too, starts after the first norm."""

    def __init__(self, n_in: int, n_out: int, stride: int, normalised: bool):
        super().__init__()
        self.normalised = normalised
        self.norm = _norm(n_in)
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            _norm(n_out),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
        )
        same = stride == 1 and n_in == n_out
        self.short = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(x), SLOPE)
        return self.short(y if self.normalised else x) + self.body(y)


class WideResNet(nn.Module):
    """Images (B, C, S, S) -> features (B, D). Groups of four blocks, one for each of `strides`, of 16, 32, 64, ... times `width` channels.

    WRN-28-2 and WRN-28-8: three groups, of strides 1, 2, 2 (D = 128 and 512); WRN-37-2, for 96 px: four of stride 2 (D = 256).
    """

    def __init__(self, width: int = 2, strides: tuple[int, ...] = (1, 2, 2), channels: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        blocks, n_in = [], 16
        for group, stride in enumerate(strides):
            n_out = (16 << group) * width
            blocks.append(Block(n_in, n_out, stride, normalised=group == 0))  # the stem has no norm of its own
            blocks += [Block(n_out, n_out, 1, normalised=False) for _ in range(BLOCKS - 1)]
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.norm = _norm(n_in)
        self.n_features = n_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """The last convolutional maps (B, D, h, w), after the last norm."""
        return F.leaky_relu(self.norm(self.blocks(self.stem(x))), SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
