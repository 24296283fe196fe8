"""SCAN: Learning to Classify Images without Labels (Van Gansbeke et al., ECCV 2020), algorithm 1.

    1. pretext          train an encoder to tell images apart                        (any pretext)
    2. neighbours       for each image, its k most similar ones
    3. clustering       heads that give an image and its neighbours the same cluster, and use all clusters
    4. self-labelling   confident images teach the network on strongly augmented views

What is chosen (head, epoch, which stage to return) is chosen without labels. docs/methods/scan.md lists every difference
from the published code. Shapes: N images, B batch, D feature, H heads, K clusters.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from coterie import augment
from coterie.clustering.neighbours import neighbourhood, with_itself
from coterie.clustering.spaces import Reduced, reduced
from coterie.images import Images
from coterie.learning.diagnose import agreement, neighbour_losses, vital_signs
from coterie.learning.losses import by_rank, confident_cross_entropy, scan_loss, softmax
from coterie.learning.pseudo_labels import confident
from coterie.learning.schedule import SCHEDULES, Schedule, cosine, set_rate
from coterie.methods import near, pretext
from coterie.methods.bounds import Amount, BelowOne, Count, Positive, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import TOLERANCE, Fitted, unless_worse
from coterie.methods.sizes import prior_of, uneven
from coterie.methods.starts import begin
from coterie.networks.encoder import PRECOMPUTED, features
from coterie.networks.heads import Heads, folded
from coterie.networks.teacher import follow, teacher_of
from coterie.run import Run
from coterie.run.devices import unwrap

TOO_FEW = 0.01  # share of confident images below which the bar comes down
LOWEST_BAR = 0.5
PUBLISHED = 20  # neighbours, SCAN sec. 3.1
HEADS = 20, 4  # at most, which cost about as much as three would; at least
MANY = 40  # at most, on given features, where no network waits: the best of more is better (CIFAR-10, Lite0)
CLUSTERS = 400  # of all heads, at most: what they cost grows with these


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of SCAN. Numbers without a source were found on digits, Fashion-MNIST and CIFAR-10 (benchmarks/results)."""

    n_neighbors: Whole = 0  # 0: 20 (SCAN sec. 3.1; 50 on ImageNet), fewer below 64 images a cluster: 2.5 times the root of their number
    neighbor_components: Whole = 64  # compared from scratch: features whitened to so many, or twice n_clusters; 0: as they are (published)
    include_self: bool = True  # an image may be drawn as its own neighbour, as in the published code
    spaces: str = ""  # widths of the features of several encoders that stand side by side, "1280,1280"; empty: one encoder
    n_heads: Whole = 0  # the best is chosen by loss (published: 1, 10 on ImageNet); 0: 20, 40 on given features, of many clusters fewer
    start: Literal["both", "random"] = "both"  # of the heads: half from clusterings, half at random; random: all, as published
    entropy_weight: Amount = 5.0  # SCAN sec. 3.1; of clusters of like size
    uneven_weight: Amount = 1.2  # of the entropy where sizes are uneven: it keeps clusters from emptying, and no more
    prior: str = ""  # sizes of the clusters in any order, "60,30,10", or estimated, power-law; empty: what `sizes` says
    cluster_epochs: Whole = 20
    cluster_steps: Count = 30  # least updates an epoch; small sets are gone through several times
    cluster_batch: Count = 1000
    cluster_rate: Positive = 5e-3  # peak, Adam, cosine; the encoder is frozen
    components: Whole = 128  # main axes on which heads learn when pretext=frozen gives more columns, or twice n_clusters; 0: all columns
    network_epochs: Whole = 0  # then the encoder learns this loss too, on strong views (the published code: 50, with no head start)
    network_batch: Count = 128
    network_rate: Positive = 1e-4  # peak, Adam (SCAN sec. 3.1: 1e-4)
    network_schedule: Schedule = "cosine"  # or constant, as published
    network_decay: Amount = 0.0  # weight decay, as Adam has it (published: 1e-4)
    selflabel_epochs: Whole = 30  # at most; 0: the encoder stays as it is
    selflabel_batch: Count = 256
    selflabel_rate: Positive = 2e-3  # peak, Adam
    selflabel_schedule: Schedule = "cosine"  # or constant, as published
    selflabel_decay: Amount = 0.0  # weight decay, as Adam has it (published: 1e-4)
    threshold: BelowOne = 0.9  # strict; SCAN sec. 3.1 has 0.99, for a network that labels with itself and not with its average
    balance: bool = True  # clusters count equally in the self-labelling loss
    average_epochs: Amount = 2.5  # memory of the teacher, the running average of the student that gives the labels
    patience: Whole = 6  # epochs without more confident images before self-labelling stops
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    found = stages(encoder, images, config, run)
    return found if config.final == "heads" else assign(found.encoder, images, config, run)


