"""IIC: Invariant Information Clustering (Ji, Henriques and Vedaldi, ICCV 2019), algorithm of sec. 3.

    1. pairs        two views of each image, through one encoder and heads that end in clusters
    2. information  the joint distribution of a pair's clusters over the batch; raise its mutual information: a pair agrees, and the
                    clusters are even, so that nothing collapses. So for H heads with the clusters asked for, and H with more of them,
                    which look at what else is there and are thrown away
    3. choice       the head whose clusters tell most of each other over all images and one view of each

No label is looked at. docs/methods/iic.md has every difference from the published code. Shapes: N images, B batch, D feature, H heads,
K clusters, M more of them.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from coterie import augment
from coterie.errors import InputError
from coterie.images import Batch, Images
from coterie.learning.losses import information_loss, softmax
from coterie.methods import pretext
from coterie.methods.bounds import Amount, Count, Whole
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
    """Settings of IIC. Batch, optimiser, rate and decay are the pretext's."""

    pretext_epochs: Whole = 0  # of a pretext task before; the paper has none
    epochs: Whole = 120  # 2,000 in the paper
    n_heads: Count = 5  # of either kind (the paper)
    more_clusters: Count = 5  # times as many clusters in the heads that are thrown away (the paper: 5 to 7)
    evenness: Amount = 1.0  # weight of the shares' entropy: 1 is the mutual information (the published code's lambda)
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and IIC is what trains an encoder; --method scan learns heads on features")
    if run.world > 1:
        raise InputError("IIC asks what the clusters of a whole batch tell of each other, which ranks do not share: fit it in one process")
    encoder = pretext.train(images, config, run)
    heads = inform(encoder, images, config, run)
    if config.final != "heads":
        return assign(encoder, images, config, run)
    z_ND = run.once("features", features, encoder, images, run)
    return Fitted.from_parts(encoder, choose(heads, encoder, z_ND, images, config, run), z_ND)


def inform(encoder: nn.Module, images: Images, config: Config, run: Run) -> Heads:
    """Steps 1 and 2: trains `encoder` in place; the heads with the clusters asked for."""
    width, k = unwrap(encoder).n_features, config.n_clusters
    heads: Heads = run.new("heads", Heads, width, k, config.n_heads)  # type: ignore[assignment]
    more = run.new("more-heads", Heads, width, k * config.more_clusters, config.n_heads)
    view = augment.pretext(config.augment, config.view_size)

    def loss(batch: Batch, rng: Generator) -> Tensor:
        pairs = torch.cat([view(batch.pixels_B3HW, rng), view(batch.pixels_B3HW, rng)])
        with run.autocast():
            z_2BD = encoder(pairs).float()
        return sum((information(head, z_2BD, config.evenness).mean() for head in (heads, more)), torch.zeros((), device=z_2BD.device))

    if config.epochs:
        descend(loss, images, config, run, {"encoder": encoder, "heads": heads, "more": more}, stage="information", epochs=config.epochs)
    return unwrap(heads)  # type: ignore[return-value]


def choose(heads: Heads, encoder: nn.Module, z_ND: Tensor, images: Images, config: Config, run: Run) -> nn.Module:
    """Step 3: the head of least loss over all images, z_ND, and one view of each."""
    other_ND = run.once("view", _view, encoder, images, config.augment, run)
    with torch.no_grad():
        score_H = information(heads, torch.cat([z_ND, other_ND]), config.evenness)
    run.note(f"head {int(score_H.argmin())} of {config.n_heads} is chosen: losses {', '.join(f'{score:.3f}' for score in score_H)}")
    return heads.select(int(score_H.argmin()))


def information(heads: nn.Module, z_2BD: Tensor, evenness: float) -> Tensor:
    """The loss of each head, (H,); z_2BD: first views, then the others in the same order."""
    one_HBK, other_HBK = softmax(heads(z_2BD)).chunk(2, 1)
    return information_loss(one_HBK, other_HBK, evenness)


def _view(encoder: nn.Module, images: Images, name: str, run: Run) -> Tensor:
    """Features of one view of each image, (N, D)."""
    rng, view = run.rng("pairs"), augment.pretext(name)
    return features(encoder, images, run, view=lambda pixels: view(pixels, rng))
