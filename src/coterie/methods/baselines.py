"""k-means, on pixels or on an encoder's features: the baseline everyone must beat."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.images import Images
from coterie.methods import pretext
from coterie.methods.bounds import Count
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final, assign
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import Pretext
from coterie.networks.heads import Centroids
from coterie.run import Run


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of the baseline."""

    encoder: str = "pixels"
    pretext: Pretext = "frozen"
    final: Final = "k-means"  # or another last step on the same features
    whiten: bool = False
    iterations: Count = 100  # of k-means, at most; it stops when no label changes


def fit(images: Images, config: Config, run: Run) -> Fitted:
    encoder = pretext.train(images, config, run)
    if config.final != "k-means" or config.whiten:
        return assign(encoder, images, config, run)
    z_ND = pretext.features_of(encoder, images, config, run)
    head: Centroids = run.new("centroids", Centroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    return Fitted.from_parts(encoder, partition(z_ND, head, config.restarts, config.iterations, run), z_ND)


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
