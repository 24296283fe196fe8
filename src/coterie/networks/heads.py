"""What stands on an encoder: cluster heads as one einsum, a projection for contrastive losses, centroids as a classifier.

Shapes: B batch, D feature, H heads, K clusters.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.clustering.spaces import Reduced, unit_by_space

WIDEST = 512  # hidden layer of a head


class Heads(nn.Module):
    """H linear cluster heads at once: features (B, D), or each head its own (H, B, D) -> logits (H, B, K). H = 1 is no special case.

    Features are standardised first with the mean and deviation given to `standardise` (at the start 0 and 1), so that one
    learning rate fits every encoder. Initial weights as nn.Linear's, each head its own; biases 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_clusters: int, n_heads: int = 1):
        super().__init__()
        bound = 1 / math.sqrt(n_features)
        self.weight = nn.Parameter(torch.empty(n_heads, n_clusters, n_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_heads, n_clusters))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def standardise(self, features_ND: Tensor) -> None:
        """Takes mean and deviation from these features; a constant column keeps the scale 1."""
        self.mean.copy_(features_ND.mean(0))
        deviation = features_ND.std(0, unbiased=False)
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 1.0))

    def forward(self, features_BD: Tensor) -> Tensor:
        z = (features_BD - self.mean) * self.scale
        logits_HKB = torch.einsum("bd,hkd->hkb" if z.ndim == 2 else "hbd,hkd->hkb", z, self.weight) + self.bias[..., None]
        return logits_HKB.mT  # laid out so that losses.softmax need not copy

    def select(self, head: int) -> "Heads":
        """The head of that number alone, as a module of its own."""
        one = type(self)(self.weight.shape[2], self.weight.shape[1])
        one.load_state_dict(self.state_dict() | {"weight": self.weight[head : head + 1], "bias": self.bias[head : head + 1]})
        return one.to(self.weight.device)


class UnitHeads(Heads):
    """`Heads` among directions: features are seen from `mean`, the columns of each encoder (`space`, its number) at unit length."""

    space: Tensor

    def __init__(self, n_features: int, n_clusters: int, n_heads: int = 1):
        super().__init__(n_features, n_clusters, n_heads)
        self.register_buffer("space", torch.zeros(n_features, dtype=torch.int64))

    def forward(self, features_BD: Tensor) -> Tensor:
        z_BD = unit_by_space(features_BD - self.mean, self.space)
        return (torch.einsum("bd,hkd->hkb", z_BD, self.weight) + self.bias[..., None]).mT


class RowHeads(UnitHeads):
    """`UnitHeads` on features as a run keeps them, unit rows in half precision: so that new pictures are sorted as those were that it
    was learned on."""

    def forward(self, features_BD: Tensor) -> Tensor:
        with torch.autocast(features_BD.device.type, enabled=False):
            return super().forward(F.normalize(features_BD.float()).half().float())


@torch.no_grad()
def linear(centroids: "Centroids") -> Heads:
    """The head that says what `centroids` do: -|z - c|^2 orders clusters as 2 z c - |c|^2 does."""
    head = Heads(*centroids.centroids.T.shape).to(centroids.centroids.device)
    head.weight.copy_(2 * centroids.centroids[None] / centroids.temperature)
    head.bias.copy_(-centroids.centroids.square().sum(1)[None] / centroids.temperature)
    return head


@torch.no_grad()
def folded(heads: Heads, rows: Reduced, kind: type[UnitHeads] = UnitHeads) -> UnitHeads:
    """Heads on the features themselves that say what `heads` say of the rows."""
    weight_HKd = heads.weight * heads.scale
    weight_HKD = weight_HKd @ rows.axes_Dd.T
    whole = kind(len(rows.mean_D), heads.weight.shape[1], heads.weight.shape[0]).to(rows.mean_D.device)
    whole.mean.copy_(rows.mean_D), whole.space.copy_(rows.space_D)
    whole.weight.copy_(weight_HKD)
    whole.bias.copy_(heads.bias - weight_HKd @ heads.mean - weight_HKD @ rows.centre_D)
    return whole


class MlpHeads(nn.Module):
    """H heads of two layers, D -> min(D, 512), ReLU, -> K; takes and gives what `Heads` does, which its two layers are.

    As wide as the features of the published networks (SPICE sec. IV-B, ResNet-18 and -34: 512), and no wider: ten hidden layers of a
    ResNet-50's 2,048 would have 42 million weights. `width`: another one.
    """

    def __init__(self, n_features: int, n_clusters: int, n_heads: int = 1, width: int = 0):
        super().__init__()
        width = width or min(n_features, WIDEST)
        self.hidden = Heads(n_features, width, n_heads)
        self.output = Heads(width, n_clusters, n_heads)

    def standardise(self, features_ND: Tensor) -> None:
        """As of `Heads`; the published heads take features as they are."""
        self.hidden.standardise(features_ND)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.output(self.hidden(features_BD).relu())

    def select(self, head: int) -> "MlpHeads":
        """The head of that number alone, as a module of its own."""
        _, width, n_features = self.hidden.weight.shape
        one = MlpHeads(n_features, self.output.weight.shape[1], width=width)
        one.hidden, one.output = self.hidden.select(head), self.output.select(head)
        return one


