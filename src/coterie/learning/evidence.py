"""What can be said of a clustering without labels: how often neighbours agree, how stable it is, what colours alone explain, what lies
between clusters; each beside what a cloud without any structure gives, because k-means cuts even that into neat parts.

Shapes: N rows (a sample where there are many), D feature, d principal axes, K clusters or neighbours, C colours.
"""

from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.rows import check, chunks, exact
from coterie.clustering.sampling import sample
from coterie.learning.diagnose import agreement, discord

AXES = 64  # principal axes that are looked at: the others hold a few per cent of the spread and most of the time
NEIGHBOURS = 10  # or fewer: half of an even cluster at most
SEEDS = 3  # other ones
DRAWS = 4  # of two halves of the pictures; 2 of many clusters, which say the same each time
FEW = 12  # clusters: the fewer, the more a single clustering is a matter of luck
HALF = 1000  # rows of a half at most, or what the largest number of clusters needs
RATIOS = (1 / 5, 1 / 3, 1 / 2, 2, 3, 5)  # other numbers of clusters that are tried
PERFECT = 0.8  # beyond its cloud, from which another number of clusters is worth telling even beside a more stable one
ROWS_PER_CLUSTER = 6  # the fewest of a half that a clustering of it is tried with


def axes(rows_ND: Tensor, generator: torch.Generator, most: int = AXES) -> tuple[Tensor, Tensor]:
    """The mean (D,) of the rows and their first principal axes (D, d), float32; d = min(most, D, N - 1), 1 at least.

    By iteration on a subspace (Halko et al., 2011), whose start is drawn: the whole spectrum would cost the cube of D.
    """
    check(rows_ND)
    with exact(rows_ND.device):
        mean_D = rows_ND.mean(0)
        centred_ND = rows_ND - mean_D
        n, width = rows_ND.shape
        d = max(1, min(most, width, n - 1))
        found = torch.randn(width, min(width, d + 16), generator=generator).to(rows_ND)
        for _ in range(4):
            found = torch.linalg.qr(centred_ND.T @ (centred_ND @ found)).Q
        shadow = (centred_ND @ found).double()  # few pictures span few axes: the rest is rounding, which float32 does not take apart
        return mean_D, found @ torch.linalg.eigh(shadow.T @ shadow).eigenvectors.flip(1)[:, :d].to(found)


def seen(rows_ND: Tensor, mean_D: Tensor, axes_Dd: Tensor) -> Tensor:
    """Coordinates (N, d) of rows on the axes; in chunks."""
    with exact(rows_ND.device):
        return torch.cat([(rows_ND[part] - mean_D) @ axes_Dd for part in chunks(len(rows_ND), 8192)])


def close(rows_Nd: Tensor, k: int) -> Tensor:
    """The `k` nearest rows of each by Euclidean distance, itself excluded, (N, k); lengths count here, for colours have no direction."""
    with exact(rows_Nd.device):
        found = []
        for part in chunks(len(rows_Nd), 1024):
            far_BN = torch.cdist(rows_Nd[part], rows_Nd)
            far_BN.diagonal(part.start).fill_(float("inf"))
            found.append(far_BN.topk(k, largest=False).indices)
        return torch.cat(found)


