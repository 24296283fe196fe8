"""An autoencoder: the encoder's features must be enough to draw the image again (Hinton and Salakhutdinov 2006).

    clean        the image itself is seen                                 (pretext_noise = 0)
    denoising    a share of its pixels is hidden, all of it is drawn      (Vincent et al. 2010: 0.25 to 0.5)

All layers are learned at once, where the papers stack them one by one: batch norm does for that. Shapes: B batch, D feature, S size.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from coterie.images import Batch, Images
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.decoder import Decoder
from coterie.run import Run
from coterie.run.devices import unwrap


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    decoder = run.new("decoder", Decoder, unwrap(encoder).n_features, images.size[0])
    descend(drawing(encoder, decoder, config.pretext_noise, run), images, config, run, {"encoder": encoder, "decoder": decoder})


def drawing(encoder: nn.Module, decoder: nn.Module, noise: float, run: Run) -> Callable[[Batch, Generator], Tensor]:
    """The loss of a batch: mean squared difference of what is drawn from its features."""

    def loss(batch: Batch, rng: Generator) -> Tensor:
        pixels_B3SS = batch.pixels_B3HW
        with run.autocast():
            drawn = decoder(encoder(hidden(pixels_B3SS, noise, rng)))
        return F.mse_loss(drawn.float(), pixels_B3SS)

    return loss


def hidden(pixels_B3SS: Tensor, share: float, rng: Generator) -> Tensor:
    """The images with this share of their pixels black, drawn anew for each."""
    if not share:
        return pixels_B3SS
    b, _, *size = pixels_B3SS.shape
    return pixels_B3SS * (torch.rand(b, 1, *size, generator=rng) >= share).to(pixels_B3SS)
