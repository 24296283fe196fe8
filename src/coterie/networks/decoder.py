"""From features back to pixels: what an autoencoder learns with. Shapes: B batch, D feature, S image size, C channels of maps."""

import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 3  # doublings, from a grid of S / 8
WIDTH = 128  # channels of the coarsest maps


class Decoder(nn.Module):
    """Features (B, D) -> pixels (B, 3, S, S), those of [0, 1] and what lies beyond: one linear layer to maps of S / 8, then doublings,
    each a 3 x 3 convolution with half the channels."""

    def __init__(self, n_features: int, image_size: int):
        super().__init__()
        self.size, self.side = image_size, -(-image_size // 2**STEPS)
        self.start = nn.Linear(n_features, WIDTH * self.side**2)
        layers: list[nn.Module] = []
        for step in range(STEPS):
            n_in, n_out = WIDTH >> step, WIDTH >> step + 1
            layers += [nn.BatchNorm2d(n_in), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(n_in, n_out, 3, 1, 1, bias=False)]
        self.maps = nn.Sequential(*layers, nn.BatchNorm2d(n_out), nn.ReLU(), nn.Conv2d(n_out, 3, 3, 1, 1))

    def forward(self, features_BD: Tensor) -> Tensor:
        pixels = self.maps(self.start(features_BD).unflatten(1, (WIDTH, self.side, self.side)))
        return F.interpolate(pixels, (self.size, self.size), mode="bilinear") if pixels.shape[-1] != self.size else pixels
