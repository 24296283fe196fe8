"""What network learns most in the same time on a CPU: `python -m benchmarks.networks cifar10 50000 [--seconds 150] [--only NAMES]`.

Each takes the place of `small` in the preset of the set and learns by SimCLR for so many seconds; judged as in benchmarks.shorter. The
ResNet-9 is varied in width, in where it pools first, in depth, and in the kind of convolution. A row a network and seed in networks.csv.
"""

import argparse
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import nn

from benchmarks import shorter
from benchmarks.data import load_packed
from benchmarks.record import done, record
from coterie.methods import pretext
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.resnet9 import ResNet9, stem_stride
from coterie.networks.encoder import Encoder, EncoderSpec, build
from coterie.run.devices import Devices


def small(width: int, earlier: int = 1) -> Callable[[int], ResNet9]:
    return lambda size: ResNet9(width, earlier * stem_stride(size))


def depthwise(size: int) -> ResNet9:
    """Each 3 x 3 convolution but the stem's as one a channel and a 1 x 1; twice the width."""
    network = ResNet9(32, stem_stride(size))
    for row in (m for m in list(network.modules()) if isinstance(m, nn.Sequential)):
        for i, one in enumerate(row):
            if isinstance(one, nn.Conv2d) and one.in_channels > 3:
                n = one.in_channels
                row[i] = nn.Sequential(nn.Conv2d(n, n, 3, 1, 1, groups=n, bias=False), nn.Conv2d(n, one.out_channels, 1, bias=False))
    return network


def deeper(size: int) -> ResNet9:
    """A second residual pair of convolutions where there is one."""
    network = ResNet9(16, stem_stride(size))
    for name in ("first", "second"):
        n = getattr(network, name)[0].in_channels
        pairs = (nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n), nn.ReLU(inplace=True))
        getattr(network, name).extend(list(pairs))
    return network


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "small": small(16),
    "small, width 8": small(8),
    "small, width 24": small(24),
    "small, width 32": small(32),
    "small, pools earlier": small(24, earlier=2),
    "small, depthwise": depthwise,
    "small, deeper": deeper,
    "resnet18-cifar": lambda size: CifarResNet(18, pool_stem=size > 40),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=shorter.PRESETS)
    parser.add_argument("images", type=int)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    asked = parser.parse_args()
    pixels, labels, _ = load_packed(asked.set)
    pixels, labels, devices = pixels[: asked.images], labels[: min(shorter.JUDGED, asked.images)], Devices()
    config = shorter.configured(asked.set, asked.images, "default")
    for seed in range(asked.first, asked.first + asked.seeds):
        for name in asked.only:
            key = {"set": asked.set, "images": asked.images, "size": config.image_size, "network": name, "budget": asked.seconds}
            key |= {"threads": torch.get_num_threads(), "seed": seed}
            if not done("networks", key):
                with patch.object(pretext, "build", lambda spec, name=name: with_backbone(spec, NETWORKS[name](spec.image_size))):
                    figures = shorter.measured(pixels, labels, config, asked.seconds, seed, devices)
                weights = sum(p.numel() for p in NETWORKS[name](config.image_size).parameters())
                record("networks", key | {"weights": weights} | figures)


def with_backbone(spec: EncoderSpec, backbone: nn.Module) -> Encoder:
    encoder = build(spec)
    encoder.backbone, encoder.n_features = backbone, backbone.n_features
    return encoder


if __name__ == "__main__":
    main()
