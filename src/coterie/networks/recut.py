"""A head with another number of clusters, made of one that was trained: some clusters are joined, some divided.

Shapes: B batch, D feature, K clusters before, P parts, S parts of divided clusters, J clusters after.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TINY = 1e-30  # smallest probability whose logarithm is told
FLATTEST = 1e-6  # of a temperature


class Recut(nn.Module):
    """Features (B, D) -> logits (1, B, J), the logarithms of probabilities.

    Each cluster of `before` is one part, or several: a divided one gives its probability to its parts as a softmax of `weight` and `bias`
    tells, on unit rows in half precision, as a run keeps its features: so that new pictures are sorted as those were that were recut.
    A new cluster has the sum of its parts.

    of (P,)        the cluster of `before` that a part is of
    into (P,)      the new cluster that it is in
    temperature    what the logits of `before` are divided by, one number: how sure they may be
    which (S,)     the parts that `weight` (S, D) and `bias` (S,) tell
    """

    of: Tensor
    into: Tensor
    which: Tensor
    weight: Tensor
    bias: Tensor
    temperature: Tensor

    def __init__(self, before: nn.Module, n_features: int, n_before: int, n_clusters: int, n_parts: int, n_divided: int):
        super().__init__()
        self.before, self.n_before, self.n_clusters = before, n_before, n_clusters
        self.register_buffer("of", torch.zeros(n_parts, dtype=torch.int64))
        self.register_buffer("into", torch.zeros(n_parts, dtype=torch.int64))
        self.register_buffer("which", torch.zeros(n_divided, dtype=torch.int64))
        self.register_buffer("weight", torch.zeros(n_divided, n_features))
        self.register_buffer("bias", torch.zeros(n_divided))
        self.register_buffer("temperature", torch.ones(()))

    @torch.no_grad()
    def probabilities(self, p_BK: Tensor, features_BD: Tensor) -> Tensor:
        """Probabilities (B, J) float32 from those of `before`."""
        part_BP = p_BK.float()[:, self.of]
        if len(self.which):
            part_BP = part_BP * self._within(features_BD)
        return part_BP.new_zeros(part_BP.shape[0], self.n_clusters).index_add_(1, self.into, part_BP)

    def _within(self, features_BD: Tensor) -> Tensor:
        """How the probability of each cluster is shared by its parts, (B, P); 1 where there is one."""
        rows_BD = F.normalize(features_BD.float()).half().float()
        score_BP = rows_BD.new_zeros(rows_BD.shape[0], len(self.of))
        with torch.autocast(rows_BD.device.type, enabled=False):
            score_BP[:, self.which] = torch.addmm(self.bias, rows_BD, self.weight.T)
        of_BP = self.of.expand_as(score_BP)
        most_BK = score_BP.new_full((score_BP.shape[0], self.n_before), -torch.inf).scatter_reduce(1, of_BP, score_BP, "amax")
        score_BP = (score_BP - most_BK.gather(1, of_BP)).exp()
        return score_BP / score_BP.new_zeros(most_BK.shape).index_add_(1, self.of, score_BP).gather(1, of_BP)

    def forward(self, features_BD: Tensor) -> Tensor:
        p_BK = (self.before(features_BD)[0].float() / self.temperature).softmax(1)
        return self.probabilities(p_BK, features_BD).clamp(min=TINY).log()[None]

    def fits(self) -> bool:
        """Whether its numbers lead to clusters and parts that there are; a file may say anything."""
        whole = ((self.of, self.n_before), (self.into, self.n_clusters), (self.which, len(self.of)))
        return (
            bool(self.temperature > 0)
            and self.n_clusters <= len(self.into)
            and all(not len(x) or bool(x.min() >= 0 and x.max() < most) for x, most in whole)
        )


def centroids(rows_ND: Tensor, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(weight (P, D), bias (P,)) that share a cluster among parts as equal spherical Gaussians around their means would (see
    `heads.Centroids`). rows_ND: unit rows as a run keeps them; parts: the rows of each."""
    means_PD = torch.stack([rows_ND[part].double().mean(0) for part in parts])
    inside_MD = torch.cat([rows_ND[part].double() - mean_D for part, mean_D in zip(parts, means_PD)])
    covariance_DD = inside_MD.T @ inside_MD / len(inside_MD)
    spread = covariance_DD.trace()
    dimensions = (spread**2 / covariance_DD.square().sum().clamp(min=1e-30)).clamp(min=1)
    temperature = (2 * spread / dimensions).clamp(min=FLATTEST)
    centre_D = means_PD.mean(0)
    from_PD = means_PD - centre_D  # from here, distances do not drown in the rounding of large squares
    weight_PD = 2 * from_PD / temperature
    return weight_PD.float(), (-weight_PD @ centre_D - from_PD.square().sum(1) / temperature).float()
