"""PCP: Progressive Cluster Purification for Unsupervised Feature Learning (Zhang et al. 2020), algorithm 1.

    for each epoch t of T:
        PC     cluster the features into N_t = max(N_t0, N ^ (1 - t / T)) clusters: fewer and larger as the features mature
        CP_r   of each cluster keep the half nearest to its mean
        CP_s   let past clusterings vote on who belongs to the image in the middle: members go, others come
        learn  a kept image is drawn to its cluster, against a memory bank of all images; any other is drawn to itself alone

Warm-up mixes in the invariant-and-spreading loss (the paper's PCP*). Further rounds stay at N_t0 clusters. The final clusters are found
on the graph of neighbours (coterie.methods.final). docs/methods/pcp.md lists every difference from the published code.
Shapes: N images, B batch, D feature, K clusters.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD

from coterie import augment
from coterie.augment import Augment
from coterie.clustering.kmeans import Clustering, kmeans
from coterie.clustering.merging import merged
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.instance_losses import purified_cluster_loss, spreading_loss
from coterie.learning.pseudo_labels import Votes, anchors, near_centroid
from coterie.learning.schedule import progressive_clusters, set_rate, steps
from coterie.methods import pretext
from coterie.methods.bounds import Amount, Count, Number, Positive, Share, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.instance import bank_of, projector_of, remember
from coterie.networks.attention import attention_maps
from coterie.networks.bank import MemoryBank
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.run import Run

MANY = 1 / 20  # clusters per image, above which merging finds them in less time than k-means


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of PCP. Shares of a round stand for epochs of the published 200."""

    pretext_epochs: Whole = 0  # PCP trains the encoder itself, from random weights or given ones
    epochs: Whole = 60  # of a round (the published code: 200)
    rounds: Count = 1  # the paper's table IV: 5. The bank, the votes and the weights go on, the schedules start anew, clusters stay few
    batch: Count = 128  # images, as in the published code
    rate: Positive = 0.03  # SGD, momentum 0.9, a tenth from 0.6 of a round on and again from 0.8, as in the published code
    decay: Amount = 5e-4  # weight decay, as in the published code
    temperature: Positive = 0.1  # of both losses, as in the published code
    bank_start: Literal["features", "noise"] = "features"  # what the bank holds at first: the encoder's own; noise: the published code
    log_outside: bool = True  # -log of the summed probability of the cluster, as in the published code; false: the paper's sum of logs
    floor: Whole = 0  # N_t0, the least clusters (the published code: 1,000 of 50,000); 0: N / 50, and at least n_clusters
    progressive: bool = True  # PC; false: `floor` clusters from the start
    cluster_view: Literal["clean", "augmented"] = "clean"  # what is clustered; or augmented, as in the published code
    keep_share: Share = 0.5  # CP_r: of a cluster, 1 - gamma of the paper; 1: all
    vote: bool = True  # CP_s
    vote_from: Share = 0.5  # share of the first round; clusterings are remembered from here, and vote when the window is full
    vote_window: Count = 15  # clusterings that vote, at most a quarter of a round
    vote_decay: Share = 0.8  # alpha: what a clustering weighs less than the one after it
    vote_drop: Number = 0.0  # a kept image below this score goes (of at most 4.859 with 15 votes; with fewer it shrinks alike)
    vote_add: Number = 3.0  # another one with at least this comes
    vote_signed: bool = True  # a clustering that parts the two counts against, as in the published code; false: not at all, as in the paper
    warm_up: Share = 0.9  # share of a round in which the spreading loss is mixed in; 0: PCP without the star
    mix_from: Share = 0.2  # weight of PCP's own loss at the start of the warm-up, as in the published code
    mix_to: Share = 0.5  # and at its end


