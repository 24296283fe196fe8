"""A ResNet-9 of width w: the small encoder that makes two CPU cores useful. Features: 8 w, the global mean of the last map."""

import torch.nn.functional as F
from torch import Tensor, nn


class ResNet9(nn.Module):
    """Images (B, C, S, S) -> features (B, 8 * width).

    stem_stride enlarges the first step for large images: 1 up to 40 px, 2 up to 96 px, 4 above (`stem_stride`), so that the
    body always sees maps of at most 40 px. About 0.31 M weights at width 16 and 1.2 M at width 32.
    """

    def __init__(self, width: int = 16, stem_stride: int = 1, channels: int = 3):
        super().__init__()
        w = width
        size = 3 if stem_stride == 1 else 2 * stem_stride + 1
        self.stem = nn.Sequential(
            nn.Conv2d(channels, w, size, stem_stride, size // 2, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(inplace=True),
            *_conv(w, 2 * w, pool=True),
        )
        self.first = nn.Sequential(*_conv(2 * w, 2 * w), *_conv(2 * w, 2 * w))
        self.middle = nn.Sequential(*_conv(2 * w, 4 * w, pool=True), *_conv(4 * w, 8 * w, pool=True))
        self.second = nn.Sequential(*_conv(8 * w, 8 * w), *_conv(8 * w, 8 * w))
        self.n_features = 8 * w

    def maps(self, x: Tensor) -> Tensor:
        """The last convolutional maps (B, D, h, w)."""
        x = self.stem(x)
        x = self.middle(x + self.first(x))
        return x + self.second(x)

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)


def stem_stride(image_size: int) -> int:
    return 1 if image_size <= 40 else 2 if image_size <= 96 else 4


def _conv(n_in: int, n_out: int, pool: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
    return [*layers, nn.MaxPool2d(2, ceil_mode=True)] if pool else layers
