"""SCAN: Learning to Classify Images without Labels (Van Gansbeke et al., ECCV 2020), algorithm 1.

    1. pretext          train an encoder to tell images apart                        (any pretext)
    2. neighbours       for each image, its k most similar ones
    3. clustering       heads that give an image and its neighbours the same cluster, and use all clusters
    4. self-labelling   confident images teach the network on strongly augmented views

What is chosen (head, epoch, which stage to return) is chosen without labels. docs/methods/scan.md lists every difference
from the published code. Shapes: N images, B batch, D feature, H heads, K clusters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam

from coterie import augment
from coterie.diagnose import agreement, vital_signs
from coterie.encoder import PRECOMPUTED, features
from coterie.heads import Heads
from coterie.images import Images
from coterie.losses import confident_cross_entropy, distribution_entropy, scan_loss
from coterie.methods import Fitted, pretext
from coterie.methods.pretext import PretextConfig
from coterie.neighbours import nearest
from coterie.pseudo_labels import confident
from coterie.run import Run
from coterie.schedule import cosine, set_rate


@dataclass(frozen=True)
class Config(PretextConfig):
    """Settings of SCAN. Numbers without a source were found on digits, Fashion-MNIST and CIFAR-10 (benchmarks/results)."""

    n_neighbors: int = 20  # SCAN sec. 3.1 (50 on ImageNet)
    include_self: bool = True  # an image may be drawn as its own neighbour, as in the published code
    n_heads: int = 10  # the published code uses 1 on small sets, 10 on ImageNet; ten cost about one
    entropy_weight: float = 5.0  # SCAN sec. 3.1
    cluster_epochs: int = 20
    cluster_steps: int = 30  # least updates an epoch; small sets are gone through several times
    cluster_batch: int = 1000
    cluster_rate: float = 3e-3  # Adam, encoder frozen
    selflabel_epochs: int = 20  # at most
    selflabel_batch: int = 256
    selflabel_rate: float = 1e-3  # Adam
    threshold: float = 0.99  # SCAN sec. 3.1, strict
    balance: bool = True  # clusters count equally in the self-labelling loss
    patience: int = 3  # epochs without more confident images before self-labelling stops


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    z_ND = run.once("features", features, encoder, images, run)
    neighbours_NK = run.once("neighbours", nearest, z_ND, min(config.n_neighbors, len(images) - 1)).index_NK
    head = cluster(z_ND, neighbours_NK, config, run)
    clustered = Fitted.from_parts(encoder, head, z_ND)
    if not config.selflabel_epochs or config.encoder == PRECOMPUTED:
        return clustered
    return self_label(clustered, neighbours_NK, images, config, run)


def cluster(z_ND: Tensor, neighbours_NK: Tensor, config: Config, run: Run) -> Heads:
    """Stage 3 on a frozen encoder: H heads at once; the head and epoch of lowest loss over the whole set is returned."""
    n, device = len(z_ND), z_ND.device
    heads: Heads = run.new("heads", Heads, z_ND.shape[1], config.n_clusters, config.n_heads)  # type: ignore[assignment]
    heads.standardise(z_ND)
    best = heads.select(0)
    optimizer = Adam(heads.parameters())
    chosen = {"score": float("inf"), "epoch": 0, "head": 0}
    batch_size = min(config.cluster_batch, n)
    steps = max(config.cluster_steps, n // batch_size)
    candidates_NK = torch.cat([torch.arange(n, device=device)[:, None], neighbours_NK], 1)[:, 0 if config.include_self else 1 :]

    for epoch in run.epochs("clustering", config.cluster_epochs, share=0.3, heads=heads, best=best, optimizer=optimizer, chosen=chosen):
        rng = run.rng("clustering", epoch)
        for step in range(steps):
            set_rate(optimizer, cosine(run.done(epoch + step / steps, config.cluster_epochs), config.cluster_rate))
            anchors = torch.randperm(n, generator=rng)[:batch_size].to(device)
            column = torch.randint(candidates_NK.shape[1], (batch_size,), generator=rng).to(device)
            total_H, _, _ = scan_loss(heads(z_ND[anchors]), heads(z_ND[candidates_NK[anchors, column]]), config.entropy_weight)
            run.step(total_H.sum(), optimizer)
        with torch.no_grad():
            p_HNK = heads(z_ND).softmax(-1)
        score_H = label_free_loss(p_HNK, neighbours_NK)
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
    return best


def label_free_loss(p_HNK: Tensor, neighbours_NK: Tensor, chunk: int = 8192) -> Tensor:
    """SCAN's loss per head over the whole set: an image with itself and its 5 nearest, entropy weight 1.0 as the published code compares heads. (H,)."""
    candidates_NK = torch.cat([torch.arange(len(neighbours_NK), device=neighbours_NK.device)[:, None], neighbours_NK[:, :5]], 1)
    total_H = torch.zeros(len(p_HNK), dtype=torch.float64, device=p_HNK.device)
    for rows in candidates_NK.split(chunk):
        similarity_HNC = torch.einsum("hnk,hnck->hnc", p_HNK[:, rows[:, 0]], p_HNK[:, rows])
        total_H -= similarity_HNC.clamp(min=1e-8).log().double().sum((1, 2))
    return total_H / candidates_NK.numel() - distribution_entropy(p_HNK.mean(1))