def pinned(config: Config, n: int) -> Config:
    """With the least clusters that n_clusters and `n` images give, so that another n_clusters trains the same network."""
    return replace(config, floor=min(n, config.floor or max(config.n_clusters, n // 50)))


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and pcp is what trains an encoder; --method kmeans or scan clusters features")
    n = len(images)
    floor = pinned(config, n).floor
    encoder = pretext.train(images, config, run)
    network = nn.Sequential(encoder, projector_of(encoder, config, run, "embedding"))
    optimizer = SGD(network.parameters(), config.rate, momentum=0.9, weight_decay=config.decay)
    bank, votes = first_bank(network, images, config, run), ballot(config)
    view = augment.pretext(config.augment, config.view_size)
    batch_size = run.devices.share(config.batch, n)
    total = config.epochs * config.rounds

    looked: dict[str, list[Tensor]] = {"maps": []}  # attention after each round
    state: dict[str, Any] = {"network": network, "optimizer": optimizer, "bank": bank, "votes": votes, "looked": looked}
    for epoch in run.epochs("purification", total, **state):
        at = run.done(epoch, total) * config.rounds  # in rounds; with a time budget by the clock
        turn = min(int(at + 1e-9), config.rounds - 1)
        t = round(at - turn, 9)
        rng, order = run.rng("purification", epoch, run.rank), run.rng("purification-order", epoch)

        # PC: clusters of the features as they are now
        z_ND = features(Seen(network, view, rng) if config.cluster_view == "augmented" else network, images, run)
        k = progressive_clusters(t, 1, n, floor) if config.progressive and turn == 0 else floor
        clusters = cluster(z_ND, k, run.rng("clusters", epoch), run)

        # CP_r, then CP_s
        kept_N = near_centroid(z_ND, clusters.labels_N, config.keep_share)
        labels_N = kept_N
        if config.vote and (turn or t >= config.vote_from):
            if not turn or t >= 0.1:  # a later round does not vote before its epoch 20 of 200
                labels_N = votes.revise(kept_N, clusters.labels_N, anchors(z_ND, clusters.labels_N))
            votes.remember(clusters.labels_N)
        labels_N = run.broadcast(labels_N)

        # learn
        network.train()
        set_rate(optimizer, steps(t, config.rate))
        own = config.mix_from + (config.mix_to - config.mix_from) * t / config.warm_up if t < config.warm_up else 1.0
        losses, count = torch.zeros(2, device=z_ND.device), 0
        for batch in run.batches(images, batch_size, order, drop_last=True):
            views = [view(batch.pixels_B3HW, rng) for _ in range(2 if own < 1 else 1)]
            with run.autocast():
                z_VD = network(torch.cat(views))
            z_BD = z_VD[: len(batch.index_B)]
            loss = purified_cluster_loss(z_BD, batch.index_B, bank.all_ND, labels_N, config.temperature, config.log_outside)
            spread = spreading_loss(z_VD, config.temperature) if own < 1 else loss.detach()
            run.step(own * loss + (1 - own) * spread, optimizer)
            remember(bank, batch, z_BD, config, run)
            bank.accept()
            losses, count = losses + torch.stack([loss, spread]).detach(), count + 1
        tell(losses / count, clusters, kept_N, labels_N, own, run)
        if config.rounds > 1 and (epoch + 1) % config.epochs == 0:
            maps = attention_maps(encoder, images, list(images.ids), clusters.labels_N, features(encoder, images, run))
            looked["maps"] += [] if maps is None else [maps]
    fitted = assign(encoder, images, config, run)
    return replace(fitted, maps_RNhw=torch.stack(looked["maps"])) if looked["maps"] else fitted


def cluster(z_ND: Tensor, k: int, generator: Generator, run: Run) -> Clustering:
    """k clusters, by merging where k is near the number of images."""
    if k > MANY * len(z_ND):
        return merged(z_ND, k, generator, run)
    return kmeans(z_ND, k, generator, run=run)


def first_bank(network: nn.Module, images: Images, config: Config, run: Run) -> MemoryBank:
    """The memory bank before the first epoch."""
    if config.bank_start == "features":
        return bank_of(network, images, run)
    noise_ND = torch.rand(len(images), config.projection, generator=run.rng("bank")) * 2 - 1
    return MemoryBank(noise_ND.to(run.devices.device))


def ballot(config: Config) -> Votes:
    """No votes yet. With a smaller window than the published 15 the bounds shrink as the highest score does."""
    window = max(1, min(config.vote_window, config.epochs // 4))
    highest, published = (sum(config.vote_decay**k for k in range(votes + 1)) for votes in (window, 15))
    shrink = min(1.0, highest / published)
    return Votes(window, config.vote_decay, config.vote_drop * shrink, config.vote_add * shrink, config.vote_signed)


class Seen(nn.Module):
    """A network that sees augmented views."""

    def __init__(self, network: nn.Module, view: Augment, rng: Generator):
        super().__init__()
        self.network, self.view, self.rng = network, view, rng

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.network(self.view(pixels_B3HW, self.rng))


def tell(losses: Tensor, clusters: Clustering, kept_N: Tensor, labels_N: Tensor, own: float, run: Run) -> None:
    """History and trace of an epoch. Shares are of all images."""
    grouped_N = clusters.sizes_K[clusters.labels_N] > 1
    run.trace(torch.stack([clusters.labels_N, labels_N >= 0]).cpu(), "purified")
    run.log(
        loss=own * losses[0] + (1 - own) * losses[1],
        purified=losses[0],
        clusters=len(clusters.sizes_K),
        grouped=grouped_N.double().mean(),
        reliable=(kept_N >= 0).double().mean(),
        removed=((kept_N >= 0) & (labels_N < 0)).double().mean(),
        added=((kept_N < 0) & (labels_N >= 0)).double().mean(),
        kept=(labels_N >= 0).double().mean(),
    )
