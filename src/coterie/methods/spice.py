"""SPICE: Semantic Pseudo-Labeling for Image Clustering (Niu, Shan, Wang, IEEE TIP 2022), algorithms 1 and 2.

    1. pretext        train an encoder to tell images apart                                 (MoCo v2 in the paper; any serves)
    2. prototypes     heads on the frozen encoder; for batches of images:
                      E  the images a head is most sure of give each cluster a prototype; the images nearest to it get its label
                      M  the head learns these labels from strong views, through a double softmax
    3. joint          images whose neighbours agree on their label are reliable; encoder and head learn from them as labelled
                      images, and from all images as unlabelled ones (FixMatch)

What is chosen (head, epoch, reliable images, which stage to return) is chosen without labels. docs/methods/spice.md lists every
difference from the published code. Shapes: N images, B batch, D feature, H heads, K clusters, M pseudo-labelled pairs.
"""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from coterie import augment
from coterie.augment import Augment
from coterie.errors import InputError
from coterie.images import Images
from coterie.learning.diagnose import agreement, discord, vital_signs
from coterie.learning.losses import cross_entropy, distribution_entropy, double_softmax_cross_entropy, fixmatch, softmax
from coterie.learning.pseudo_labels import prototype, prototype_losses, reliable
from coterie.learning.schedule import cosine, fixmatch_cosine, set_rate, trapezoid
from coterie.methods import narrow, near, pretext
from coterie.methods.bounds import Amount, BelowOne, Count, Positive, Share, SomeShare, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted, unless_worse
from coterie.methods.sizes import shares_of
from coterie.networks.encoder import PRECOMPUTED, EncoderSpec, build, features
from coterie.networks.heads import MlpHeads
from coterie.networks.teacher import follow, teacher_of
from coterie.networks.views import Seen
from coterie.run import Run
from coterie.run.devices import unwrap

