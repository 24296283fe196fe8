"""AlexNet with batch normalisation, as DeepCluster and what it is compared with use it; timm lacks it. Features: 4,096.

Krizhevsky et al. 2012 without groups and local response; the classifier's first two layers belong to it. 58,284,096 weights with three
colours; on 32 px pictures nothing is left of the maps, they are enlarged to 64 px at least.
"""

import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 67  # px, below which the last pooling has nothing to pool
GRID = 6  # places on a side that the classifier sees, those of a picture of 224 px


def alexnet_bn(in_channels: int = 3) -> "AlexNet":
    """Images (B, in_channels, S, S) -> features (B, 4096)."""
    return AlexNet(in_channels)


class AlexNet(nn.Module):
    """Five convolutions (DeepCluster's widths 96, 256, 384, 384, 256), two fully connected layers with dropout."""

    def __init__(self, in_channels: int = 3):
        super().__init__()
        self.convolutions = nn.Sequential(
            *_conv(in_channels, 96, 11, 4, 2),
            nn.MaxPool2d(3, 2),
            *_conv(96, 256, 5, 1, 2),
            nn.MaxPool2d(3, 2),
            *_conv(256, 384, 3, 1, 1),
            *_conv(384, 384, 3, 1, 1),
            *_conv(384, 256, 3, 1, 1),
            nn.MaxPool2d(3, 2),
        )
        layers = [nn.Dropout(0.5), nn.Linear(256 * GRID**2, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4096, 4096)]
        self.classifier = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.n_features = 4096
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) < SMALLEST:
            x = F.interpolate(x, size=(SMALLEST, SMALLEST), mode="bilinear", align_corners=False)
        maps = self.convolutions(x)
        return self.classifier(F.adaptive_avg_pool2d(maps, GRID).flatten(1))


def _conv(n_in: int, n_out: int, size: int, stride: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, size, stride, padding), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