def stages(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    """Stages 2 to 4."""
    z_ND = pretext.features_of(encoder, images, config, run)
    neighbours_NK = neighbours(z_ND, config, run)
    clustered = Fitted.from_parts(encoder, cluster(z_ND, neighbours_NK, config, run), z_ND)
    if config.encoder == PRECOMPUTED:
        return clustered
    if config.network_epochs:
        clustered = cluster_network(clustered, neighbours_NK, images, config, run)
    return self_label(clustered, neighbours_NK, images, config, run) if config.selflabel_epochs else clustered


def neighbours(z_ND: Tensor, config: Config, run: Run) -> Tensor:
    """Stage 2: the nearest others of each image, (N, K) int64. Those of published weights are compared as they are, trained on or not."""
    count = min(config.n_neighbors, len(z_ND) - 1) or neighbourhood(len(z_ND), config.n_clusters, PUBLISHED)
    components = config.neighbor_components if pretext.from_scratch(config) else 0
    return near.neighbours(near.comparable(z_ND, components, config.n_clusters), count, config.approximate, run)


def heads_of(config: Config) -> int:
    """As many as were asked for, or as the clusters allow."""
    most, least = HEADS
    most = MANY if config.pretext == "frozen" else most
    return config.n_heads or max(least, min(most, CLUSTERS // config.n_clusters))


def cluster(z_ND: Tensor, neighbours_NK: Tensor, config: Config, run: Run) -> Heads:
    """Stage 3 on a frozen encoder: H heads at once; the head and epoch of lowest loss over the whole set is returned."""
    n, device, prior_K = len(z_ND), z_ND.device, prior_of(config.prior, z_ND, config.n_clusters, run)
    if prior_K is not None and config.start == "random":  # sizes of such heads mean nothing at first: by rank some lose a cluster
        prior_K = prior_K.expand(heads_of(config), -1)
    weight = weight_of(z_ND, config, run)
    whole_ND, rows = z_ND, on_axes(z_ND, config, run)
    z_ND = z_ND if rows is None else rows.rows_Nd
    heads: Heads = run.new("heads", Heads, z_ND.shape[1], config.n_clusters, heads_of(config))  # type: ignore[assignment]
    if rows is None:
        heads.standardise(z_ND)
    if config.start == "both":
        begin(heads, whole_ND, rows, run)
    best = heads.select(0)
    optimizer = Adam(heads.parameters())
    chosen = {"score": float("inf"), "epoch": 0, "head": 0}
    batch_size = min(config.cluster_batch, n)
    steps = max(config.cluster_steps, n // batch_size)
    candidates_NK = candidates(neighbours_NK, config)

    for epoch in run.epochs("clustering", config.cluster_epochs, share=0.3, heads=heads, best=best, optimizer=optimizer, chosen=chosen):
        rng = run.rng("clustering", epoch)
        for step in range(steps):
            set_rate(optimizer, cosine(run.done(epoch + step / steps, config.cluster_epochs), config.cluster_rate))
            anchors = torch.randperm(n, generator=rng)[:batch_size].to(device)
            column = torch.randint(candidates_NK.shape[1], (batch_size,), generator=rng).to(device)
            z_BD, other_BD = z_ND[anchors], z_ND[candidates_NK[anchors, column]]
            total_H, _, _ = scan_loss(heads(z_BD), heads(other_BD), weight, prior_K)
            run.step(total_H.sum(), optimizer)
        with torch.no_grad():
            p_HNK = softmax(heads(z_ND)).contiguous()
        score_H = losses_of(p_HNK, neighbours_NK, prior_K)
        head = int(score_H.argmin())
        if float(score_H[head]) < chosen["score"]:
            chosen.update(score=float(score_H[head]), epoch=epoch, head=head)
            best.load_state_dict(heads.select(head).state_dict())
        run.trace(p_HNK.argmax(-1).cpu())
        run.log(
            loss=total_H.mean(),
            scores=[round(s, 4) for s in score_H.tolist()],
            score=chosen["score"],
            head=chosen["head"],
            **vital_signs(p_HNK[head]),
        )
    return best if rows is None else folded(best, rows)


def on_axes(z_ND: Tensor, config: Config, run: Run) -> Reduced | None:
    """Features of a large frozen encoder on their main axes, where heads cost a tenth; None where all columns are few enough."""
    most = max(config.components, 2 * config.n_clusters)
    if config.pretext != "frozen" or not config.components or z_ND.shape[1] <= most:
        return None
    reduction: Reduced = run.once("rows", reduced, z_ND, config.spaces, most)
    return reduction


def cluster_network(clustered: Fitted, neighbours_NK: Tensor, images: Images, config: Config, run: Run) -> Fitted:
    """Stage 3 goes on as published: encoder and head learn together, from strong views of an image and of one of its neighbours.

    The epoch of lowest loss over the whole set is returned, the clustering as it came if none is lower.
    """
    encoder, head = clustered.encoder, run.new("network-head", copy.deepcopy, clustered.head)
    network = nn.Sequential(encoder, head)
    best = teacher_of(network)
    optimizer, rate_at = Adam(network.parameters(), weight_decay=config.network_decay), SCHEDULES[config.network_schedule]
    prior_K, strong = prior_of(config.prior, clustered.features_ND, config.n_clusters, run), augment.strong(config.augment)
    weight = weight_of(clustered.features_ND, config, run)
    score = {"score": float(losses_of(clustered.p_NK[None], neighbours_NK, prior_K))}
    batch_size = run.devices.share(config.network_batch, len(images))
    steps = len(images) // run.world // batch_size
    candidates_NK = candidates(neighbours_NK, config).cpu()

    state: dict[str, Any] = {"network": network, "best": best, "optimizer": optimizer, "score": score}
    for epoch in run.epochs("clustering, whole network", config.network_epochs, share=0.5, **state):
        network.train()
        rng, order = run.rng("network", epoch, run.rank), run.rng("network-order", epoch)
        anchors = torch.randperm(len(images), generator=order)[run.rank :: run.world][: steps * batch_size]
        column = torch.randint(candidates_NK.shape[1], (len(anchors),), generator=rng)
        pairs_2M = torch.stack([anchors, candidates_NK[anchors, column]])
        ids = torch.cat([pairs_2B.flatten() for pairs_2B in pairs_2M.split(batch_size, 1)])
        for step, batch in enumerate(run.batches(images, 2 * batch_size, ids=ids)):
            set_rate(optimizer, rate_at(run.done(epoch + step / steps, config.network_epochs), config.network_rate))
            views_B3HW = strong(batch.pixels_B3HW, rng)  # in float32
            with run.autocast():
                logits_BK = network(views_B3HW)[0]
            total, _, _ = scan_loss(logits_BK[:batch_size], logits_BK[batch_size:], weight, prior_K)
            run.step(total, optimizer)
        fitted = Fitted.from_parts(encoder, head, features(encoder, images, run))
        now = float(losses_of(fitted.p_NK[None], neighbours_NK, prior_K))
        if now < score["score"]:
            score["score"] = now
            follow(best, network, 0.0)
        run.trace(fitted.p_NK.argmax(1)[None].cpu())
        run.log(loss=total, scores=[round(now, 4)], score=score["score"], head=0, **vital_signs(fitted.p_NK))
    for mine, theirs in zip(best.parameters(), network.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)  # `best` was made to learn nothing, and self-labelling trains on from it
    encoder, head = best.children()
    return Fitted.from_parts(encoder, head, run.once("features-network", features, encoder, images, run))


def candidates(neighbours_NK: Tensor, config: Config) -> Tensor:
    """Whom an image may be paired with: its neighbours, and itself as in the published code."""
    return with_itself(neighbours_NK) if config.include_self else neighbours_NK


def weight_of(z_ND: Tensor, config: Config, run: Run) -> float:
    """How much clusters are wanted alike in size."""
    if config.prior:
        return config.entropy_weight
    return config.uneven_weight if uneven(z_ND, config.sizes, config.n_clusters, run) else config.entropy_weight


def losses_of(p_HNK: Tensor, neighbours_NK: Tensor, prior_K: Tensor | None) -> Tensor:
    """What heads are compared by, (H,), the sizes of each ranked as the prior's."""
    return neighbour_losses(p_HNK, neighbours_NK, None if prior_K is None else by_rank(prior_K, p_HNK.mean(1)))


def self_label(clustered: Fitted, neighbours_NK: Tensor, images: Images, config: Config, run: Run) -> Fitted:
    """Stage 4: a teacher, the running average of the student, labels the clean image where it is confident; the student learns that
    label on a strongly augmented view. Returns the teacher, or the stage before when the neighbours agree clearly less with it.
    """
    student = nn.Sequential(*(run.new("student", copy.deepcopy, unwrap(part)) for part in (clustered.encoder, clustered.head)))
    teacher = teacher_of(student)
    optimizer, rate_at = Adam(student.parameters(), weight_decay=config.selflabel_decay), SCHEDULES[config.selflabel_schedule]
    strong = augment.strong(config.augment)
    batch_size = run.devices.share(config.selflabel_batch, len(images))
    steps = -(-len(images) // run.world // batch_size)
    decay = 1 - 1 / (1 + config.average_epochs * steps)
    bar = {"threshold": config.threshold, "most": 0.0, "stalled": 0}
    clustered_N = clustered.p_NK.argmax(1)
    before = agreement(clustered_N, neighbours_NK)

    state: dict[str, Any] = {"student": student, "teacher": teacher, "optimizer": optimizer, "bar": bar}
    for epoch in run.epochs("self-labelling", config.selflabel_epochs, **state):
        student.train()
        rng, order = run.rng("self-labelling", epoch, run.rank), run.rng("self-labelling-order", epoch)
        sure, skipped, total = 0, 0, torch.zeros((), device=neighbours_NK.device)
        seen_N = torch.zeros_like(clustered_N)  # 0: not seen in this epoch
        for step, batch in enumerate(run.batches(images, batch_size, order)):
            set_rate(optimizer, rate_at(run.done(epoch + step / steps, config.selflabel_epochs), config.selflabel_rate))
            with torch.no_grad(), run.autocast():
                logits_BK = teacher(batch.pixels_B3HW)[0]
            labels_B = confident(logits_BK.float().softmax(1), bar["threshold"])
            seen_N[batch.index_B] = 1 + logits_BK.argmax(1)
            drawn = rng.get_state()
            view_B3HW = strong(batch.pixels_B3HW, rng)  # before the host waits for the labels, so that a GPU has work meanwhile
            n_sure = int((labels_B >= 0).sum())
            if n_sure == 0 and run.world == 1:
                skipped += 1
                rng.set_state(drawn)
                continue
            with run.autocast():
                logits_BK = student(view_B3HW)[0]
            loss = confident_cross_entropy(logits_BK, labels_B, config.balance)
            run.step(loss, optimizer)
            follow(teacher, student, decay)
            sure, total = sure + n_sure, total + loss.detach()
        share = float(run.sum(torch.tensor(float(sure), device=neighbours_NK.device))) / len(images)
        seen_N = run.sum(seen_N)
        labels_N = torch.where(seen_N > 0, seen_N - 1, clustered_N)
        agreed = agreement(labels_N, neighbours_NK)
        run.trace(labels_N[None].cpu())
        run.log(loss=total / (step + 1), confident=share, skipped=skipped, threshold=bar["threshold"], agreement=agreed)
        if share < TOO_FEW:
            bar["threshold"] = max(LOWEST_BAR, bar["threshold"] - 0.05)
            run.note(f"fewer than {TOO_FEW:.0%} of the images were confident: the threshold is now {bar['threshold']:.2f}")
        bar["stalled"] = 0 if share > bar["most"] else bar["stalled"] + 1
        bar["most"] = max(share, bar["most"])
        if bar["stalled"] >= config.patience or agreed < before - TOLERANCE:
            run.end("self-labelling", **state)
            break

    encoder, head = teacher.children()
    labelled = Fitted.from_parts(encoder, head, run.once("features-labelled", features, encoder, images, run))
    return unless_worse(labelled, clustered, neighbours_NK, "self-labelling", run)