NEIGHBOURS = 20  # whose agreement with an image says how good a clustering is, without labels
Choice = Literal["discord", "loss"]
View = Literal["weak", "strong", "clean"]


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of SPICE. Numbers without a source were found on digits and Fashion-MNIST (benchmarks/results)."""

    n_heads: Count = 10  # SPICE sec. IV-B
    head_epochs: Whole = 30  # the published code: 30 on CIFAR-10, 100 elsewhere
    head_steps: Count = 4  # least batches an epoch; small sets are gone through several times
    head_batch: Whole = 0  # images labelled together (the published code: 5,000 and more); 0: 100 a cluster, within 1,000 (IV-B) and 20,000
    head_views: Count = 4  # draws of weak and strong views, which epochs take in turn; the frozen encoder sees each once
    head_repeats: Count = 8  # times the pseudo-labels of a batch are learned, as in the published code
    head_part: Count = 128  # pseudo-labels an update, as in the published code
    head_rate: Positive = 2e-3  # peak, Adam, cosine (the published code: 5e-3, constant)
    core_share: SomeShare = 1.0  # of a cluster's share of the batch, whose mean is the prototype (Fig. 4; the published code has 0.5)
    core_share_end: Share = 0.0  # the share grows to this by the last epoch; 0: it stays (the published settings leave it at 0.5)
    components: Whole = 32  # similar to a prototype: among features whitened to so many, or twice n_clusters; 0: as they are (the paper)
    overlap: bool = True  # an image may get several labels, or none (sec. IV-F2)
    label_view: View = "weak"  # of what the labels are made: weak, strong or clean (table VIII)
    train_view: View = "strong"  # of what they are learned
    double_softmax: bool = True  # eq. 5; else the plain cross-entropy
    temperature: Positive = 1.0  # of the plain cross-entropy (the paper's best: 0.2)
    entropy_above: Whole = 100  # with more clusters than this, heads are also asked to use all of them (sec. IV-F2: Tiny-ImageNet's 200)
    entropy_weight: Amount = 1.0
    choice: Choice = "discord"  # of head and epoch: how often neighbours differ, and how uneven sizes are; or loss, the paper's (III-B)
    train_encoder: bool = False  # the ablation Joint-SH / Joint-MH: the encoder learns in stage 2 too
    encoder_rate: Positive = 1e-4  # then
    select_reliable: bool = True  # else every image counts as labelled
    reliable_neighbors: Count = 100  # with the image itself (sec. IV-B); at most a tenth of an even share of the images, but ten
    reliable_ratio: Share = 0.95  # of them share the label (sec. IV-B)
    reliable_bar: BelowOne = 0.0  # and the probability is above this (the published code: 0.99)
    reliable_balance: bool = False  # the published code cuts every cluster to the smallest one's count
    joint_init: Literal["network", "random"] = "network"  # the encoder and head of stage 2; or random, as in the published code
    joint_encoder: str = ""  # another encoder for joint_init=random; empty: the same
    joint_epochs: Whole = 30  # 0: stop after stage 2 (the paper's SPICE-self)
    joint_batch: Count = 64  # labelled images an update (FixMatch)
    joint_ratio: Count = 7  # unlabelled images for each of them (FixMatch)
    joint_temperature: Amount = 0.0  # of the weak view's labels; 0: its most probable cluster alone (FixMatch)
    joint_rate: Positive = 0.03  # FixMatch: SGD, Nesterov momentum 0.9, cosine of 7/16 of a turn
    joint_decay: Amount = 5e-4  # weight decay, not of batch norm (FixMatch)
    threshold: Share = 0.95  # of the weak view, to teach the strong one (sec. IV-B)
    average_epochs: Amount = 2.0  # memory of the running average that is returned (FixMatch: 1,000 updates)
    final: Final = "heads"  # its own; or diffusion, k-means, on the features that they end with


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    found = stages(encoder, images, config, run)
    return found if config.final == "heads" else assign(found.encoder, images, config, run)


def stages(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    """Stages 2 and 3."""
    z_ND = pretext.features_of(encoder, images, config, run)
    neighbours_NK = near.neighbours(z_ND, min(NEIGHBOURS, len(images) - 1), config.approximate, run)
    head = learn_prototypes(encoder, z_ND, neighbours_NK, images, config, run)
    if config.train_encoder:
        z_ND = run.once("features-prototypes", features, encoder, images, run)
    clustered = Fitted.from_parts(encoder, head, z_ND)
    if not config.joint_epochs or config.encoder == PRECOMPUTED:
        return clustered
    labels_N = trust(clustered, config, run)
    return learn_together(clustered, labels_N, neighbours_NK, images, config, run) if (labels_N >= 0).any() else clustered


def learn_prototypes(encoder: nn.Module, z_ND: Tensor, neighbours_NK: Tensor, images: Images, config: Config, run: Run) -> MlpHeads:
    """Stage 2: H heads at once, each with its own pseudo-labels; returns the head and epoch that are best over the whole set (`choice`)."""
    k, alike_ND, looker, axes_Dd = config.n_clusters, comparable(z_ND, config), encoder, None
    shares_K = shares_of(z_ND, config.sizes, k, run) if config.overlap else None
    if narrow.wide(z_ND.shape[1]) and not config.train_encoder:
        axes_Dd = run.once("directions", narrow.directions, z_ND, run)
        looker, z_ND = nn.Sequential(encoder, narrow.front_of(axes_Dd)), z_ND @ axes_Dd
    heads: MlpHeads = run.new("heads", MlpHeads, z_ND.shape[1], k, config.n_heads)  # type: ignore[assignment]
    heads.standardise(z_ND)
    best, best_encoder = heads.select(0), copy.deepcopy(unwrap(encoder)) if config.train_encoder else nn.Identity()
    optimizers = [Adam(heads.parameters())] + ([Adam(encoder.parameters())] if config.train_encoder else [])
    chosen = {"score": float("inf"), "epoch": 0, "head": 0}
    entropy_weight = config.entropy_weight if k > config.entropy_above else 0.0
    looks = view_of(config.label_view, config), view_of(config.train_view, config)
    seen = Seen(looker, images, looks, run, min(config.head_views, config.head_epochs))

    state: dict[str, Any] = {"heads": heads, "best": best, "chosen": chosen, "best_encoder": best_encoder}
    state |= {f"optimizer{i}": optimizer for i, optimizer in enumerate(optimizers)} | ({"encoder": encoder} if config.train_encoder else {})
    for epoch in run.epochs("prototypes", config.head_epochs, share=0.3, **state):
        last = config.head_epochs - 1
        share = trapezoid(epoch, 0, last, last, last, config.core_share, config.core_share_end or config.core_share)
        rng, total_H, count = run.rng("prototypes", epoch, run.rank), torch.zeros(config.n_heads, device=z_ND.device), 0
        batches = batches_of(len(images), config, run, epoch)
        for step, (weak_BD, strong) in enumerate(seen.anew(batches, epoch) if config.train_encoder else seen.frozen(batches, epoch)):
            for optimizer, peak in zip(optimizers, (config.head_rate, config.encoder_rate)):
                set_rate(optimizer, cosine(run.done(epoch + step / len(batches), config.head_epochs), peak))
            with torch.no_grad():
                p_HBK = softmax(heads(weak_BD))
            index_HM, labels_HM = prototype(alike_ND[batches[step].to(z_ND.device)], p_HBK, share, config.overlap, shares_K)
            for _ in range(config.head_repeats):
                for part in torch.randperm(index_HM.shape[1], generator=rng).to(z_ND.device).split(config.head_part):
                    loss_H = pair_loss(heads(strong(index_HM[:, part])), labels_HM[:, part], entropy_weight, config)
                    run.step(loss_H.sum(), *optimizers)
                    total_H, count = total_H + loss_H.detach(), count + 1
        judged_ND = features(encoder, images, run) if config.train_encoder else z_ND
        with torch.no_grad():
            p_HNK = softmax(heads(judged_ND)).contiguous()
        loss_H = prototype_losses(comparable(judged_ND, config) if config.train_encoder else alike_ND, p_HNK, config.core_share, shares_K)
        discord_H = torch.tensor([discord(labels_N, neighbours_NK, k, shares_K) for labels_N in p_HNK.argmax(-1)])
        score_H = {"loss": loss_H, "discord": discord_H}[config.choice]
        head = int(score_H.argmin())
        if float(score_H[head]) < chosen["score"]:
            chosen.update(score=float(score_H[head]), epoch=epoch, head=head)
            best.load_state_dict(heads.select(head).state_dict())
            if config.train_encoder:
                best_encoder.load_state_dict(unwrap(encoder).state_dict())
        run.trace(p_HNK.argmax(-1).cpu())
        scores, losses = ([round(s, 4) for s in each_H.tolist()] for each_H in (score_H, loss_H))
        told = {"scores": scores, "score": chosen["score"], "head": chosen["head"], "losses": losses}
        run.log(loss=total_H.mean() / count, **told, **vital_signs(p_HNK[head]))
    if config.train_encoder:
        unwrap(encoder).load_state_dict(best_encoder.state_dict())
    return best if axes_Dd is None else narrow.widened(best, axes_Dd)


def batches_of(n: int, config: Config, run: Run, epoch: int) -> tuple[Tensor, ...]:
    """The ids of each batch of an epoch, different images each, for this rank: whole batches of one pass through the set after another,
    until there are `head_steps`. An image that is in a batch twice would count twice in a prototype."""
    mine = n // run.world
    size = min(config.head_batch or max(1000, min(100 * config.n_clusters, 20_000)), mine)
    passes = max(1, -(-config.head_steps // (mine // size)))
    orders = (torch.randperm(n, generator=run.rng("prototypes-order", epoch, turn))[run.rank :: run.world] for turn in range(passes))
    return tuple(batch for order in orders for batch in order[: mine // size * size].split(size))


def comparable(z_ND: Tensor, config: Config) -> Tensor:
    """The features among which an image is similar to a prototype; features that were given stay what they are."""
    return near.comparable(z_ND, 0 if config.encoder == PRECOMPUTED else config.components, config.n_clusters)


def trust(clustered: Fitted, config: Config, run: Run) -> Tensor:
    """Reliable pseudo-labels of the whole set, (N,) int64, -1 where an image's neighbours do not agree."""
    if not config.select_reliable:
        return clustered.p_NK.argmax(1)
    n, k = clustered.p_NK.shape
    count = max(1, min(config.reliable_neighbors, max(10, n // (10 * k)), n // (2 * k)))
    bar, rng = config.reliable_bar or None, run.rng("reliable")
    found_N = reliable(clustered.features_ND, clustered.p_NK, count, config.reliable_ratio, bar, config.reliable_balance, rng)
    run.keep("reliable", found_N + 1)
    sizes = torch.bincount(found_N[found_N >= 0], minlength=config.n_clusters)
    none = [str(cluster) for cluster in (sizes == 0).nonzero().flatten().tolist()]
    run.note(f"{int(sizes.sum()):,} of {len(found_N):,} images are reliable: {count} neighbours, {config.reliable_ratio:.0%} agree")
    if len(none) == config.n_clusters:
        run.warn("no image is reliable, so the joint stage was left out; try fewer --set reliable_neighbors or a lower reliable_ratio")
    elif none:
        run.warn(f"no image of cluster {', '.join(none)} is reliable: it may vanish in the joint stage; try fewer --clusters")
    return found_N


def learn_together(clustered: Fitted, labels_N: Tensor, neighbours_NK: Tensor, images: Images, config: Config, run: Run) -> Fitted:
    """Stage 3, FixMatch: reliable images teach their labels, and all images agree with themselves. Returns the running average of
    encoder and head, or stage 2 when the neighbours agree clearly less with it.
    """
    encoder, head = start_of_joint(clustered, config, run)
    student = nn.Sequential(encoder, head)
    teacher = teacher_of(student)
    weights = [w for w in student.parameters() if w.ndim > 1], [w for w in student.parameters() if w.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": weights[0], "weight_decay": config.joint_decay}, {"params": weights[1]}]
    optimizer = SGD(groups, lr=config.joint_rate, momentum=0.9, nesterov=True)
    weak, strong = augment.fixmatch_weak(config.augment), augment.fixmatch_strong(config.augment)
    known = (labels_N >= 0).nonzero().flatten().cpu()
    placed = run.place(images)
    batch_size = run.devices.share(config.joint_batch * config.joint_ratio, len(images))
    steps = len(images) // run.world // batch_size
    labelled_size, decay = run.devices.share(config.joint_batch, config.joint_batch), 1 - 1 / (1 + config.average_epochs * steps)

    for epoch in run.epochs("joint", config.joint_epochs, student=student, teacher=teacher, optimizer=optimizer):
        student.train()
        rng, order = run.rng("joint", epoch, run.rank), run.rng("joint-order", epoch)
        total, sure = torch.zeros(2, device=labels_N.device), torch.zeros((), device=labels_N.device)
        for step, batch in enumerate(run.batches(images, batch_size, order, drop_last=True)):
            set_rate(optimizer, fixmatch_cosine(run.done(epoch + step / steps, config.joint_epochs), config.joint_rate))
            labelled = placed.batch(known[torch.randint(len(known), (labelled_size,), generator=rng)])
            x_B3HW = batch.pixels_B3HW
            views = weak(labelled.pixels_B3HW, rng), weak(x_B3HW, rng), strong(x_B3HW, rng)
            with run.autocast():
                logits_BK = student(torch.cat(views))[0]
            taught_BK, weak_BK, strong_BK = logits_BK.split([len(view) for view in views])
            supervised = cross_entropy(taught_BK, labels_N[labelled.index_B.to(labels_N.device)])
            unsupervised, kept = fixmatch(weak_BK, strong_BK, config.threshold, config.joint_temperature or None)
            run.step(supervised + unsupervised, optimizer)
            follow(teacher, student, decay)
            total, sure = total + torch.stack([supervised, unsupervised]).detach(), sure + kept
        done = Fitted.from_parts(*parts(teacher), features(parts(teacher)[0], images, run))
        agreed = agreement(done.p_NK.argmax(1), neighbours_NK)
        run.trace(done.p_NK.argmax(1)[None].cpu())
        losses = {"loss": total.sum() / (step + 1), "labelled": total[0] / (step + 1), "unlabelled": total[1] / (step + 1)}
        run.log(**losses, confident=sure / (step + 1), agreement=agreed)

    encoder, head = parts(teacher)
    joined = Fitted.from_parts(encoder, head, run.once("features-joint", features, encoder, images, run))
    return unless_worse(joined, clustered, neighbours_NK, "the joint stage", run)


def start_of_joint(clustered: Fitted, config: Config, run: Run) -> tuple[nn.Module, nn.Module]:
    """The network of stage 2, or a new one."""
    if config.joint_init == "network" and not config.joint_encoder:
        return run.new("joint-encoder", copy.deepcopy, unwrap(clustered.encoder)), run.new("joint-head", copy.deepcopy, clustered.head)
    if config.joint_init != "random":
        raise InputError(f"joint_encoder={config.joint_encoder} starts anew, so it needs joint_init=random, not {config.joint_init}")
    old = unwrap(clustered.encoder)
    encoder = run.new("joint-encoder", build, EncoderSpec(config.joint_encoder or config.encoder, config.image_size))
    unwrap(encoder).standardise(old.mean, old.deviation)  # type: ignore[operator]
    return encoder, run.new("joint-head", MlpHeads, unwrap(encoder).n_features, config.n_clusters)


def pair_loss(logits_HMK: Tensor, labels_HM: Tensor, entropy_weight: float, config: Config) -> Tensor:
    """What a head learns from its pseudo-labels, (H,)."""
    if config.double_softmax:
        loss_H = double_softmax_cross_entropy(logits_HMK, labels_HM)
    else:
        loss_H = cross_entropy(logits_HMK, labels_HM, config.temperature)
    return loss_H - entropy_weight * distribution_entropy(softmax(logits_HMK).mean(-2)) if entropy_weight else loss_H


def view_of(name: View, config: Config) -> Augment:
    """The augmentation a setting names."""
    views = {"weak": augment.fixmatch_weak, "strong": augment.strong, "clean": lambda _: augment.clean}
    return augment.clean if config.encoder == PRECOMPUTED else views[name](config.augment)


def parts(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    encoder, head = network.children()
    return encoder, head
