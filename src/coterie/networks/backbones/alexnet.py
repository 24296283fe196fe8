"""AlexNet and VGG-16 with batch norm, as DeepCluster trains them: convolutions, then two fully connected layers of 4,096.

AlexNet without the two groups and with batch norm in place of local response normalisation; VGG-16 as Simonyan and Zisserman 2015, with
batch norm. Weights at 224 px behind the Sobel filters, without a classifier: 58,272,480 and 134,268,416.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from coterie.errors import InputError

WIDTH = 4096
ALEXNET = ((96, 11, 4, 2), (256, 5, 1, 2), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1))  # channels, kernel, stride, padding
ALEXNET_POOLS = (0, 1, 4)  # convolutions that a 3 x 3 max pooling of stride 2 follows
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # 3 x 3 each; 2 x 2 max pooling after a group


class Classic(nn.Module):
    """Images (B, C, S, S) -> features (B, 4096), those before the last ReLU: DeepCluster clusters what its classifier sees through one.

    The fully connected layers fit the maps of `image_size`; maps of another size (smaller views) are averaged, or repeated, to it.
    """

    ends_before_relu = True

    def __init__(self, convolutions: list[nn.Module], n_maps: int, side: int, dropped: tuple[float, float]):
        super().__init__()
        self.side, self.n_features = side, WIDTH
        self.convolutions = nn.Sequential(*convolutions)
        layers: list[nn.Module] = []
        for n_in, share in zip((n_maps * side**2, WIDTH), dropped):
            layers += [nn.ReLU(inplace=True)] if layers else []
            layers += [nn.Dropout(share)] if share else []
            layers += [nn.Linear(n_in, WIDTH)]
        self.connected = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # N(0, 2 / (k k out)), as the published code
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def maps(self, x: Tensor) -> Tensor:
        """The last convolutional maps (B, M, h, w)."""
        return self.convolutions(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.connected(F.adaptive_avg_pool2d(self.maps(x), self.side).flatten(1))


def alexnet(image_size: int, channels: int = 3) -> Classic:
    """InputError below 63 px, where the last pooling would have nothing left."""
    layers: list[nn.Module] = []
    n_in, side = channels, image_size
    for i, (n_out, kernel, stride, padding) in enumerate(ALEXNET):
        layers += _block(nn.Conv2d(n_in, n_out, kernel, stride, padding))
        n_in, side = n_out, (side + 2 * padding - kernel) // stride + 1
        if i in ALEXNET_POOLS:
            layers.append(nn.MaxPool2d(3, 2))
            side = (side - 3) // 2 + 1
    if image_size < 63:
        raise InputError(f"alexnet needs images of at least 63 px, not {image_size}; it was made for --set image_size=224")
    return Classic(layers, n_in, side, (0.5, 0.5))


def vgg16(image_size: int, channels: int = 3) -> Classic:
    """InputError below 32 px, where the last pooling would have nothing left."""
    if image_size < 32:
        raise InputError(f"vgg16 needs images of at least 32 px, not {image_size}; it was made for --set image_size=224")
    layers: list[nn.Module] = []
    n_in = channels
    for group in VGG16:
        for n_out in group:
            layers += _block(nn.Conv2d(n_in, n_out, 3, 1, 1))
            n_in = n_out
        layers.append(nn.MaxPool2d(2, 2))
    return Classic(layers, n_in, image_size // 32, (0.0, 0.5))


def _block(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)]
