"""Rotation prediction (Gidaris et al. 2018): by which of 0, 90, 180 and 270 degrees was the image turned?

Each image of a batch is seen at all four turns. Shapes: B batch.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.run import Run
from coterie.run.devices import unwrap


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    classifier = run.new("rotation", nn.Linear, unwrap(encoder).n_features, 4)
    view = augment.weak(config.augment)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        x = view(batch.pixels_B3HW, rng)
        turned = torch.cat([x.rot90(turns, (2, 3)) for turns in range(4)])
        with run.autocast():
            logits = classifier(encoder(turned))
        return F.cross_entropy(logits.float(), torch.arange(4, device=logits.device).repeat_interleave(len(x)))

    descend(loss, images, config, run, {"encoder": encoder, "classifier": classifier})
