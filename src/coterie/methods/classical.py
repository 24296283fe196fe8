"""What sorted images before networks did, on pixels or on an encoder's features: partitions of given rows, the comparators of every paper.

    1. rows        at most `rows` images, seen on the main axes of their pixels or features
    2. partition   spectral        cuts of the graph of neighbours (Ng, Jordan and Weiss 2001; Zelnik-Manor and Perona 2004)
                   agglomerative   clusters that are merged, the nearest first (Ward 1963)
                   gmm             the likeliest component of a Gaussian mixture (Dempster, Laird and Rubin 1977)
    3. head        two layers learn the partition, so that all images, and new ones, are sorted by it

No paper says how images that were not partitioned are sorted; step 3 is ours, and a note says of how many images it says otherwise.
Shapes: N images, S of them, D feature, d main axes, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from coterie.clustering.neighbours import nearest_by_distance
from coterie.clustering.sampling import sample
from coterie.clustering.spectral import spectral
from coterie.images import Images
from coterie.learning.diagnose import vital_signs
from coterie.learning.evidence import axes, seen
from coterie.learning.schedule import cosine, set_rate
from coterie.methods import pretext
from coterie.methods.bounds import Amount, Count, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import Pretext
from coterie.networks.heads import MlpHeads
from coterie.run import Run

Partition = Callable[[Tensor, Any, torch.Generator], Tensor]  # rows (S, d), the config, a generator -> labels (S,)
EPOCHS, UPDATES, BATCH, RATE = 20, 500, 512, 2e-3  # of the head: at least so many updates; peak of Adam, cosine
WIDTH = 256  # of its hidden layer: what is bent in two columns is not learned by two units


@dataclass(frozen=True)
class Config(FinalConfig):
    """What all three share."""

    encoder: str = "pixels"
    pretext: Pretext = "frozen"
    final: Final = "heads"  # the head that learned the partition; or another last step on the same features
    whiten: bool = False
    rows: Count = 10_000  # images that are partitioned, drawn at random where there are more: time and memory grow with their square
    axes: Whole = 64  # main axes of the features that they are seen on; 0: all of them


@dataclass(frozen=True)
class SpectralConfig(Config):
    """Settings of spectral clustering."""

    n_neighbors: Count = 10  # each row's in the graph


@dataclass(frozen=True)
class AgglomerativeConfig(Config):
    """Settings of agglomerative clustering."""

    linkage: Literal["ward", "average", "complete"] = "ward"  # what of two clusters is compared; ward: how much their variance would grow


@dataclass(frozen=True)
class MixtureConfig(Config):
    """Settings of a Gaussian mixture."""

    axes: Whole = 16  # a full covariance has the square of them to learn from the images of a cluster
    covariance: Literal["full", "tied", "diag", "spherical"] = "full"  # of each component
    floor: Amount = 0.05  # least variance, a share of the mean variance of the rows' axes
    restarts: Count = 5  # the likeliest mixture is kept


def fit(images: Images, config: Config, run: Run, partition: Partition) -> Fitted:
    encoder = pretext.train(images, config, run)
    if config.final != "heads":
        return assign(encoder, images, config, run)
    z_ND = pretext.features_of(encoder, images, config, run)
    ids_S = sample(len(z_ND), run.rng("partition", "sample"), config.rows).to(z_ND.device)
    labels_S = run.once("partition", partial(_partitioned, partition=partition, config=config, run=run), z_ND[ids_S].float())
    return Fitted.from_parts(encoder, taught(z_ND[ids_S], labels_S.to(z_ND.device), config.n_clusters, run), z_ND)


def _partitioned(z_SD: Tensor, partition: Partition, config: Config, run: Run) -> Tensor:
    """Steps 1 and 2: the cluster of each row, (S,) int64."""
    rng = run.rng("partition")
    if config.n_clusters == 1:
        return torch.zeros(len(z_SD), dtype=torch.int64)
    rows_Sd = seen(z_SD, *axes(z_SD, rng, config.axes)) if 0 < config.axes < min(z_SD.shape) else z_SD
    return partition(rows_Sd.cpu(), config, rng)


def taught(z_SD: Tensor, labels_S: Tensor, k: int, run: Run) -> MlpHeads:
    """Step 3: a head (1, B, K) that has learned these labels; a note says where it differs."""
    head: MlpHeads = run.new("head", MlpHeads, z_SD.shape[1], k, width=WIDTH)  # type: ignore[assignment]
    head.standardise(z_SD)
    optimizer, n = Adam(head.parameters()), len(z_SD)
    batch = min(BATCH, n)
    steps = max(-(-UPDATES // EPOCHS), n // batch)
    for epoch in run.epochs("head", EPOCHS, head=head, optimizer=optimizer):
        rng, total = run.rng("head", epoch), torch.zeros((), device=z_SD.device)
        for step in range(steps):
            set_rate(optimizer, cosine(run.done(epoch + step / steps, EPOCHS), RATE))
            ids_B = torch.randperm(n, generator=rng)[:batch].to(z_SD.device)
            loss = F.cross_entropy(head(z_SD[ids_B])[0], labels_S[ids_B])
            run.step(loss, optimizer)
            total += loss.detach()
        with torch.no_grad():
            p_SK = head(z_SD)[0].softmax(1)
        run.trace(p_SK.argmax(1)[None].cpu())
        run.log(loss=total / steps, changed=float((p_SK.argmax(1) != labels_S).float().mean()), **vital_signs(p_SK))
    with torch.no_grad():
        other = int((head(z_SD)[0].argmax(1) != labels_S).sum())
    run.note(f"the head sorts {other:,} of {n:,} images that were partitioned otherwise than the partition")
    return head


def cut(rows_Sd: Tensor, config: SpectralConfig, rng: torch.Generator) -> Tensor:
    """Spectral clustering of the graph of neighbours; an edge weighs exp(-d^2 / (s_i s_j)), s the distance of a row's last neighbour."""
    index_SK, square_SK = nearest_by_distance(rows_Sd, min(config.n_neighbors, len(rows_Sd) - 1))
    scale_S = square_SK[:, -1].clamp(min=1e-12).sqrt()
    weight_SK = (-square_SK / (scale_S[:, None] * scale_S[index_SK])).exp()
    return spectral(index_SK, weight_SK, config.n_clusters, rng)


