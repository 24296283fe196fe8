"""BYOL (Grill et al. 2020): a predictor finds, from one view, what a slow copy of the network says of the other; no negatives.

Shapes: B batch, D projection.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.loop import descend
from coterie.networks.heads import Projector
from coterie.networks.teacher import follow, teacher_of
from coterie.run import Run
from coterie.run.devices import unwrap


class Predictor(nn.Module):
    """(B, D) -> unit (B, D) through one batch-normalised hidden layer of 4 D (BYOL sec. 3.3: 4096 for 256)."""

    def __init__(self, n_features: int):
        super().__init__()
        hidden = 4 * n_features
        normalised = [nn.Linear(n_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*normalised, nn.Linear(hidden, n_features))

    def forward(self, z_BD: Tensor) -> Tensor:
        return F.normalize(self.layers(z_BD).float(), dim=1)


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = run.new("projector", Projector, unwrap(encoder).n_features, config.projection)
    predictor = run.new("predictor", Predictor, config.projection)
    student = nn.Sequential(encoder, projector)
    teacher = teacher_of(student)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        follow(teacher, student, config.momentum)
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            found = predictor(student(views))
            with torch.no_grad():
                wanted = teacher(views).roll(len(batch.index_B), 0)  # each view predicts the other
        return 2 - 2 * (found * wanted).sum(1).mean()

    descend(loss, images, config, run, {"encoder": encoder, "projector": projector, "predictor": predictor}, {"teacher": teacher})
