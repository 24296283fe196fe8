"""SeLa: Self-labelling via Simultaneous Clustering and Representation Learning (Asano, Rupprecht and Vedaldi, ICLR 2020), algorithm 1.

each epoch:
    1. label        in each head, all images: of the labellings that give each pseudo-cluster as many images the one that is likeliest
                    under what the head says (optimal transport, by Sinkhorn's turns)
    2. learn        the network and its heads predict an image's labels from a view of it
and then:
    3. partition    the clusters that were asked for, on the features' graph of neighbours (coterie.methods.final)

Labels and learning raise the same likelihood in turns; that shares are even is what keeps all images from one label.
docs/methods/sela.md has every difference from the published code. Shapes: N images, B batch, D feature, H heads, K pseudo-clusters.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from coterie import augment
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.diagnose import continuity
from coterie.learning.losses import cross_entropy
from coterie.learning.schedule import SCHEDULES, set_rate
from coterie.learning.transport import even_labels
from coterie.methods import pretext
from coterie.methods.bounds import Count, Positive, Whole
from coterie.methods.deepcluster import pseudo_clusters
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.loop import OPTIMIZERS
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.networks.heads import Heads
from coterie.run import Run
from coterie.run.devices import unwrap


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of SeLa. Batch, optimiser, rate and decay are the pretext's."""

    pretext_epochs: Whole = 0  # of a pretext task before; the paper has none
    epochs: Whole = 30  # 400 in the paper, with 80 labellings; many more learn the first labels by heart
    pseudo_clusters: Whole = 0  # of each head (the paper: 3,000 for ImageNet); 0: as DeepCluster
    n_heads: Count = 3  # labellings at once (the paper: 1 and 10)
    strength: Positive = 25.0  # lambda: how near the labels are to the likeliest (the published code)
    turns: Count = 100  # of Sinkhorn's, a labelling


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and SeLa is what trains an encoder; --method scan learns heads on features")
    encoder = pretext.train(images, config, run)
    if config.epochs:
        learn(encoder, images, config, run)
    return assign(encoder, images, config, run)


def learn(encoder: nn.Module, images: Images, config: Config, run: Run) -> None:
    """Steps 1 and 2: trains `encoder` in place."""
    n, device, k = len(images), run.devices.device, pinned(config, len(images)).pseudo_clusters
    heads = run.new("heads", Heads, unwrap(encoder).n_features, k, config.n_heads)
    optimizer = OPTIMIZERS[config.pretext_optimizer]([*encoder.parameters(), *heads.parameters()], weight_decay=config.pretext_decay)
    view = augment.pretext(config.augment, config.view_size)
    batch_size = run.devices.share(config.pretext_batch, n)
    steps = n // run.world // batch_size
    labels_HN = torch.full((config.n_heads, n), -1, device=device)

    for epoch in run.epochs("self-labels", config.epochs, 0.95, encoder=encoder, heads=heads, optimizer=optimizer, labels=labels_HN):
        before_N = labels_HN[0].clone()
        labels_HN.copy_(label(heads, features(encoder, images, run), config))
        encoder.train()
        rng, total = run.rng("views", epoch, run.rank), torch.zeros((), device=device)
        for step, batch in enumerate(run.batches(images, batch_size, run.rng("order", epoch), drop_last=True)):
            set_rate(optimizer, SCHEDULES[config.pretext_schedule](run.done(epoch + step / steps, config.epochs), config.pretext_rate))
            views_B3HW = view(batch.pixels_B3HW, rng)
            with run.autocast():
                z_BD = encoder(views_B3HW)
            loss = cross_entropy(heads(z_BD.float()), labels_HN[:, batch.index_B.to(device)]).mean()
            run.step(loss, optimizer)
            total += loss.detach()
        run.log(loss=total / (step + 1), **continuity(labels_HN[0], before_N))


def pinned(config: Config, n: int) -> Config:
    """With the number of pseudo-clusters that n_clusters and `n` images give, so that another n_clusters trains the same network."""
    return replace(config, pseudo_clusters=pseudo_clusters(config.pseudo_clusters, config.n_clusters, n))


@torch.no_grad()
def label(heads: nn.Module, z_ND: Tensor, config: Config) -> Tensor:
    """Step 1: the labels of all images in each head, (H, N)."""
    return torch.stack([even_labels(logits_NK.log_softmax(1), config.strength, config.turns) for logits_NK in heads(z_ND)])
