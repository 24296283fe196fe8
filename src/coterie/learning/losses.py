"""Losses: pure functions, logits or features in, a scalar out; no state, no devices, no ranks. Computed in float32 or better.

Those of instance discrimination and what grew from it are in instance_losses.py.
Shapes: N images, B batch, V views, D feature, H heads, K clusters or neighbours, M queue or negatives.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-8  # lower bound of a mean probability inside a logarithm (the published SCAN code's value)


def softmax(logits_BK: Tensor) -> Tensor:
    """Probabilities along the last dimension, in float32 or better. Computed across rows: along ten or so numbers of a row a CPU takes
    twenty times as long (200,000 numbers, one core: 4.8 against 0.24 ms)."""
    return at_least_float(logits_BK).mT.softmax(-2).mT


def scan_loss(
    anchor_logits_BK: Tensor, neighbour_logits_BK: Tensor, entropy_weight: float = 5.0, prior_K: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """SCAN's clustering loss (eq. 2) for one head, or for H heads at once (leading dimension H; then each result is (H,)).

    Returns (total, consistency, entropy): consistency = -mean log <p, q> between an image and its neighbour,
    entropy = that of the anchors' mean probability (positive; the published code takes the anchors only),
    total = consistency - entropy_weight * entropy. Weight 5.0: SCAN sec. 3.1. `prior_K`: shares to keep to instead of even ones, in any
    order: which cluster is the large one is not known before, so the largest share is asked of the cluster that has most (`by_rank`).
    The logarithm is clamped at -100 and its gradient's denominator at 1e-12, so that opposite pairs stay finite.
    """
    p, q = softmax(anchor_logits_BK), softmax(neighbour_logits_BK)
    similarity = (p * q).sum(-1).clamp(max=1.0)
    consistency = F.binary_cross_entropy(similarity, torch.ones_like(similarity), reduction="none").mean(-1)
    mean = p.mean(-2)
    entropy = distribution_entropy(mean, None if prior_K is None else by_rank(prior_K, mean))
    return consistency - entropy_weight * entropy, consistency, entropy


def distribution_entropy(p_K: Tensor, prior_K: Tensor | None = None) -> Tensor:
    """-sum p log p over the last dimension, in nats; probabilities below 1e-8 count as 1e-8.

    With a prior -sum p log(p / prior), at most 0: minus the divergence from it. An even prior gives the entropy less log K.
    """
    p = p_K.clamp(min=TINY)
    log = p.log() if prior_K is None else p.log() - prior_K.clamp(min=TINY).log()
    return -(p * log).sum(-1)


def by_rank(prior_K: Tensor, p_K: Tensor) -> Tensor:
    """The shares of the prior in the order of p's, over the last dimension: the largest where p is largest. Shaped as p; no gradient.
    A prior (H, K), of each head its own, stays as it stands."""
    return prior_K if prior_K.ndim > 1 else prior_K.sort().values[p_K.detach().argsort(-1).argsort(-1)]


def confident_cross_entropy(strong_logits_BK: Tensor, pseudo_labels_B: Tensor, balance: bool = True) -> Tensor:
    """SCAN's self-labelling loss: cross-entropy of the strongly augmented images against pseudo-labels; -1 rows are ignored.

    balance: a class counts in inverse proportion to its confident images (n / count; sec. 3.1), the mean divides by the sum of weights.
    0.0, still differentiable, when no row is left.
    """
    logits, kept = at_least_float(strong_logits_BK), pseudo_labels_B >= 0
    some = kept.any()  # stays on the device, as all here: the host does not wait for it
    weights = None
    if balance:
        counts = (pseudo_labels_B[:, None] == torch.arange(logits.shape[1], device=logits.device)).sum(0).to(logits)
        weights = torch.where(counts > 0, kept.sum() / counts.clamp(min=1), 1.0).to(logits)
    labels_B = torch.where(some, pseudo_labels_B, 0)  # the mean of no row would be no number
    return F.cross_entropy(logits, labels_B, weight=weights, ignore_index=-1) * some


def cross_entropy(logits_BK: Tensor, labels_B: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean cross-entropy against pseudo-labels; -1 rows are ignored. () for (B, K) logits; (H,), one mean a head, for (H, B, K) ones.

    `temperature` divides the logits (SPICE's ablation tried 0.01 to 2 and kept 0.2, sec. IV-F2). A head with no row left has 0.0, still
    differentiable.
    """
    logits, kept = at_least_float(logits_BK) / temperature, labels_B >= 0
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
    logits_HVBK = torch.einsum("vbd,hkd->hvbk", at_least_float(z_VBD), prototypes_HKD)
    return cross_entropy(logits_HVBK.flatten(1, 2), labels_HB.repeat(1, len(z_VBD)), temperature).mean()


