"""Losses: pure functions, logits or features in, a scalar out; no state, no devices, no ranks. Computed in float32 or better.

Shapes: N images, B batch, V views, D feature, H heads, K clusters or neighbours, M queue or negatives.
A bank (N, D) holds a unit feature of each image; no gradient goes into it.
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
    logits, kept = _float(strong_logits_BK), pseudo_labels_B >= 0
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


def temi_loss(
    student_logits_BK: Tensor, teacher_p_BK: Tensor, marginal_K: Tensor, weight_B: Tensor | None = None, beta: float = 0.6
) -> Tensor:
    """TEMI's loss: minus the pointwise mutual information of a pair, log sum_c (q_s(c|x) q_t(c|x'))^beta / q_t(c), its mean.

    The student sees one image, the teacher its neighbour; no gradient goes into the teacher or the marginal q_t(c), a running mean.
    weight_B: how surely a pair shares a cluster, sum_c q_t(c|x) q_t(c|x') averaged over heads. beta 0.6: the paper; below 1 it keeps
    clusters from emptying. Heads in front, (H, B, K) and (H, K): each its own, (H,).
    """
    log_q_BK = _float(student_logits_BK).mT.log_softmax(-2).mT
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
    joint_KK = torch.einsum("...bk,...bl->...kl", _float(p_BK), _float(q_BK)) / p_BK.shape[-2]
    joint_KK = ((joint_KK + joint_KK.mT) / 2).clamp(min=TINY)
    one_KK, other_KK = joint_KK.sum(-1, keepdim=True), joint_KK.sum(-2, keepdim=True)
    return -(joint_KK * (joint_KK.log() - weight * (one_KK.log() + other_KK.log()))).sum((-2, -1))


def cluster_contrast(p_BK: Tensor, q_BK: Tensor, temperature: float = 1.0) -> Tensor:
    """CC's loss of clusters (eqs. 4 to 6): the column of each cluster finds that of the other view among all columns, less the entropy of
    the clusters' shares in both views.

    p_BK, q_BK  probabilities of either view; columns are compared by cosine. Temperature 1.0: the paper.
    """
    p, q = _float(p_BK), _float(q_BK)
    columns_KVB = torch.stack([F.normalize(p.T, dim=1), F.normalize(q.T, dim=1)], 1)
    entropy = distribution_entropy(p.mean(0)) + distribution_entropy(q.mean(0))
    return nt_xent(columns_KVB, temperature, symmetric=True) - entropy


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


def decorrelation(features_BD: Tensor, temperature: float = 2.0) -> Tensor:
    """IDFD's loss of features (eq. 8): each column of a batch of unit rows, at unit length itself, is told from the other columns. The
    mean over columns; temperature 2: the paper."""
    columns_DB = F.normalize(_float(features_BD).T, dim=1)
    return F.cross_entropy(columns_DB @ columns_DB.T / temperature, torch.arange(len(columns_DB), device=columns_DB.device))


def info_nce(query_BD: Tensor, key_BD: Tensor, queue_MD: Tensor, temperature: float, own_BM: Tensor | None = None) -> Tensor:
    """MoCo's loss: each query finds its own key among the M keys of the queue; unit rows, no gradient into keys or queue.

    own_BM  bool: keys of the queue that are of the query's own image, and so no negatives of it; None: there are none, as published
    """
    query = _float(query_BD)
    positive = (query * key_BD.detach()).sum(1, keepdim=True)
    negative_BM = query @ queue_MD.detach().T.to(query.dtype)
    negative_BM = negative_BM if own_BM is None else negative_BM.masked_fill(own_BM, -torch.inf)
    logits = torch.cat([positive, negative_BM], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


# ---- instance discrimination and what grew from it; nothing larger than batch x images is built


def bank_cross_entropy(features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, temperature: float) -> Tensor:
    """Instance discrimination (Wu et al. 2018, eq. 3): each feature finds its own image's among all N of the bank. Mean over the batch."""
    return F.cross_entropy(_bank_logits(features_BD, bank_ND, temperature), index_B.to(features_BD.device))


def noise_contrastive(
    features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, noise_BM: Tensor, temperature: float, normaliser: Tensor
) -> Tensor:
    """Instance discrimination against M images drawn at random, in place of all N (Wu et al. 2018, eqs. 5 to 7). Mean over the batch.

    noise_BM: ids, drawn uniformly, the image's own perhaps among them, as in the published code. normaliser: the constant Z of the softmax,
    (), which `softmax_normaliser` estimates once.
    """
    p_BM = _scores(features_BD, index_B, bank_ND, noise_BM, temperature) / normaliser
    expected = noise_BM.shape[1] / len(bank_ND)  # M times the noise's probability of any one image
    own_B, other_BM = p_BM[:, 0], p_BM[:, 1:]
    return -((own_B / (own_B + expected)).log() + (expected / (other_BM + expected)).log().sum(1)).mean()


def softmax_normaliser(features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, noise_BM: Tensor, temperature: float) -> Tensor:
    """The sum over all images of exp(similarity / temperature): N times its mean over the images themselves and those drawn, ()."""
    return _scores(features_BD.detach(), index_B, bank_ND, noise_BM, temperature).mean() * len(bank_ND)


def purified_cluster_loss(
    features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, labels_N: Tensor, temperature: float, log_outside: bool = True
) -> Tensor:
    """PCP's loss (eqs. 4 to 6): an image of a purified cluster is drawn to all of it, any other image only to itself. Batch mean.

    labels_N     the purified clusters of all images, -1 = an image for itself
    log_outside  -log of the sum of the probabilities of the cluster's images, as in the published code; False: the sum of their -log p,
                 as in the paper, which grows with the cluster's size
    """
    logits_BN = _bank_logits(features_BD, bank_ND, temperature)
    labels_N, index_B = labels_N.to(logits_BN.device), index_B.to(logits_BN.device)
    mine_B = labels_N[index_B]
    mates_BN = (labels_N == mine_B[:, None]) & (mine_B >= 0)[:, None]
    mates_BN[torch.arange(len(index_B), device=index_B.device), index_B] = True
    if log_outside:  # P(i) / P(i among the mates) is P(mates), and cross-entropy needs half the time of two log-sums
        return F.cross_entropy(logits_BN, index_B) - F.cross_entropy(logits_BN.masked_fill(~mates_BN, -torch.inf), index_B)
    return (mates_BN * (logits_BN.logsumexp(1, keepdim=True) - logits_BN)).sum(1).mean()


def neighbourhood_loss(features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, neighbours_NK: Tensor, temperature: float) -> Tensor:
    """AND's loss (Huang et al. 2019, eqs. 3 and 4): an anchor is drawn to itself and its K neighbours, any other image only to itself.

    neighbours_NK  ids, -1 in the rows of images that are no anchors. Mean over the batch.
    """
    log_p_BN = _bank_logits(features_BD, bank_ND, temperature).log_softmax(1)
    index_B = index_B.to(log_p_BN.device)
    neighbours_BK = neighbours_NK.to(log_p_BN.device)[index_B]
    near_BK = log_p_BN.gather(1, neighbours_BK.clamp(min=0)).masked_fill(neighbours_BK < 0, -torch.inf)
    return -torch.cat([log_p_BN.gather(1, index_B[:, None]), near_BK], 1).logsumexp(1).mean()


def spreading_loss(features_VD: Tensor, temperature: float) -> Tensor:
    """Invariant and spreading features (Ye et al. 2019, eq. 5): two views of an image attract each other, those of others repel.

    features_VD: unit rows, all first views, then all second views in the same order. P(k|i) is a softmax over the other V - 1 rows;
    the loss is -mean over i of [log P(other view of i) + sum over the remaining k of log(1 - P(k|i))]. The second factor of each
    similarity takes no gradient, as in the published code.
    """
    rows = _float(features_VD)
    n = len(rows)
    assert n % 2 == 0, f"two views of each image, not {n} rows"
    itself = torch.eye(n, dtype=torch.bool, device=rows.device)
    log_p = (rows @ rows.detach().T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    pair = itself.roll(n // 2, 1)
    repelled = torch.log(-torch.expm1(log_p.masked_fill(itself | pair, -torch.inf).clamp(max=-1e-6)))
    return -(log_p[pair].sum() + repelled.sum()) / n


def _bank_logits(features_BD: Tensor, bank_ND: Tensor, temperature: float) -> Tensor:
    features_BD = _float(features_BD)
    return features_BD / temperature @ bank_ND.detach().to(features_BD).T


def _scores(features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, noise_BM: Tensor, temperature: float) -> Tensor:
    """exp(similarity / temperature) of each image with itself, then with those drawn for it, (B, 1 + M)."""
    ids_BM = torch.cat([index_B[:, None].to(noise_BM.device), noise_BM], 1).to(bank_ND.device)
    features_BD = _float(features_BD)
    return torch.einsum("bd,bmd->bm", features_BD, bank_ND.detach()[ids_BM].to(features_BD)).div(temperature).exp()


def _float(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
