"""TURTLE: Let Go of Your Labels with Unsupervised Transfer (Gadetsky, Jiang, Brbic, ICML 2024), algorithm 1.

    1. features         of one or several frozen encoders: the spaces                          (any pretext)
    2. labelling        tau(x), the softmax of a linear map of all spaces; it starts from a spectral clustering, or from SCAN's
    3. repeat           M steps of a linear classifier in each space towards tau              (inner problem, warm start)
                        one step of tau towards what these classifiers say, cross-entropy less gamma times the entropy of the mean label

A labelling is good when linear classifiers generalise to it in few steps: then it is about kinds, and not about single images. The gradient
of the labelling goes through its own labels alone, not through the classifiers (the paper's first-order hypergradient). Labels choose
nothing. docs/methods/turtle.md lists every difference from the published code. Shapes: N images, B batch, D feature, d components, H heads,
K clusters.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from coterie.images import Images
from coterie.learning.diagnose import vital_signs
from coterie.learning.losses import softmax, turtle_loss
from coterie.learning.schedule import cosine, set_rate
from coterie.methods import frozen, pretext
from coterie.methods.bounds import Amount, Count, Positive, Whole
from coterie.methods.final import assign
from coterie.methods.fitted import Fitted
from coterie.networks.heads import Heads, UnitHeads, folded
from coterie.run import Run


@dataclass(frozen=True)
class Config(frozen.Config):
    """Settings of TURTLE. Numbers without a source were found on Caltech-101's first fifty classes (benchmarks/results/heads.csv)."""

    epochs: Whole = 6
    steps: Count = 10  # of the labelling, an epoch (6,000 in all in the paper, from a random start)
    inner_steps: Count = 10  # of the classifiers for each of these (the paper's M)
    batch: Count = 3000  # images a step, all when there are fewer (10,000 in the paper)
    rate: Positive = 2e-2  # peak, Adam, cosine; of the labelling (1e-3 in the paper)
    inner_rate: Positive = 2e-2  # Adam; of the classifiers (1e-3 in the paper)
    entropy_weight: Amount = 10.0  # gamma, the paper's
    warm_start: bool = True  # the classifiers go on from where they were; else anew from zero for each step of the labelling


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    z_ND = pretext.features_of(encoder, images, config, run)
    found = Fitted.from_parts(encoder, label(z_ND, config, run), z_ND)
    return found if config.final == "heads" else assign(encoder, images, config, run)


def label(z_ND: Tensor, config: Config, run: Run) -> UnitHeads:
    """Stages 2 and 3: H labellings at once; the one with which neighbours differ least in the last epoch is returned."""
    rows, found, count = frozen.prepare(z_ND, config, run)
    z_Nd, widths, index_NK = rows.rows_Nd, rows.widths.tolist(), found.index_NK[:, :count]
    heads: Heads = run.new("labelling", Heads, z_Nd.shape[1], config.n_clusters, config.n_heads)  # type: ignore[assignment]
    frozen.begin(heads, z_ND, z_Nd, found, count, config, run)
    probes = run.new("classifiers", Classifiers, widths, config.n_clusters, config.n_heads)
    best = heads.select(0)
    optimizer, inner = Adam(heads.parameters()), Adam(probes.parameters(), config.inner_rate)
    batch_size = min(config.batch, len(z_Nd))

    state: dict[str, Any] = {"heads": heads, "probes": probes, "best": best, "optimizer": optimizer, "inner": inner}
    for epoch in run.epochs("labelling", config.epochs, **state):
        rng = run.rng("labelling", epoch)
        for step in range(config.steps):
            set_rate(optimizer, cosine(run.done(epoch + step / config.steps, config.epochs), config.rate))
            z_Bd = z_Nd if batch_size == len(z_Nd) else z_Nd[torch.randperm(len(z_Nd), generator=rng)[:batch_size].to(z_Nd.device)]
            parts = z_Bd.split(widths, 1)
            if not config.warm_start:
                restart(probes, inner)
            tau_HBK = softmax(heads(z_Bd))
            for _ in range(config.inner_steps):
                run.step(misfit(probes, parts, tau_HBK.detach()), inner)
            with torch.no_grad():
                said = probes(parts)
            loss_H = turtle_loss(tau_HBK, said, config.entropy_weight)
            run.step(loss_H.sum(), optimizer)
        with torch.no_grad():
            p_HNK = softmax(heads(z_Nd))
        score_H = frozen.scores(p_HNK, index_NK)
        head = int(score_H.argmin())
        best.load_state_dict(heads.select(head).state_dict())
        run.trace(p_HNK.argmax(-1).cpu())
        told = {"scores": [round(s, 4) for s in score_H.tolist()], "score": float(score_H[head]), "head": head}
        run.log(loss=loss_H.mean(), **told, **vital_signs(p_HNK[head]))
    return folded(best, rows)


class Classifiers(nn.ModuleList):
    """A linear classifier in each space, for each of the heads."""

    def __init__(self, widths: list[int], k: int, n_heads: int):
        super().__init__(Heads(width, k, n_heads) for width in widths)

    def forward(self, parts: tuple[Tensor, ...]) -> list[Tensor]:
        """The features of each space (B, d) -> the logits there (H, B, K)."""
        return [probe(part) for probe, part in zip(self, parts)]


def misfit(probes: nn.Module, parts: tuple[Tensor, ...], labels_HBK: Tensor) -> Tensor:
    """How far the classifiers are from the labels: the inner problem's cross-entropy, summed over spaces and heads."""
    k = labels_HBK.shape[-1]
    said = (logits_HBK.mT.reshape(-1, k, labels_HBK.shape[1]) for logits_HBK in probes(parts))
    return sum((F.cross_entropy(logits_HKB, labels_HBK.mT, reduction="sum") / labels_HBK.shape[1] for logits_HKB in said), torch.zeros(()))


@torch.no_grad()
def restart(probes: nn.Module, inner: Adam) -> None:
    """Classifiers, and what their optimizer remembers, at zero."""
    for weight in probes.parameters():
        weight.zero_()
    inner.state.clear()
