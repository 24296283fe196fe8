"""DeepCluster (Caron, Bojanowski, Joulin, Douze, ECCV 2018), and its second version (Caron et al., NeurIPS 2020, the baseline of SwAV).

v1, each epoch:
    1. cluster      features of all images, clean and in eval mode; PCA-whitening; unit rows; k-means into many pseudo-clusters
    2. draw         images, each pseudo-cluster as often as any other
    3. learn        the network and a classifier made anew predict an image's pseudo-cluster from crops and flips of it
v2, each epoch:
    1. cluster      the features that the views of the epoch before left in a bank: spherical k-means, once for each head
    2. learn        the network predicts an image's pseudo-cluster in each head, whose fixed prototypes are the centroids, from several
                    views; their features go into the bank
and then:
    4. partition    the clusters that were asked for, on the features' graph of neighbours (coterie.methods.final) or by k-means

docs/methods/deepcluster.md lists every difference from the published code. Shapes: N images, B batch, D feature, d whitened feature,
H heads, K clusters, V views.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD

from coterie import augment
from coterie.augment import Augment
from coterie.clustering.kmeans import kmeans, pca_whiten
from coterie.clustering.power_iteration import power_iteration_clustering
from coterie.clustering.sampling import uniform_draw
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.diagnose import continuity
from coterie.learning.losses import cross_entropy, prototype_loss
from coterie.learning.schedule import SCHEDULES, Schedule, set_rate
from coterie.methods import pretext
from coterie.methods.baselines import partition
from coterie.methods.bounds import Amount, Count, Positive, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext.loop import OPTIMIZERS
from coterie.networks.encoder import PRECOMPUTED, SOBEL, features
from coterie.networks.heads import Classifier, Projector, UnitCentroids
from coterie.run import Run
from coterie.run.devices import unwrap

STAGE, SHARE = "deep clustering", 0.95  # of a time budget; the partition gets the rest
ITERATIONS = 100  # of the partition's k-means, at most
WHOLE_VIEWS = 2  # of an image and step in v2, whose features go into the bank; heads cluster them in turns
LEAST_IMAGES = 20  # of a pseudo-cluster on average, when nobody says how many there are to be
MOST_SIZES = 1000  # pseudo-clusters whose sizes the history lists one by one
Variant = Literal["v1", "v2"]
Backend = Literal["k-means", "power-iteration"]
Views = Literal["", "crops", "pretext"]
Optimizer = Literal["", "sgd", "adamw"]
LEFT_OPEN: dict[str, tuple[Views, Optimizer, float]] = {  # views, optimiser, rate
    "v1": ("crops", "sgd", 0.05),
    "v2": ("pretext", "adamw", 2e-3),
}


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of DeepCluster. Numbers without a source were found on digits (benchmarks/results)."""

    pretext_epochs: Whole = 0  # DeepCluster starts from random or given weights; any pretext may go before it
    variant: Variant = "v1"  # or v2
    pseudo_clusters: Whole = 0  # 0: 10 times n_clusters, as the paper for ImageNet, but at most N / 20 and at least n_clusters
    clustering: Backend = "k-means"  # or power-iteration (v1 only), which finds the number of pseudo-clusters itself
    components: Count = 256  # of the PCA-whitening, v1 (the paper, sec. 3.3), at most the features' dimensions and N - 1
    cluster_iterations: Count = 20  # of k-means, an epoch (the published code: 20 in v1, 10 in v2)
    epochs: Whole = 40  # sec. 3.3: 500 for ImageNet; 0: nothing is trained (the rows "random" of the paper)
    batch: Count = 256  # sec. 3.3
    draws: Positive = 1.0  # images an epoch of v1 draws, for each image there is (the published code: 1)
    even: bool = True  # v1: each pseudo-cluster is drawn as often (sec. 3.3); else each image is seen once
    views: Views = ""  # crops (crops and flips alone) or pretext (with its colours); empty: crops in v1, pretext in v2, as published
    optimizer: Optimizer = ""  # sgd (momentum 0.9) or adamw; empty: sgd in v1 (sec. 3.3), adamw in v2 (published: SGD with LARC)
    rate: Amount = 0.0  # 0: 0.05 in v1 (sec. 3.3), 0.002 in v2; give one with an optimizer of your own
    schedule: Schedule = "constant"  # sec. 3.3; or cosine, steps, or one-cycle (a tenth of warm-up, then a cosine: v2)
    decay: Amount = 1e-5  # weight decay (sec. 3.3; 1e-6 in v2)
    classifier_rate: Positive = 0.05  # of v1's classifier, SGD without momentum, constant (the published code)
    n_heads: Count = 3  # v2: clusterings at once (the published code)
    small_views: Whole = 0  # v2: further views that show details, at half the size (the published code: 4)
    temperature: Positive = 0.1  # v2, of the cosines with the prototypes (the published code)
    restarts: Count = 20  # of k-means into the clusters that were asked for; the lowest inertia is kept


