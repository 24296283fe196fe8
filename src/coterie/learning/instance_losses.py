"""Losses of instance discrimination and what grew from it: pure functions, as those of losses.py.

Nothing larger than batch x images is built.
Shapes: N images, B batch, V views, D feature, K neighbours, M negatives.
A bank (N, D) holds a unit feature of each image; no gradient goes into it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.learning.losses import at_least_float


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


def decorrelation(features_BD: Tensor, temperature: float = 2.0) -> Tensor:
    """IDFD's loss of features (eq. 8): each column of a batch of unit rows, at unit length itself, is told from the other columns. The
    mean over columns; temperature 2: the paper."""
    columns_DB = F.normalize(at_least_float(features_BD).T, dim=1)
    return F.cross_entropy(columns_DB @ columns_DB.T / temperature, torch.arange(len(columns_DB), device=columns_DB.device))


def spreading_loss(features_VD: Tensor, temperature: float) -> Tensor:
    """Invariant and spreading features (Ye et al. 2019, eq. 5): two views of an image attract each other, those of others repel.

    features_VD: unit rows, all first views, then all second views in the same order. P(k|i) is a softmax over the other V - 1 rows;
    the loss is -mean over i of [log P(other view of i) + sum over the remaining k of log(1 - P(k|i))]. The second factor of each
    similarity takes no gradient, as in the published code.
    """
    rows = at_least_float(features_VD)
    n = len(rows)
    assert n % 2 == 0, f"two views of each image, not {n} rows"
    itself = torch.eye(n, dtype=torch.bool, device=rows.device)
    log_p = (rows @ rows.detach().T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    pair = itself.roll(n // 2, 1)
    repelled = torch.log(-torch.expm1(log_p.masked_fill(itself | pair, -torch.inf).clamp(max=-1e-6)))
    return -(log_p[pair].sum() + repelled.sum()) / n


def _bank_logits(features_BD: Tensor, bank_ND: Tensor, temperature: float) -> Tensor:
    features_BD = at_least_float(features_BD)
    return features_BD / temperature @ bank_ND.detach().to(features_BD).T


def _scores(features_BD: Tensor, index_B: Tensor, bank_ND: Tensor, noise_BM: Tensor, temperature: float) -> Tensor:
    """exp(similarity / temperature) of each image with itself, then with those drawn for it, (B, 1 + M)."""
    ids_BM = torch.cat([index_B[:, None].to(noise_BM.device), noise_BM], 1).to(bank_ND.device)
    features_BD = at_least_float(features_BD)
    return torch.einsum("bd,bmd->bm", features_BD, bank_ND.detach()[ids_BM].to(features_BD)).div(temperature).exp()
