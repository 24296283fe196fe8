"""The last step of systems that learn features for their own sake (PCP, IR, IS, AND): which features, and which n_clusters kinds.

    whitened     the backbone's features on their principal components, each scaled to the same variance, at unit length: one linear layer
    diffusion    each row moves towards the mean of its neighbours, twenty times; k-means on where they end; new images go to the nearest
                 of these clusters' means, taken of the features before they moved

Losses that spread images apart leave no compact clusters, but neighbours that are right: on the graph of neighbours the kinds are there.
docs/methods/pcp.md has what the alternatives reached. Shapes: N images, D feature, K clusters or neighbours.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from coterie.clustering.kmeans import kmeans, whitening
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import means, unit
from coterie.errors import InputError
from coterie.images import Images
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.networks.encoder import Encoder, build, features
from coterie.networks.heads import Centroids
from coterie.run import Run
from coterie.run.devices import unwrap

ROWS = 10  # images for each component of a whitening, at least: with few images the last components are noise, and tell nothing apart
FLOOR = 1e-4  # of the largest variance, below which a component is not enlarged: there the rounding of bf16 begins


@dataclass(frozen=True)
class Config(PretextConfig):
    """Settings of the last step."""

    whiten: bool = True  # the features are the backbone's, whitened to `projection` components, one for 10 images at most; else as they are
    final: str = "diffusion"  # or k-means, as PCP's paper has it (fig. 5)
    final_neighbors: int = 20  # of diffusion
    final_steps: int = 20  # of diffusion
    restarts: int = 10  # of k-means; the lowest inertia is kept


def assign(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    """The fitted images in n_clusters clusters, with a head that sorts others into them."""
    if config.final not in ("diffusion", "k-means"):
        raise InputError(f"final={config.final}: there are diffusion, k-means")
    encoder = whitened(encoder, images, config, run) if config.whiten else encoder
    z_ND = run.once("features", features, encoder, images, run)
    labels_N = run.once("clusters", clusters_of, z_ND, config.n_clusters, config.final, config.final_neighbors, config.final_steps,
                        config.restarts, run)  # fmt: skip
    head: Centroids = run.new("centroids", Centroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    head.calibrate(means(z_ND, labels_N, config.n_clusters), z_ND, labels_N)
    return Fitted.from_parts(encoder, head, z_ND)


def whitened(encoder: nn.Module, images: Images, config: Config, run: Run) -> nn.Module:
    """The encoder with a linear layer after it that whitens what it says of these images."""
    z_ND = run.once("features-plain", features, encoder, images, run)
    mean_D, axes_Dd = whitening(z_ND, max(2, min(config.projection, len(images) // ROWS)), FLOOR)
    plain = unwrap(encoder)
    assert isinstance(plain, Encoder)
    longer = run.new("whitened", build, replace(plain.spec, projection=axes_Dd.shape[1]))
    layer = {"projection.linear.weight": axes_Dd.T, "projection.linear.bias": -mean_D @ axes_Dd}
    unwrap(longer).load_state_dict(plain.state_dict() | layer)
    return longer


def clusters_of(z_ND: Tensor, k: int, how: str, n_neighbors: int, steps: int, restarts: int, run: Run) -> Tensor:
    """The cluster of each image, (N,) int64."""
    rows_ND = diffused(z_ND, n_neighbors, steps) if how == "diffusion" else z_ND
    return kmeans(rows_ND, k, run.rng("k-means"), 100, "k-means++", run=run, restarts=restarts).labels_N


def diffused(z_ND: Tensor, n_neighbors: int, steps: int) -> Tensor:
    """Unit rows after so many steps, each to the direction of a row plus the mean of its nearest rows; who these are does not change."""
    index_NK = nearest(z_ND, min(n_neighbors, len(z_ND) - 1)).index_NK
    z_ND = unit(z_ND)
    for _ in range(steps):
        z_ND = unit(z_ND + F.embedding_bag(index_NK, z_ND, mode="mean"))
    return z_ND