def how_many(n: int, k: int) -> int:
    """Neighbours to ask among `n` rows in `k` clusters."""
    return max(1, min(NEIGHBOURS, n // (2 * k), n - 1))


def score(labels_N: Tensor, neighbours_NK: Tensor, k: int) -> float:
    """How good a partition is as far as can be seen without labels, 1 at most: agreement of neighbours (0 by chance) times evenness.

    Its rank correlation with the accuracy, and that of others, is in docs/verdict.md.
    """
    return 1 - discord(labels_N, neighbours_NK, k)


def rand_index(a_N: Tensor, b_N: Tensor) -> float:
    """Adjusted Rand index of two partitions, 1 the same, 0 as chance has it; 1 when each is one cluster or each all single rows."""
    pairs = (a_N * (int(b_N.max()) + 1) + b_N).unique(return_counts=True)[1]
    together, of_a, of_b = (float((n * (n - 1) / 2).sum()) for n in (pairs.double(), a_N.bincount().double(), b_N.bincount().double()))
    by_chance = of_a * of_b / max(1.0, len(a_N) * (len(a_N) - 1) / 2)
    most = (of_a + of_b) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def cloud(rows_Nd: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian cloud with the variance of the rows along each axis: as many rows, and no structure."""
    return torch.randn(rows_Nd.shape, generator=generator).to(rows_Nd) * rows_Nd.std(0, unbiased=False)


def partition(rows_Nd: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """k-means as it is used here: labels (N,) and centroids (k, d)."""
    found = kmeans(rows_Nd, k, generator, 15, init="k-means++", restarts=2 if k <= 20 else 1)
    return found.labels_N, found.centroids_KD


def stability(rows_Nd: Tensor, k: int, generator: torch.Generator) -> float:
    """How alike clusterings of different halves of the rows are, all rows put to the nearest centroid of each: the mean adjusted Rand
    index of all pairs of some."""
    labels = []
    for _ in range(DRAWS if k <= FEW else 2):
        for half in torch.randperm(len(rows_Nd), generator=generator).chunk(2):
            _, centroids_Kd = partition(rows_Nd[half.to(rows_Nd.device)], k, generator)
            labels.append(torch.cdist(rows_Nd, centroids_Kd).argmin(1))
    pairs = list(combinations(labels, 2))
    return sum(rand_index(a, b) for a, b in pairs) / len(pairs)


def beyond(value: float, by_cloud: float) -> float:
    """How far a value is on the way from what a cloud gives to 1, 0 when it is no farther than that."""
    return max(0.0, (value - by_cloud) / max(1e-9, 1 - by_cloud)) if by_cloud < 1 else 0.0


def votes(labels_N: Tensor, neighbours_NK: Tensor, k: int) -> Tensor:
    """How many of its neighbours lie in each cluster, (N, k)."""
    return F.one_hot(labels_N[neighbours_NK], k).sum(1)


def explained(labels_N: Tensor, neighbours_NK: Tensor, k: int) -> float:
    """How often a vote of its neighbours tells a row's cluster, corrected for guessing the largest: 1 always, 0 no better than that."""
    right = float((votes(labels_N, neighbours_NK, k).argmax(1) == labels_N).double().mean())
    guess = int(labels_N.bincount().max()) / len(labels_N)
    return max(0.0, (right - guess) / (1 - guess)) if guess < 1 else 0.0


def between(labels_N: Tensor, neighbours_NK: Tensor, k: int) -> float:
    """Share of rows with no more neighbours in their own cluster than in another: no margin between own and next."""
    votes_NK = votes(labels_N, neighbours_NK, k)
    own_N = votes_NK.gather(1, labels_N[:, None]).squeeze(1)
    others_N = votes_NK.scatter(1, labels_N[:, None], -1).amax(1)
    return float((own_N <= others_N).double().mean())


def evidence(
    rows_Nd: Tensor, near_NK: Tensor, labels_N: Tensor, k: int, generator: torch.Generator, tiny_NCHW: Tensor | None = None
) -> dict[str, Any]:
    """What speaks for and against a partition into `k` of rows as `seen` gives them, with their neighbours as `close` does; numbers
    without units, most of them from 0, chance, to 1.

    agreement        of neighbours, corrected for chance, and agreement_cloud: the same of k-means on a cloud of the same extent
    stability        of k-means on halves of the pictures, stability_cloud likewise
    seeds            adjusted Rand index of the partition with k-means under other seeds, the mean of some
    between          share of pictures between clusters
    features, thumbnail, colour   how well a vote of the neighbours by these tells the cluster; tiny_NCHW: thumbnails of 4 x 4
    ...              and what `stabilities` and `by_colour` say
    """
    cloud_Nd = cloud(rows_Nd, generator)
    by_chance_N, _ = partition(cloud_Nd, k, generator)
    others = [partition(rows_Nd, k, generator)[0] for _ in range(SEEDS)]
    found: dict[str, Any] = {
        "n_images": len(rows_Nd),
        "n_clusters": k,
        "agreement": agreement(labels_N, near_NK),
        "agreement_cloud": agreement(by_chance_N, close(cloud_Nd, near_NK.shape[1])),
        "seeds": sum(rand_index(labels_N, other_N) for other_N in others) / SEEDS,
        "between": between(labels_N, near_NK, k),
        "features": explained(labels_N, near_NK, k),
    }
    found |= stabilities(rows_Nd, cloud_Nd, k, generator)
    found |= {} if tiny_NCHW is None else by_colour(labels_N, tiny_NCHW, k, generator)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}


def stabilities(rows_Nd: Tensor, cloud_Nd: Tensor, k: int, generator: torch.Generator) -> dict[str, Any]:
    """Stability at `k`, and at the most stable other number of clusters (other_k, other_stability, other_agreement and
    what their clouds give), from a fifth to five times `k`, where one is more stable beyond its cloud or nearly perfect."""
    index = halves(len(rows_Nd), k, generator)
    rows_Nd, cloud_Nd = rows_Nd[index], cloud_Nd[index]
    if len(rows_Nd) < 2 * k:
        return {"stability": 0.0, "stability_cloud": 0.0}
    own = stability(rows_Nd, k, generator), stability(cloud_Nd, k, generator)
    told: dict[str, Any] = {"stability": own[0], "stability_cloud": own[1]}
    most, best = len(rows_Nd) // 2 // ROWS_PER_CLUSTER, min(beyond(*own), PERFECT)
    for other in sorted({round(k * ratio) for ratio in RATIOS if 2 <= round(k * ratio) <= most} - {k}):
        value = stability(rows_Nd, other, generator)
        if value < best:  # it cannot be more beyond its cloud: that need not be asked
            continue
        by_cloud = stability(cloud_Nd, other, generator)
        if beyond(value, by_cloud) >= best:
            best = beyond(value, by_cloud)
            told |= {"other_k": other, "other_stability": value, "other_stability_cloud": by_cloud}
    if "other_k" in told:
        other = told["other_k"]
        for name, some_Nd in (("other_agreement", rows_Nd), ("other_agreement_cloud", cloud_Nd)):
            told[name] = agreement(partition(some_Nd, other, generator)[0], close(some_Nd, how_many(len(some_Nd), other)))
    return told


def by_colour(labels_N: Tensor, tiny_NCHW: Tensor, k: int, generator: torch.Generator) -> dict[str, float]:
    """What the thumbnails (N, C, 4, 4), 0 to 1, and their mean colours know of the partition; colour_spread: the largest deviation of the
    mean colours in a channel; like_thumbnails: adjusted Rand index with k-means on the thumbnails; thumbnails_beyond: how far the
    agreement or the stability of that, the smaller, is beyond a cloud's."""
    colour_NC, tiny_Nt = tiny_NCHW.mean((2, 3)), tiny_NCHW.flatten(1)
    tiny_Nt = seen(tiny_Nt, *axes(tiny_Nt, generator))  # a cloud is made along principal axes
    cloud_Nt, n = cloud(tiny_Nt, generator), how_many(len(labels_N), k)
    near_NK, tiny_N, cloud_N = close(tiny_Nt, n), partition(tiny_Nt, k, generator)[0], partition(cloud_Nt, k, generator)[0]
    index = halves(len(labels_N), k, generator)
    agrees = beyond(agreement(tiny_N, near_NK), agreement(cloud_N, close(cloud_Nt, n)))
    stable = beyond(stability(tiny_Nt[index], k, generator), stability(cloud_Nt[index], k, generator)) if len(index) >= 2 * k else 0.0
    return {
        "thumbnail": explained(labels_N, near_NK, k),
        "colour": explained(labels_N, close(colour_NC, n), k),
        "colour_spread": float(colour_NC.std(0, unbiased=False).max()),
        "like_thumbnails": rand_index(labels_N, tiny_N),
        "thumbnails_beyond": min(agrees, stable),
    }


def halves(n: int, k: int, generator: torch.Generator) -> Tensor:
    """The rows whose halves are clustered: as many as `k` needs."""
    return sample(n, generator, 2 * max(HALF, ROWS_PER_CLUSTER * k))