def merged(rows_Sd: Tensor, config: AgglomerativeConfig, rng: torch.Generator) -> Tensor:
    """Agglomerative clustering, by scikit-learn."""
    from sklearn.cluster import AgglomerativeClustering

    found = AgglomerativeClustering(config.n_clusters, linkage=config.linkage).fit_predict(rows_Sd.numpy())
    return torch.from_numpy(found).long()


def mixed(rows_Sd: Tensor, config: MixtureConfig, rng: torch.Generator) -> Tensor:
    """The likeliest component of a Gaussian mixture, by scikit-learn."""
    from sklearn.mixture import GaussianMixture

    seed = int(torch.randint(1 << 31, (), generator=rng))
    rows = rows_Sd.double().numpy()
    least = max(config.floor * float(rows.var(0).mean()), 1e-9)
    model = GaussianMixture(
        config.n_clusters, covariance_type=config.covariance, reg_covar=least, n_init=config.restarts, random_state=seed
    )
    return torch.from_numpy(model.fit_predict(rows)).long()


class Spectral:
    """Spectral clustering."""

    Config, fit = SpectralConfig, staticmethod(partial(fit, partition=cut))


class Agglomerative:
    """Agglomerative clustering."""

    Config, fit = AgglomerativeConfig, staticmethod(partial(fit, partition=merged))


class Mixture:
    """A Gaussian mixture."""

    Config, fit = MixtureConfig, staticmethod(partial(fit, partition=mixed))
