"""PICA: Partition Confidence Maximisation (Huang, Gong and Zhu, CVPR 2020), algorithm 1.

    1. views        two of each image, through one encoder and a head that ends in clusters
    2. confidence   the column of a cluster, whom it has of the batch and how surely, is to be its own column of the other view, and unlike
                    the columns of all other clusters: so images are given whole to one cluster
    3. evenness     the clusters' shares are kept even, so that none has all
    4. repeat       both at once, from the first epoch on; each image goes to its likeliest cluster

docs/methods/pica.md has every difference from the paper. Shapes: N images, B batch, D feature, K clusters.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from coterie import augment
from coterie.errors import InputError
from coterie.images import Batch, Images
from coterie.learning.losses import partition_uncertainty, softmax
from coterie.methods import pretext
from coterie.methods.bounds import Amount, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.loop import descend
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.networks.heads import Heads
from coterie.run import Run
from coterie.run.devices import unwrap


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of PICA. Batch, optimiser, rate and decay are the pretext's."""

    pretext_epochs: Whole = 0  # of a pretext task before; the paper has none
    epochs: Whole = 120  # 200 in the paper
    evenness: Amount = 2.0  # weight of how far the shares are from even (the paper's lambda)
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and PICA is what trains an encoder; --method scan learns heads on features")
    encoder = pretext.train(images, config, run)
    heads = run.new("heads", Heads, unwrap(encoder).n_features, config.n_clusters)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z_2BD = encoder(views)
        one_BK, other_BK = softmax(heads(z_2BD.float())[0]).chunk(2)
        return partition_uncertainty(one_BK, other_BK, config.evenness)

    if config.epochs:
        descend(loss, images, config, run, {"encoder": encoder, "heads": heads}, stage="confidence", epochs=config.epochs)
    if config.final != "heads":
        return assign(encoder, images, config, run)
    return Fitted.from_parts(encoder, unwrap(heads), run.once("features", features, encoder, images, run))
