"""The last step, from features to n_clusters kinds. Every method has the same choice of it (`final`), and its own default.

    whitened     the backbone's features on their principal components, each scaled to the same variance, at unit length: one linear layer
    diffusion    each row moves towards the mean of its neighbours, twenty times; k-means on where they end. Each image, old or new, then
                 goes to the nearest of these clusters' means, taken of the features before they moved. Where kinds differ in size
                 (`sizes`), small ones would be carried into large ones: clusters of any size in their place
    k-means      on the features
    heads        of the method, if it has any (SCAN, SPICE); else those of SCAN's clustering stage, as its defaults are

Losses that spread images apart leave no compact clusters, but neighbours that are right: on the graph of neighbours the kinds are there.
docs/methods/pcp.md has what the alternatives reached. Shapes: N images, D feature, K clusters or neighbours.
"""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from coterie.clustering import diffusion
from coterie.clustering.kmeans import kmeans, whitening
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import means
from coterie.images import Images
from coterie.methods.bounds import Count, Whole
from coterie.methods.fitted import Fitted
from coterie.methods.near import ROWS, Approximate, approximately
from coterie.methods.pretext import PretextConfig
from coterie.methods.sizes import Sizes, of_any_size
from coterie.networks.encoder import PRECOMPUTED, Encoder, build, features
from coterie.networks.heads import Centroids
from coterie.run import Run
from coterie.run.devices import unwrap

Final = Literal["heads", "diffusion", "k-means"]
FLOOR = 1e-4  # of the largest variance, below which a component is not enlarged: there the rounding of bf16 begins


@dataclass(frozen=True)
class Config(PretextConfig):
    """Settings of the last step."""

    final: Final = "diffusion"  # or k-means, as PCP's paper has it (fig. 5), or heads
    whiten: bool = True  # the features are the backbone's, whitened to `projection` components, one for 10 images at most; else as they are
    approximate: Approximate = "auto"  # nearly all neighbours, in cells, not of all pairs; auto: of 100,000 images and more, on a CPU
    final_neighbors: Count = 20  # of diffusion
    final_steps: Whole = 20  # of diffusion; 0: k-means of unit rows
    sizes: Sizes = "auto"  # of the kinds (diffusion, SCAN, SPICE): even or uneven; auto: uneven where the features show it
    restarts: Count = 10  # of k-means; the lowest inertia is kept


def assign(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    """The fitted images in n_clusters clusters, with a head that sorts others into them. Features that were given stay what they are."""
    encoder = whitened(encoder, images, config, run) if config.whiten and config.encoder != PRECOMPUTED else encoder
    z_ND = run.once("features", features, encoder, images, run)
    if config.final == "heads":
        return Fitted.from_parts(encoder, heads(z_ND, config, run), z_ND)
    approximate = config.final == "diffusion" and approximately(config.approximate, z_ND, run)
    labels_N = run.once("clusters", clusters_of, z_ND, config.n_clusters, config.final, config.final_neighbors, config.final_steps,
                        config.restarts, run, approximate)  # fmt: skip
    if config.final == "diffusion":
        labels_N = of_any_size(z_ND, labels_N, config.sizes, config.n_clusters, run)
    head: Centroids = run.new("centroids", Centroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    head.calibrate(means(z_ND, labels_N, config.n_clusters), z_ND, labels_N)
    return Fitted.from_parts(encoder, head, z_ND)


def heads(z_ND: Tensor, config: Config, run: Run) -> nn.Module:
    """The best of SCAN's heads on these features (N, D), (B, D) -> logits (1, B, K)."""
    from coterie.methods import scan  # which has this last step, too

    stage = scan.Config(n_clusters=config.n_clusters, approximate=config.approximate, sizes=config.sizes, neighbor_components=0)
    return scan.cluster(z_ND, scan.neighbours(z_ND, stage, run), stage, run)


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


def clusters_of(z_ND: Tensor, k: int, how: str, n_neighbors: int, steps: int, restarts: int, run: Run, approximate: bool = False) -> Tensor:
    """The cluster of each image, (N,) int64."""
    rows_ND = diffused(z_ND, n_neighbors, steps, approximate) if how == "diffusion" else z_ND
    return kmeans(rows_ND, k, run.rng("k-means"), 100, "k-means++", run=run, restarts=restarts).labels_N


def diffused(z_ND: Tensor, n_neighbors: int, steps: int, approximate: bool = False) -> Tensor:
    """Unit rows after so many steps along the graph of this many neighbours."""
    return diffusion.diffused(z_ND, nearest(z_ND, min(n_neighbors, len(z_ND) - 1), None, approximate).index_NK, steps)
