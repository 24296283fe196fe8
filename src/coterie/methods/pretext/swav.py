"""SwAV (Caron et al. 2020): a view predicts which prototypes the other view of its image belongs to, and prototypes share a batch evenly.

    1. scores     unit features of two views against unit prototypes
    2. codes      of each view of a batch: shares of the prototypes, near the scores, each prototype as large as any other (Sinkhorn)
    3. swap       each view's scores predict the other one's codes

Two views of one size (the paper adds six small ones), no queue: on several ranks each shares out its own part of the batch.
Shapes: B batch, D projection, P prototypes.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.transport import even_shares
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.heads import Projector
from coterie.run import Run
from coterie.run.devices import unwrap

SHARPNESS, TURNS = 0.05, 3  # of the codes, and turns of Sinkhorn (the paper)


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = run.new("projector", Projector, unwrap(encoder).n_features, config.projection)
    prototypes = run.new("prototypes", nn.Linear, config.projection, config.prototypes, bias=False)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        with torch.no_grad():
            weight: Tensor = unwrap(prototypes).weight  # type: ignore[assignment]
            weight.copy_(F.normalize(weight, dim=1))
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z_2BD = projector(encoder(views))
        one_BP, other_BP = prototypes(z_2BD.float()).chunk(2)
        return (swapped(one_BP, other_BP, config.pretext_temperature) + swapped(other_BP, one_BP, config.pretext_temperature)) / 2

    descend(loss, images, config, run, {"encoder": encoder, "projector": projector, "prototypes": prototypes})


def swapped(scores_BP: Tensor, of_BP: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the codes of one view (`of_BP`, its scores) by the scores of the other."""
    codes_BP = even_shares(of_BP.detach() / SHARPNESS, TURNS)
    return -(codes_BP * (scores_BP / temperature).log_softmax(1)).sum(1).mean()
