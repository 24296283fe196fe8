"""TEMI: Exploring the Limits of Deep Image Clustering using Pretrained Models (Adaloglou, Michels, Kalisch, Kollmann, BMVC 2023), sec. 3.

    1. features         of a frozen encoder                                                     (any pretext)
    2. pairs            each image x with one x' of its nearest neighbours
    3. repeat           H student heads q_s, H teacher heads q_t that follow them slowly;
                        raise the pointwise mutual information of pairs, log sum_c (q_s(c|x) q_t(c|x'))^beta / q_t(c),
                        each pair weighted by how surely the teachers say it shares a cluster; q_t(c), the clusters' shares, a running mean

The teachers' heads are returned, the best of them chosen without labels. docs/methods/temi.md lists every difference from the published
code. Shapes: N images, B batch, D feature, d components, H heads, K clusters or neighbours.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import AdamW

from coterie.images import Images
from coterie.learning.diagnose import vital_signs
from coterie.learning.losses import softmax, temi_loss
from coterie.learning.schedule import cosine, set_rate
from coterie.methods import frozen, pretext
from coterie.methods.bounds import Amount, BelowOne, Count, Positive, Whole
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.networks.heads import Heads, UnitHeads, folded
from coterie.networks.teacher import follow, teacher_of
from coterie.run import Run

JUDGED = 5  # neighbours of each image over which heads are compared by loss
SHARES = 0.9  # memory of the running mean of the clusters' shares, an update (the published code)


@dataclass(frozen=True)
class Config(frozen.Config):
    """Settings of TEMI. Numbers without a source were found on Caltech-101's first fifty classes (benchmarks/results/heads.csv)."""

    beta: Positive = 0.6  # the paper; below 1 keeps clusters from emptying
    temperature: Positive = 0.1  # divides the logits of student and teacher (the published code)
    weighted: bool = True  # pairs count as surely as they share a cluster
    epochs: Whole = 10  # 100 in the published code, from a random start
    steps: Count = 10  # least updates an epoch
    batch: Count = 512  # images, each with one neighbour (the published code)
    rate: Positive = 3e-3  # peak, AdamW, cosine (1e-4 in the published code)
    decay: Amount = 1e-4  # weight decay (the published code)
    momentum: BelowOne = 0.99  # of the teacher, an update (0.996 in the published code, for more updates)
    choice: Literal["discord", "loss"] = "discord"  # of the head: how often neighbours differ, and uneven sizes; loss: the paper's


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    z_ND = pretext.features_of(encoder, images, config, run)
    found = Fitted.from_parts(encoder, inform(z_ND, config, run), z_ND)
    return found if config.final == "heads" else assign(encoder, images, config, run)


def inform(z_ND: Tensor, config: Config, run: Run) -> UnitHeads:
    """Stages 2 and 3: H heads at once; the teacher's head that `choice` finds best over the whole set in the last epoch is returned."""
    rows, found, count = frozen.prepare(z_ND, config, run)
    z_Nd, index_NK, n = rows.rows_Nd, found.index_NK[:, :count], len(z_ND)
    heads: Heads = run.new("heads", Heads, z_Nd.shape[1], config.n_clusters, config.n_heads)  # type: ignore[assignment]
    frozen.begin(heads, z_ND, z_Nd, found, count, config, run, config.temperature)
    teacher = teacher_of(heads)
    best = heads.select(0)
    optimizer = AdamW(heads.parameters(), weight_decay=config.decay)
    shares_HK = torch.full((config.n_heads, config.n_clusters), 1 / config.n_clusters, device=z_Nd.device)
    batch_size = min(config.batch, n)
    steps = max(config.steps, n // batch_size)

    state: dict[str, Any] = {"heads": heads, "teacher": teacher, "best": best, "optimizer": optimizer, "shares": shares_HK}
    for epoch in run.epochs("information", config.epochs, **state):
        rng = run.rng("information", epoch)
        for step in range(steps):
            set_rate(optimizer, cosine(run.done(epoch + step / steps, config.epochs), config.rate))
            anchors = torch.randperm(n, generator=rng)[:batch_size].to(z_Nd.device)
            column = torch.randint(index_NK.shape[1], (batch_size,), generator=rng).to(z_Nd.device)
            z_2Bd = torch.cat([z_Nd[anchors], z_Nd[index_NK[anchors, column]]])
            with torch.no_grad():
                q_H2BK = softmax(teacher(z_2Bd) / config.temperature)
                here_HBK, there_HBK = q_H2BK.split(batch_size, 1)
                shares_HK.lerp_(q_H2BK.mean(1), 1 - SHARES)
                weight_B = (here_HBK * there_HBK).sum(-1).mean(0) if config.weighted else None
            one_HBK, other_HBK = (heads(z_2Bd) / config.temperature).split(batch_size, 1)
            loss_H = temi_loss(one_HBK, there_HBK, shares_HK, weight_B, config.beta) / 2
            loss_H = loss_H + temi_loss(other_HBK, here_HBK, shares_HK, weight_B, config.beta) / 2
            run.step(loss_H.sum(), optimizer)
            follow(teacher, heads, config.momentum)
        with torch.no_grad():
            p_HNK = softmax(teacher(z_Nd) / config.temperature)
        score_H = frozen.scores(p_HNK, index_NK) if config.choice == "discord" else whole_loss(p_HNK, index_NK, config.beta)
        head = int(score_H.argmin())
        best.load_state_dict(teacher.select(head).state_dict())  # type: ignore[operator]
        run.trace(p_HNK.argmax(-1).cpu())
        told = {"scores": [round(s, 4) for s in score_H.tolist()], "score": float(score_H[head]), "head": head}
        run.log(loss=loss_H.mean(), **told, **vital_signs(p_HNK[head]))
    with torch.no_grad():
        best.weight.div_(config.temperature)
        best.bias.div_(config.temperature)
    return folded(best, rows)


def whole_loss(p_HNK: Tensor, index_NK: Tensor, beta: float) -> Tensor:
    """The loss of each head over the whole set, (H,): each image with its five nearest, all pairs alike; shares as they are."""
    shares_HK, log_HNK, near_NK = p_HNK.mean(1), p_HNK.clamp(min=1e-30).log(), index_NK[:, :JUDGED]
    losses = [temi_loss(log_HNK, p_HNK[:, near_N], shares_HK, beta=beta) for near_N in near_NK.T]
    return torch.stack(losses).mean(0)
