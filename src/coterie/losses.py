"""Losses: pure functions, logits or features in, a scalar out; no state, no devices, no ranks. Computed in float32 or better.

Shapes: B batch, V views, D feature, H heads, K clusters, M queue.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-8  # lower bound of a mean probability inside a logarithm (the published SCAN code's value)


def softmax(logits_BK: Tensor) -> Tensor:
    """Probabilities along the last dimension, in float32 or better. Computed across rows: along ten or so numbers of a row a CPU takes
    twenty times as long (200,000 numbers, one core: 4.8 against 0.24 ms)."""
    return _float(logits_BK).mT.softmax(-2).mT


def scan_loss(
    anchor_logits_BK: Tensor, neighbour_logits_BK: Tensor, entropy_weight: float = 5.0, prior_K: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """SCAN's clustering loss (eq. 2) for one head, or for H heads at once (leading dimension H; then each result is (H,)).

    Returns (total, consistency, entropy): consistency = -mean log <p, q> between an image and its neighbour,
    entropy = that of the anchors' mean probability (positive; the published code takes the anchors only),
    total = consistency - entropy_weight * entropy. Weight 5.0: SCAN sec. 3.1. `prior_K`: shares to keep to instead of even ones.
    The logarithm is clamped at -100 and its gradient's denominator at 1e-12, so that opposite pairs stay finite.
    """
    p, q = softmax(anchor_logits_BK), softmax(neighbour_logits_BK)
    similarity = (p * q).sum(-1).clamp(max=1.0)
    consistency = F.binary_cross_entropy(similarity, torch.ones_like(similarity), reduction="none").mean(-1)
    entropy = distribution_entropy(p.mean(-2), prior_K)
    return consistency - entropy_weight * entropy, consistency, entropy


def distribution_entropy(p_K: Tensor, prior_K: Tensor | None = None) -> Tensor:
    """-sum p log p over the last dimension, in nats; probabilities below 1e-8 count as 1e-8.

    With a prior -sum p log(p / prior), at most 0: minus the divergence from it. An even prior gives the entropy less log K.
    """
    p = p_K.clamp(min=TINY)
    log = p.log() if prior_K is None else p.log() - prior_K.clamp(min=TINY).log()
    return -(p * log).sum(-1)


def confident_cross_entropy(strong_logits_BK: Tensor, pseudo_labels_B: Tensor, balance: bool = True) -> Tensor:
    """SCAN's self-labelling loss: cross-entropy of the strongly augmented images against pseudo-labels; -1 rows are ignored.

    balance: a class counts in inverse proportion to its confident images (n / count; sec. 3.1), the mean divides by the sum of weights.
    0.0, still differentiable, when no row is left.
    """
    logits, kept = _float(strong_logits_BK), pseudo_labels_B >= 0
    if not bool(kept.any()):
        return logits.sum() * 0.0
    weights = None
    if balance:
        counts = torch.bincount(pseudo_labels_B[kept], minlength=logits.shape[1]).to(logits)
        weights = torch.where(counts > 0, kept.sum() / counts.clamp(min=1), 1.0).to(logits)
    return F.cross_entropy(logits, pseudo_labels_B, weight=weights, ignore_index=-1)


def cross_entropy(logits_BK: Tensor, labels_B: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy against pseudo-labels; -1 rows are ignored. () for (B, K) logits; (H,), one mean a head, for (H, B, K) ones.

    `temperature` divides the logits (SPICE's ablation tried 0.01 to 2 and kept 0.2, sec. IV-F2). A head with no row left has 0.0, still
    differentiable.
    """
    logits, kept = _float(logits_BK) / temperature, labels_B >= 0
    across_HKB = logits.mT.reshape(-1, logits.shape[-1], logits.shape[-2])  # as in `softmax`
    losses = F.cross_entropy(across_HKB, labels_B.reshape(-1, logits.shape[-2]), ignore_index=-1, reduction="none")
    return losses.view(labels_B.shape).sum(-1) / kept.sum(-1).clamp(min=1)


def double_softmax_cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """SPICE's loss of the heads (eq. 5): the softmax's probabilities go into the cross-entropy as if they were logits.

    It learns more slowly from labels that may be wrong (app. A), and lies between log(1 + (K - 1) / e) and log(K - 1 + e). Otherwise as
    `cross_entropy`.
    """
    return cross_entropy(softmax(logits_BK), labels_B)


def prototype_loss(z_VBD: Tensor, prototypes_HKD: Tensor, labels_HB: Tensor, temperature: float = 0.1) -> Tensor:
    """DeepCluster-v2's loss: cross-entropy of the cosines of V views with each head's fixed prototypes, the mean of the heads.

    z_VBD unit features of the views; labels_HB the pseudo-label of an image in each head, -1 rows are ignored. Temperature 0.1: Caron et
    al. 2020, the published code.
    """
    logits_HVBK = torch.einsum("vbd,hkd->hvbk", _float(z_VBD), prototypes_HKD)
    return cross_entropy(logits_HVBK.flatten(1, 2), labels_HB.repeat(1, len(z_VBD)), temperature).mean()


def fixmatch(
    weak_logits_BK: Tensor, strong_logits_BK: Tensor, threshold: float = 0.95, temperature: float | None = None
) -> tuple[Tensor, Tensor]:
    """FixMatch's loss of unlabelled images (eq. 4; SPICE eqs. 8 and 9, second term): what the weak view is sure of teaches the strong one.

    Returns (loss, kept share): the mean over the whole batch of the cross-entropy where the weak view's highest probability reaches
    `threshold` (>=; 0.95: FixMatch, SPICE sec. IV-B), 0 elsewhere, and the share of images where it does. No gradient goes into the
    weak view. The target is its most probable cluster, or, given a `temperature`, softmax(logits / temperature).
    """
    weak, strong = _float(weak_logits_BK.detach()), _float(strong_logits_BK)
    p_max, labels = weak.softmax(-1).max(-1)
    kept = p_max >= threshold
    targets = labels if temperature is None else (weak / temperature).softmax(-1).to(strong.dtype)
    losses = F.cross_entropy(strong, targets, reduction="none")
    return torch.where(kept, losses, 0.0).mean(), kept.to(losses.dtype).mean()


def nt_xent(features_BVD: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """SimCLR's loss over V = 2 unit views of B images: each anchor finds its other view among the 2B - 1 other rows.

    symmetric=False: anchors are view 0 only, as in SCAN's published code; True: both views, as in the SimCLR paper.
    """
    assert features_BVD.shape[1] == 2, f"two views, not {features_BVD.shape[1]}"
    first, second = _float(features_BVD).unbind(1)
    rows = torch.cat([first, second])
    anchors = rows if symmetric else first
    n, m = len(first), len(anchors)
    logits = anchors @ rows.T / temperature
    itself = torch.arange(m, device=rows.device)
    logits[itself, itself] = float("-inf")
    return F.cross_entropy(logits, (itself + n) % (2 * n))


def info_nce(query_BD: Tensor, key_BD: Tensor, queue_MD: Tensor, temperature: float) -> Tensor:
    """MoCo's loss: each query finds its own key among the M keys of the queue; unit rows, no gradient into keys or queue."""
    query = _float(query_BD)
    positive = (query * key_BD.detach()).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue_MD.detach().T.to(query.dtype)], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
