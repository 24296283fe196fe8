"""Anchor neighbourhood discovery (Huang et al. 2019): images that look alike for sure are one class, in rounds that dare more and more.

AND in PCP's tables. Repeat for rounds r = 0 .. R:
    1. discovery    the r / R of the images with the lowest entropy over all images are anchors; each gets its nearest neighbours
    2. learning     an anchor is drawn to its neighbours, any other image only to itself, against a memory bank of all images

Round 0 is instance discrimination. The learning rate starts anew in each round, the bank goes on. Shapes: N images, B batch, D projection,
K neighbours.
"""

from torch import Generator, Tensor, nn

from coterie import augment
from coterie.images import Batch, Images
from coterie.learning.instance_losses import neighbourhood_loss
from coterie.learning.pseudo_labels import surest_neighbourhoods
from coterie.methods.pretext import PretextConfig
from coterie.methods.pretext.instance import bank_of, projector_of, remember
from coterie.methods.pretext.loop import SHARE, descend
from coterie.run import Run


def train(encoder: nn.Module, images: Images, config: PretextConfig, run: Run) -> None:
    """Trains `encoder` in place."""
    projector = projector_of(encoder, config, run)
    network = nn.Sequential(encoder, projector)
    bank = bank_of(network, images, run)
    view, temperature = augment.pretext(config.augment, config.view_size), config.pretext_temperature
    rounds = min(config.anchor_rounds, config.pretext_epochs)
    k = min(config.anchor_neighbors, len(images) - 1)

    for turn in range(rounds):
        n_anchors = len(images) * turn // max(1, rounds - 1)
        neighbours_NK = surest_neighbourhoods(bank.all_ND, n_anchors, k, temperature)

        def loss(batch: Batch, rng: Generator, neighbours_NK: Tensor = neighbours_NK) -> Tensor:
            with run.autocast():
                z_BD = network(view(batch.pixels_B3HW, rng))
            remember(bank, batch, z_BD, config, run)
            return neighbourhood_loss(z_BD, batch.index_B, bank.all_ND, neighbours_NK, temperature)

        stage = "pretext" if turn == 0 else f"pretext, round {turn + 1}"
        epochs = config.pretext_epochs * (turn + 1) // rounds - config.pretext_epochs * turn // rounds
        share = SHARE / (rounds - SHARE * turn)  # of the time that is left then; the rounds get as much each
        descend(loss, images, config, run, {"encoder": encoder, "projector": projector}, {"bank": bank}, stage, epochs, share, bank.accept)
