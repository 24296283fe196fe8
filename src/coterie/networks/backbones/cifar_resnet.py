"""ResNet-18 and -34 with the CIFAR stem (3 x 3, stride 1, no pooling), which timm lacks. Features: 512, the global mean.

He et al. 2016, basic blocks; stem as in SimCLR sec. B.9. ResNet-18 has 11,168,832 weights, as the published SCAN backbone.
"""

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class Block(nn.Module):
    """Two 3 x 3 convolutions and a short cut."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        same = stride == 1 and n_in == n_out
        self.short = nn.Identity() if same else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x), inplace=True)


class CifarResNet(nn.Module):
    """Images (B, C, S, S) -> features (B, 512). `pool_stem` adds the 2 x 2 max pooling of the 96 px (STL-10) variant."""

    def __init__(self, depth: int = 18, pool_stem: bool = False, channels: int = 3):
        super().__init__()
        stem: list[nn.Module] = [nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        self.stem = nn.Sequential(*stem, *([nn.MaxPool2d(2, 2, 1)] if pool_stem else []))
        blocks, n_in = [], 64
        for stage, count in enumerate(DEPTHS[depth]):
            n_out = 64 << stage
            blocks += [Block(n_in if i == 0 else n_out, n_out, 2 if stage and i == 0 else 1) for i in range(count)]
            n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.n_features = 512
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """The last convolutional maps (B, 512, h, w)."""
        return self.blocks(self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