def fit(images: Images, config: Config, run: Run) -> Fitted:
    check(images, config)
    config = settled(config)
    encoder = pretext.train(images, config, run)
    learn = learn_classes if config.variant == "v1" else learn_prototypes
    if config.epochs:
        learn(encoder, images, config, run)
    return (partitioned if config.final == "k-means" else assign)(encoder, images, config, run)


def partitioned(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    """The clusters that were asked for by k-means among the features' directions, the centroids as the head."""
    z_ND = run.once("features", features, encoder, images, run)
    head: UnitCentroids = run.new("centroids", UnitCentroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    head.mean.copy_(z_ND.mean(0))
    partition(head.unit(z_ND), head, config.restarts, ITERATIONS, run, spherical=True)
    return Fitted.from_parts(encoder, head, z_ND)


# ---- v1


def learn_classes(encoder: nn.Module, images: Images, config: Config, run: Run) -> None:
    """Trains `encoder` in place."""
    n, device = len(images), run.devices.device
    optimizer = OPTIMIZERS[config.optimizer](encoder.parameters(), weight_decay=config.decay)
    view, last_relu = view_of(config), unwrap(encoder).ends_before_relu
    count = max(2 * run.world, int(config.draws * n))
    batch_size = run.devices.share(config.batch, count)
    steps = count // run.world // batch_size
    before_N = torch.full((n,), -1, device=device)

    for epoch in run.epochs(STAGE, config.epochs, SHARE, encoder=encoder, optimizer=optimizer, before=before_N):
        labels_N, k, kinds_N = cluster(encoder, images, config, run, epoch)
        order = run.rng("draw", epoch)
        drawn = uniform_draw(labels_N, count, order) if config.even else torch.randperm(n, generator=order).repeat(-(-count // n))[:count]
        classifier = run.new(f"classifier-{epoch}", Classifier, unwrap(encoder).n_features, k)
        own = SGD(classifier.parameters(), lr=config.classifier_rate, weight_decay=config.decay)
        encoder.train()
        rng, total = run.rng("views", epoch, run.rank), torch.zeros((), device=device)
        mine = drawn[run.rank :: run.world][: count // run.world]
        for step, batch in enumerate(run.batches(images, batch_size, drop_last=True, ids=mine)):
            set_rate(optimizer, SCHEDULES[config.schedule](run.done(epoch + step / steps, config.epochs), config.rate))
            with run.autocast():
                z_BD = encoder(view(batch.pixels_B3HW, rng))
                logits_BK = classifier(z_BD.relu() if last_relu else z_BD)
            loss = cross_entropy(logits_BK, labels_N[batch.index_B.to(device)])
            run.step(loss, optimizer, own)
            total += loss.detach()
        run.trace(kinds_N[None].cpu())
        run.log(loss=total / (step + 1), **continuity(labels_N, before_N), **counts(labels_N, k, run))
        before_N.copy_(labels_N)


def cluster(encoder: nn.Module, images: Images, config: Config, run: Run, epoch: int) -> tuple[Tensor, int, Tensor]:
    """Pseudo-labels (N,), how many pseudo-clusters there are, and the clusters (N,) that the user would get from the same features."""
    z_ND = features(encoder, images, run)
    kinds_N = kinds(z_ND, config, run, epoch)
    x_Nd = pca_whiten(z_ND, config.components)
    del z_ND  # of a million images the largest thing in memory
    if config.clustering == "power-iteration":
        labels_N = run.broadcast(power_iteration_clustering(x_Nd))
        return labels_N, int(labels_N.max()) + 1, kinds_N
    k = pseudo_clusters(config.pseudo_clusters, config.n_clusters, len(images))
    return kmeans(x_Nd, k, run.rng("cluster", epoch), config.cluster_iterations, run=run).labels_N, k, kinds_N


# ---- v2


def learn_prototypes(encoder: nn.Module, images: Images, config: Config, run: Run) -> None:
    """Trains `encoder` in place."""
    n, device = len(images), run.devices.device
    projector = run.new("head-projector", Projector, unwrap(encoder).n_features, config.projection)
    optimizer = OPTIMIZERS[config.optimizer]([*encoder.parameters(), *projector.parameters()], weight_decay=config.decay)
    small = augment.details(config.augment, max(8, (config.view_size or config.image_size) // 2))
    views = [[view_of(config)] * WHOLE_VIEWS, [small] * config.small_views]
    batch_size = run.devices.share(config.batch, n)
    steps = n // run.world // batch_size
    bank_VND = torch.zeros(WHOLE_VIEWS, n, config.projection, device=device)
    seen_N, before_HN = torch.ones(n, dtype=torch.bool, device=device), torch.full((config.n_heads, n), -1, device=device)

    state: dict[str, Any] = {"encoder": encoder, "projector": projector, "optimizer": optimizer}
    for epoch in run.epochs(STAGE, config.epochs, SHARE, **state, bank=bank_VND, seen=seen_N, before=before_HN):
        if epoch == 0:
            bank_VND.copy_(projected(features(encoder, images, run), projector))
        labels_HN, prototypes_HKD = cluster_bank(bank_VND, seen_N, config, run, epoch)
        encoder.train()
        rng, total = run.rng("views", epoch, run.rank), torch.zeros((), device=device)
        seen_N.fill_(False)
        for step, batch in enumerate(run.batches(images, batch_size, run.rng("order", epoch), drop_last=True)):
            set_rate(optimizer, SCHEDULES[config.schedule](run.done(epoch + step / steps, config.epochs), config.rate))
            index_B = batch.index_B.to(device)
            sized = [torch.cat([view(batch.pixels_B3HW, rng) for view in group]) for group in views if group]
            with run.autocast():
                z_VBD = torch.cat([projector(encoder(x)) for x in sized]).unflatten(0, (-1, len(index_B)))
            loss = prototype_loss(z_VBD, prototypes_HKD, labels_HN[:, index_B], config.temperature)
            run.step(loss, optimizer)
            total += loss.detach()
            bank_VND[:, index_B] = z_VBD[:WHOLE_VIEWS].detach().float()
            seen_N[index_B] = True
        share_rows(bank_VND, seen_N, run)
        run.trace(kinds(bank_VND[0], config, run, epoch)[None].cpu())
        moved = [continuity(*each) for each in zip(labels_HN, before_HN)]
        mean = {name: sum(one[name] for one in moved) / len(moved) for name in moved[0]} if all(moved) else {}
        run.log(loss=total / (step + 1), **mean, **counts(labels_HN[0], prototypes_HKD.shape[1], run))
        before_HN.copy_(labels_HN)


def cluster_bank(bank_VND: Tensor, seen_N: Tensor, config: Config, run: Run, epoch: int) -> tuple[Tensor, Tensor]:
    """Each head's pseudo-labels (H, N), -1 for images that the epoch before did not see, and its prototypes (H, K, D), unit rows."""
    rows = seen_N.nonzero().squeeze(1)
    k = min(pseudo_clusters(config.pseudo_clusters, config.n_clusters, len(seen_N)), len(rows))
    labels_HN = torch.full((config.n_heads, len(seen_N)), -1, device=seen_N.device)
    prototypes = []
    for head in range(config.n_heads):
        rng = run.rng("cluster", epoch, head)
        found = kmeans(bank_VND[head % WHOLE_VIEWS, rows], k, rng, config.cluster_iterations, spherical=True, run=run)
        labels_HN[head, rows] = found.labels_N
        prototypes.append(found.centroids_KD)
    return labels_HN, torch.stack(prototypes)


@torch.no_grad()
def projected(z_ND: Tensor, projector: nn.Module) -> Tensor:
    return torch.cat([projector(some_BD) for some_BD in z_ND.split(8192)])


def share_rows(bank_VND: Tensor, seen_N: Tensor, run: Run) -> None:
    """Each rank wrote the rows of its own images: now all have all of them. What nobody saw stays."""
    if run.world > 1:
        written_VND = run.sum(bank_VND * seen_N[:, None])
        seen_N.copy_(run.sum(seen_N.long()) > 0)
        bank_VND.copy_(torch.where(seen_N[:, None], written_VND, bank_VND))


# ---- what both need


def kinds(z_ND: Tensor, config: Config, run: Run, epoch: int) -> Tensor:
    """The clusters (N,) that the user would get now."""
    return kmeans(z_ND, config.n_clusters, run.rng("kinds", epoch), init="k-means++", spherical=True, run=run).labels_N


def settled(config: Config) -> Config:
    """With the views, optimiser and rate of its variant where they are left open."""
    views, optimizer, rate = LEFT_OPEN[config.variant]
    return replace(config, views=config.views or views, optimizer=config.optimizer or optimizer, rate=config.rate or rate)


def pseudo_clusters(asked: int, n_clusters: int, n: int) -> int:
    """As many as were asked for; of 0 as many as the clusters and `n` images suggest."""
    return asked or min(10 * n_clusters, max(n_clusters, n // LEAST_IMAGES))


def pinned(config: Config, n: int) -> Config:
    """With the number of pseudo-clusters that n_clusters and `n` images give, so that another n_clusters trains the same network."""
    return replace(config, pseudo_clusters=pseudo_clusters(config.pseudo_clusters, config.n_clusters, n))


def view_of(config: Config) -> Augment:
    return (augment.crops if config.views == "crops" else augment.pretext)(config.augment, config.view_size)


def counts(labels_N: Tensor, k: int, run: Run) -> dict[str, Any]:
    """How many pseudo-clusters there are, how many have no image, and how many images the others; a warning when one has all."""
    sizes_K = labels_N[labels_N >= 0].bincount(minlength=k)
    filled_K = sizes_K[sizes_K > 0]
    if len(filled_K) == 1 < k:
        run.warn("collapse: all images had the same pseudo-label in an epoch; try a lower --set rate, or another --seed")
    told = {"clusters": k, "empty": k - len(filled_K), "smallest": int(filled_K.min()), "largest": int(filled_K.max())}
    return told | ({"sizes": sizes_K.tolist()} if k <= MOST_SIZES else {})


def check(images: Images, config: Config) -> None:
    """InputError for what cannot work, before anything is trained."""
    if config.epochs and untrained(config):
        raise InputError(f"encoder={config.encoder} has nothing that deepcluster could train; take --method kmeans, or --set epochs=0")
    if config.variant == "v2" and config.clustering != "k-means":
        raise InputError(f"clustering={config.clustering} gives no centroids, which are the prototypes of variant=v2; take variant=v1")
    if len(images) < 2 and config.epochs:
        raise InputError(f"deepcluster needs at least 2 images, there is {len(images)}")
    if config.pseudo_clusters > len(images):
        raise InputError(f"pseudo_clusters={config.pseudo_clusters}: more than the {len(images)} images there are")


def untrained(config: Config) -> bool:
    """Whether there is no network to learn anything."""
    return config.encoder.removesuffix(SOBEL) in (PRECOMPUTED, "pixels")