class Centroids(nn.Module):
    """Fixed centroids as a classifier: features (B, D) -> logits (1, B, K) = -squared distance / temperature.

    The temperature is set once, by `calibrate`, to the mean squared distance of an image to its own centroid divided by
    the number of dimensions that carry the spread (their participation ratio): softmax then gives the probabilities of
    equal spherical Gaussians around the centroids.
    """

    centroids: Tensor
    temperature: Tensor

    def __init__(self, n_features: int, n_clusters: int):
        super().__init__()
        self.register_buffer("centroids", torch.zeros(n_clusters, n_features))
        self.register_buffer("temperature", torch.ones(()))

    @torch.no_grad()
    def calibrate(self, centroids_KD: Tensor, features_ND: Tensor, labels_N: Tensor) -> None:
        self.centroids.copy_(centroids_KD)
        residual = features_ND - self.centroids[labels_N]
        covariance = (residual.T @ residual / len(residual)).double()
        spread = covariance.trace()
        dimensions = (spread**2 / covariance.square().sum().clamp(min=1e-30)).clamp(min=1)
        self.temperature.fill_(float((2 * spread / dimensions).clamp(min=1e-12)))

    def forward(self, features_BD: Tensor) -> Tensor:
        mean_D = self.centroids.mean(0)  # seen from here, distances do not drown in the rounding of large squares
        c, z = self.centroids - mean_D, features_BD.to(self.centroids.dtype) - mean_D
        return -(z.square().sum(1, keepdim=True) - 2 * z @ c.T + c.square().sum(1))[None] / self.temperature


class UnitCentroids(Centroids):
    """`Centroids` among directions: takes features as they are; seen from `mean` and brought to unit length (`unit`), they are compared.

    Features behind a ReLU all point the same way from the origin; from their mean they differ more. `calibrate` takes them as `unit` gives
    them. A feature equal to the mean stays zero.
    """

    mean: Tensor

    def __init__(self, n_features: int, n_clusters: int):
        super().__init__(n_features, n_clusters)
        self.register_buffer("mean", torch.zeros(n_features))

    def unit(self, features_BD: Tensor) -> Tensor:
        return F.normalize(features_BD.to(self.mean.dtype) - self.mean, dim=1)

    def forward(self, features_BD: Tensor) -> Tensor:
        return super().forward(self.unit(features_BD))


class Students(nn.Module):
    """Centroids that learn: embedded features (B, d) -> logits (1, B, K), whose softmax is Student's t with one degree of freedom, in
    proportion to 1 / (1 + |z - c|^2) (van der Maaten and Hinton 2008; DEC eq. 1)."""

    def __init__(self, width: int, n_clusters: int):
        super().__init__()
        self.centroids = nn.Parameter(torch.zeros(n_clusters, width))  # k-means fills them

    def forward(self, z_Bd: Tensor) -> Tensor:
        far_BK = (z_Bd[:, None] - self.centroids).square().sum(2)
        return -far_BK.log1p()[None]


class StudentHead(nn.Module):
    """DEC's: features (B, D) -> logits (1, B, K), `Students` behind one linear layer."""

    def __init__(self, n_features: int, n_clusters: int):
        super().__init__()
        width = embedded(n_clusters)
        self.embed, self.students = nn.Linear(n_features, width), Students(width, n_clusters)

    def forward(self, features_BD: Tensor) -> Tensor:
        logits_1BK: Tensor = self.students(self.embed(features_BD))
        return logits_1BK


def embedded(n_clusters: int) -> int:
    """In how many dimensions DEC clusters: 10 (the paper), or as many as clusters where these are more."""
    return max(10, n_clusters)


class Classifier(nn.Linear):
    """DeepCluster's: features (B, D) -> logits (B, K), weights N(0, 0.01) (standard deviation, the published code's), biases 0."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, 0, 0.01)
        nn.init.zeros_(self.bias)


class Projector(nn.Module):
    """Features (B, D) -> unit vectors (B, out) through one hidden layer of width D (SimCLR sec. 4.2)."""

    def __init__(self, n_features: int, n_out: int = 128):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, n_features), nn.ReLU(inplace=True), nn.Linear(n_features, n_out))

    def forward(self, features_BD: Tensor) -> Tensor:
        return F.normalize(self.layers(features_BD).float(), dim=1)


class UnitLinear(nn.Module):
    """Features (B, D) -> unit vectors (B, out) through one linear layer (instance discrimination, Wu et al. 2018: 128), behind a ReLU if
    asked."""

    def __init__(self, n_features: int, n_out: int = 128, relu: bool = False):
        super().__init__()
        self.before = nn.ReLU() if relu else nn.Identity()
        self.linear = nn.Linear(n_features, n_out)

    def forward(self, features_BD: Tensor) -> Tensor:
        with torch.autocast(features_BD.device.type, enabled=False):  # a whitening that is put here would show every rounding
            return F.normalize(self.linear(self.before(features_BD.float())), dim=1)

    def places(self, maps_BDhw: Tensor) -> Tensor:
        """Each place of convolutional maps through the same layer, (B, out, h, w), not brought to unit length: their mean is the mean's."""
        return F.conv2d(maps_BDhw.float(), self.linear.weight[:, :, None, None], self.linear.bias)
