"""SimCLR (Chen et al. 2020): two augmented views of an image attract each other, all other images repel.

Differences from SCAN's use of it: both views are anchors, AdamW with a one-cycle schedule (fewer epochs reach the same loss
than SGD with cosine), temperature 0.2, projector of the feature's width. Shapes: B batch, V = 2 views, D projection.
"""

import torch
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.losses import nt_xent
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.heads import Projector
from coterie.run import Run
from coterie.run.devices import unwrap


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = run.new("projector", Projector, unwrap(encoder).n_features, config.projection)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z = projector(encoder(views))
        return nt_xent(torch.stack(z.chunk(2), 1), config.pretext_temperature, symmetric=config.pretext_anchors == "both")

    descend(loss, images, config, run, {"encoder": encoder, "projector": projector})