def self_label(clustered: Fitted, neighbours_NK: Tensor, images: Images, config: Config, run: Run) -> Fitted:
    """Stage 4. Returns whichever of before and after agrees better with the neighbours; the log says which."""
    before = clustered.p_NK.argmax(1)
    encoder, head = clustered.encoder, clustered.head
    network = nn.Sequential(encoder, head)
    start = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = Adam(network.parameters())
    strong = augment.strong(config.augment)
    batch_size = min(config.selflabel_batch, len(images))
    steps = -(-len(images) // batch_size)
    progress = {"most": 0.0, "since": 0.0, "threshold": config.threshold}

    stage = run.epochs("self-labelling", config.selflabel_epochs, encoder=encoder, head=head, optimizer=optimizer, progress=progress)
    for epoch in stage:
        network.train()
        rng, order = run.rng("self-labelling", epoch, run.rank), run.rng("self-labelling-order", epoch)
        sure, skipped, total = 0, 0, 0.0
        for step, batch in enumerate(run.batches(images, batch_size, order)):
            set_rate(optimizer, cosine(run.done(epoch + step / steps, config.selflabel_epochs), config.selflabel_rate))
            with torch.no_grad(), run.autocast():
                p_BK = head(encoder(batch.pixels_B3HW))[0].float().softmax(1)
            labels_B = confident(p_BK, progress["threshold"])
            kept = labels_B >= 0
            if int(kept.sum()) < 2:  # batch norm needs two
                skipped += 1
                continue
            with run.autocast():
                logits_BK = head(encoder(strong(batch.pixels_B3HW[kept], rng)))[0]
            loss = confident_cross_entropy(logits_BK, labels_B[kept], config.balance)
            run.step(loss, optimizer)
            sure, total = sure + int(kept.sum()), total + float(loss.detach())
        share = sure / len(images)
        run.log(loss=total / max(1, step + 1 - skipped), confident=share, skipped=skipped, threshold=progress["threshold"])
        if share < 0.01:
            progress["threshold"] = max(0.5, progress["threshold"] - 0.1)
            run.note(f"fewer than 1 % of the images were confident: the threshold is now {progress['threshold']:.2f}")
        if share > progress["most"]:
            progress.update(most=share, since=0)
        else:
            progress["since"] += 1
        if progress["since"] >= config.patience:
            run.end("self-labelling", encoder=encoder, head=head, optimizer=optimizer, progress=progress)
            break

    z_ND = run.once("features-labelled", features, encoder, images, run)
    labelled = Fitted.from_parts(encoder, head, z_ND)
    after = labelled.p_NK.argmax(1)
    scores = agreement(before, neighbours_NK), agreement(after, neighbours_NK)
    run.note(f"neighbours agree (corrected for chance): {scores[0]:.3f} before self-labelling, {scores[1]:.3f} after")
    if scores[1] >= scores[0]:
        return labelled
    run.note("self-labelling made it worse by that score: the clustering stage is returned")
    network.load_state_dict(start)
    return clustered
