"""CC: Contrastive Clustering (Li, Hu, Liu, Peng, Zhou and Peng, AAAI 2021), algorithm 1.

    1. views      two of each image, through one encoder
    2. rows       an instance head: each view finds the other view of its image among those of the batch
    3. columns    a cluster head: each cluster's probabilities over the batch find those of the other views among all clusters;
                  the clusters' shares are kept even
    4. repeat     both losses at once, from the first epoch on; each image goes to its likeliest cluster

docs/methods/cc.md has every difference from the published code. Shapes: N images, B batch, V = 2 views, D feature, K clusters.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from coterie import augment
from coterie.errors import InputError
from coterie.images import Batch, Images
from coterie.learning.losses import cluster_contrast, nt_xent, softmax
from coterie.methods import pretext
from coterie.methods.bounds import Positive, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.loop import descend
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.networks.heads import MlpHeads, Projector
from coterie.run import Run
from coterie.run.devices import unwrap


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of CC. Batch, optimiser, rate and decay are the pretext's."""

    pretext_epochs: Whole = 0  # of a pretext task before; the paper has none
    epochs: Whole = 120  # 1,000 in the paper
    temperature: Positive = 0.5  # of instances (the paper)
    cluster_temperature: Positive = 1.0  # of clusters (the paper)
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and CC is what trains an encoder; --method scan learns heads on features")
    encoder = pretext.train(images, config, run)
    width = unwrap(encoder).n_features
    projector = run.new("projector", Projector, width, config.projection)
    heads = run.new("heads", MlpHeads, width, config.n_clusters)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        views = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z_2BD = encoder(views)
            rows_2BD = projector(z_2BD)
        one_BK, other_BK = softmax(heads(z_2BD.float())[0]).chunk(2)
        instances = nt_xent(torch.stack(rows_2BD.chunk(2), 1), config.temperature, symmetric=True)
        return instances + cluster_contrast(one_BK, other_BK, config.cluster_temperature)

    if config.epochs:
        trained = {"encoder": encoder, "projector": projector, "heads": heads}
        descend(loss, images, config, run, trained, stage="contrast", epochs=config.epochs)
    if config.final != "heads":
        return assign(encoder, images, config, run)
    return Fitted.from_parts(encoder, unwrap(heads), run.once("features", features, encoder, images, run))
