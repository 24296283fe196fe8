"""Invariant and spreading features (Ye et al. 2019): two views of an image attract each other, the other views of the batch repel.

IS in PCP's tables, and PCP's warm-up. Unlike SimCLR, each of the others is pushed away by a term of its own. Shapes: B batch, D projection.
"""

import torch
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.instance_losses import spreading_loss
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.instance import projector_of
from coterie.methods.pretext.loop import descend
from coterie.run import Run


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = projector_of(encoder, config, run)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z_VD = projector(encoder(views))
        return spreading_loss(z_VD, config.pretext_temperature)

    descend(loss, images, config, run, {"encoder": encoder, "projector": projector})
