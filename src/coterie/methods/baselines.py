"""k-means, on pixels or on an encoder's features: the baseline everyone must beat."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.spaces import reduced
from coterie.images import Images
from coterie.methods import pretext
from coterie.methods.bounds import Count, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import Pretext
from coterie.networks.heads import Centroids, UnitCentroids, UnitHeads, folded, linear
from coterie.run import Run


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of the baseline."""

    encoder: str = "pixels"
    pretext: Pretext = "frozen"
    final: Final = "k-means"  # or another last step on the same features
    whiten: bool = False
    iterations: Count = 100  # of k-means, at most; it stops when no label changes
    rows: Literal["plain", "unit", "whitened"] = "plain"  # unit: seen from their mean at unit length; whitened: then on main axes
    spaces: str = ""  # of whitened: widths of the features of several encoders that stand side by side, "1280,1280"; empty: one encoder
    components: Whole = 128  # of whitened: axes of each encoder, at most one for ten images (but two); 0: as many as that


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    if config.final != "k-means" or config.whiten:
        return assign(encoder, images, config, run)
    z_ND = pretext.features_of(encoder, images, config, run)
    if config.rows == "whitened":
        return Fitted.from_parts(encoder, whitened(z_ND, config, run), z_ND)
    kind = Centroids if config.rows == "plain" else UnitCentroids
    head: Centroids = run.new("centroids", kind, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    if isinstance(head, UnitCentroids):
        head.mean.copy_(z_ND.mean(0))
        partition(head.unit(z_ND), head, config.restarts, config.iterations, run)
        return Fitted.from_parts(encoder, head, z_ND)
    return Fitted.from_parts(encoder, partition(z_ND, head, config.restarts, config.iterations, run), z_ND)


def whitened(z_ND: Tensor, config: Config, run: Run) -> UnitHeads:
    """k-means on whitened rows as a linear head on the features."""
    rows = run.once("rows", reduced, z_ND, config.spaces, max(2, min(config.components or z_ND.shape[1], len(z_ND) // 10)), whiten=True)
    found: Centroids = run.new("centroids", Centroids, rows.rows_Nd.shape[1], config.n_clusters)  # type: ignore[assignment]
    return folded(linear(partition(rows.rows_Nd, found, config.restarts, config.iterations, run)), rows)


def partition(z_ND: Tensor, head: Centroids, restarts: int, iterations: int, run: Run, spherical: bool = False) -> Centroids:
    """`head` with the centroids of the best of `restarts` k-means into as many clusters as it has; the stage "k-means"."""
    best: dict[str, Any] = {"inertia": float("inf"), "restart": 0}
    k = len(head.centroids)
    for restart in run.epochs("k-means", restarts, head=head, best=best):
        found = kmeans(z_ND, k, run.rng("k-means", restart), iterations, init="k-means++", spherical=spherical, run=run)
        if found.inertia < best["inertia"]:
            best.update(inertia=found.inertia, restart=restart)
            head.calibrate(found.centroids_KD, z_ND, found.labels_N)
        run.log(loss=found.inertia / len(z_ND), sizes=found.sizes_K.tolist(), best=best["restart"])
    return head