def fixmatch(
    weak_logits_BK: Tensor, strong_logits_BK: Tensor, threshold: float = 0.95, temperature: float | None = None
) -> tuple[Tensor, Tensor]:
    """FixMatch's loss of unlabelled images (eq. 4; SPICE eqs. 8 and 9, second term): what the weak view is sure of teaches the strong one.

    Returns (loss, kept share): the mean over the whole batch of the cross-entropy where the weak view's highest probability reaches
    `threshold` (>=; 0.95: FixMatch, SPICE sec. IV-B), 0 elsewhere, and the share of images where it does. No gradient goes into the
    weak view. The target is its most probable cluster, or, given a `temperature`, softmax(logits / temperature).
    """
    weak, strong = at_least_float(weak_logits_BK.detach()), at_least_float(strong_logits_BK)
    p_max, labels = weak.softmax(-1).max(-1)
    kept = p_max >= threshold
    targets = labels if temperature is None else (weak / temperature).softmax(-1).to(strong.dtype)
    losses = F.cross_entropy(strong, targets, reduction="none")
    return torch.where(kept, losses, 0.0).mean(), kept.to(losses.dtype).mean()


def temi_loss(
    student_logits_BK: Tensor, teacher_p_BK: Tensor, marginal_K: Tensor, weight_B: Tensor | None = None, beta: float = 0.6
) -> Tensor:
    """TEMI's loss: minus the pointwise mutual information of a pair, log sum_c (q_s(c|x) q_t(c|x'))^beta / q_t(c), its mean.

    The student sees one image, the teacher its neighbour; no gradient goes into the teacher or the marginal q_t(c), a running mean.
    weight_B: how surely a pair shares a cluster, sum_c q_t(c|x) q_t(c|x') averaged over heads. beta 0.6: the paper; below 1 it keeps
    clusters from emptying. Heads in front, (H, B, K) and (H, K): each its own, (H,).
    """
    log_q_BK = at_least_float(student_logits_BK).mT.log_softmax(-2).mT
    shared_BK = beta * (log_q_BK + teacher_p_BK.detach().clamp(min=TINY).log()) - marginal_K.clamp(min=TINY).log()[..., None, :]
    information_B = shared_BK.mT.logsumexp(-2)
    return -(information_B if weight_B is None else information_B * weight_B).mean(-1)


def turtle_loss(labelling_BK: Tensor, probe_logits_BK: list[Tensor], entropy_weight: float = 10.0) -> Tensor:
    """TURTLE's loss of a labelling: the cross-entropy of linear classifiers that were fitted to it, summed over spaces, less
    gamma times the entropy of the mean label.

    labelling_BK  probabilities, through which the gradient goes; probe_logits_BK: of each space, (B, K), no gradient goes into them.
    gamma 10: the paper. Heads in front, (H, B, K): each its own, (H,).
    """
    misfit = sum(-(labelling_BK * logits.detach().mT.log_softmax(-2).mT).sum(-1).mean(-1) for logits in probe_logits_BK)
    return misfit - entropy_weight * distribution_entropy(labelling_BK.mean(-2))


