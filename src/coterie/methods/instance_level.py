"""The instance-level systems PCP is compared with: a pretext task on images one by one, then k-means on the features.

    IR   instance discrimination (Wu et al. 2018)              pretext/instance.py
    IS   invariant and spreading features (Ye et al. 2019)     pretext/spreading.py
    AND  anchor neighbourhood discovery (Huang et al. 2019)    pretext/anchors.py

None of them says how to cluster; PCP's comparison (fig. 5) takes k-means. Shapes: N images, D feature.
"""

from dataclasses import dataclass

from torch import Tensor

from coterie.encoder import PRECOMPUTED, features
from coterie.errors import InputError
from coterie.heads import Centroids
from coterie.images import Images
from coterie.kmeans import Clustering, kmeans
from coterie.methods import pretext
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.run import Run


@dataclass(frozen=True)
class Config(PretextConfig):
    """Settings of instance discrimination, and what all three share."""

    pretext: str = "instance"
    pretext_temperature: float = 0.1  # all three papers
    restarts: int = 10  # of k-means; the lowest inertia is kept


@dataclass(frozen=True)
class SpreadingConfig(Config):
    """Settings of IS."""

    pretext: str = "spreading"


@dataclass(frozen=True)
class AnchorConfig(Config):
    """Settings of AND."""

    pretext: str = "anchors"


def fit(images: Images, config: Config, run: Run) -> Fitted:
    if config.encoder == PRECOMPUTED:
        raise InputError("encoder=precomputed gives features, and this method is what trains an encoder; --method kmeans clusters features")
    encoder = pretext.train(images, config, run)
    z_ND = run.once("features", features, encoder, images, run)
    head: Centroids = run.new("centroids", Centroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    found = run.once("k-means", clusters_of, z_ND, config.n_clusters, config.restarts, run)
    head.calibrate(found.centroids_KD, z_ND, found.labels_N)
    return Fitted.from_parts(encoder, head, z_ND)


def clusters_of(z_ND: Tensor, k: int, restarts: int, run: Run) -> Clustering:
    return kmeans(z_ND, k, run.rng("k-means"), 100, "k-means++", run=run, restarts=restarts)


class IR:
    """Instance discrimination."""

    Config, fit = Config, staticmethod(fit)


class IS:
    """Invariant and spreading features."""

    Config, fit = SpreadingConfig, staticmethod(fit)


class AND:
    """Anchor neighbourhood discovery."""

    Config, fit = AnchorConfig, staticmethod(fit)