def information_loss(p_BK: Tensor, q_BK: Tensor, weight: float = 1.0) -> Tensor:
    """IIC's loss (eqs. 2 and 3): minus the mutual information of the clusters of two views, whose joint distribution is that of the batch.

    p_BK, q_BK  probabilities of either view; P = mean of their outer products, made symmetric; -sum P (log P - weight (log P_i + log P_j)).
    weight 1: the mutual information (the paper); more of it keeps clusters even (the published code's lambda). Heads in front, (H, B, K):
    each its own, (H,).
    """
    joint_KK = torch.einsum("...bk,...bl->...kl", at_least_float(p_BK), at_least_float(q_BK)) / p_BK.shape[-2]
    joint_KK = ((joint_KK + joint_KK.mT) / 2).clamp(min=TINY)
    one_KK, other_KK = joint_KK.sum(-1, keepdim=True), joint_KK.sum(-2, keepdim=True)
    return -(joint_KK * (joint_KK.log() - weight * (one_KK.log() + other_KK.log()))).sum((-2, -1))


def cluster_contrast(p_BK: Tensor, q_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """CC's loss of clusters (eqs. 4 to 6): the column of each cluster finds that of the other view among all columns, less the entropy of
    the clusters' shares in both views.

    p_BK, q_BK  probabilities of either view; columns are compared by cosine. Temperature 1.0: the paper.
    """
    p, q = at_least_float(p_BK), at_least_float(q_BK)
    columns_KVB = torch.stack([F.normalize(p.T, dim=1), F.normalize(q.T, dim=1)], 1)
    entropy = distribution_entropy(p.mean(0)) + distribution_entropy(q.mean(0))
    return nt_xent(columns_KVB, temperature, symmetric=True) - entropy


def partition_uncertainty(p_BK: Tensor, q_BK: Tensor, weight: float = 2.0) -> Tensor:
    """PICA's loss (eqs. 6 to 9): the column of each cluster finds its own among those of the other view, by cosine, and `weight` times how
    far the clusters' shares are from even, log K less their entropy.

    p_BK, q_BK  probabilities of either view. Weight 2: the paper.
    """
    p, q = at_least_float(p_BK), at_least_float(q_BK)
    cosines_KK = F.normalize(p, dim=0).T @ F.normalize(q, dim=0)
    k = p.shape[1]
    uneven = math.log(k) - distribution_entropy(p.mean(0))
    return F.cross_entropy(cosines_KK, torch.arange(k, device=p.device)) + weight * uneven


def nt_xent(features_BVD: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """SimCLR's loss over V = 2 unit views of B images: each anchor finds its other view among the 2B - 1 other rows.

    symmetric=False: anchors are view 0 only, as in SCAN's published code; True: both views, as in the SimCLR paper.
    """
    assert features_BVD.shape[1] == 2, f"two views, not {features_BVD.shape[1]}"
    first, second = at_least_float(features_BVD).unbind(1)
    rows = torch.cat([first, second])
    anchors = rows if symmetric else first
    n, m = len(first), len(anchors)
    logits = anchors @ rows.T / temperature
    itself = torch.arange(m, device=rows.device)
    logits[itself, itself] = float("-inf")
    return F.cross_entropy(logits, (itself + n) % (2 * n))


def info_nce(query_BD: Tensor, key_BD: Tensor, queue_MD: Tensor, temperature: float, own_BM: Tensor | None = None) -> Tensor:
    """MoCo's loss: each query finds its own key among the M keys of the queue; unit rows, no gradient into keys or queue.

    own_BM  bool: keys of the queue that are of the query's own image, and so no negatives of it; None: there are none, as published
    """
    query = at_least_float(query_BD)
    positive = (query * key_BD.detach()).sum(1, keepdim=True)
    negative_BM = query @ queue_MD.detach().T.to(query.dtype)
    negative_BM = negative_BM if own_BM is None else negative_BM.masked_fill(own_BM, -torch.inf)
    logits = torch.cat([positive, negative_BM], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def at_least_float(x: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is."""
    return x if x.dtype == torch.float64 else x.float()
