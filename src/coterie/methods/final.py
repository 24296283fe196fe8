"""Final."""
from dataclasses import dataclass
from torch import nn
from coterie.images import Images
from coterie.methods.instance_level import clusters_of
from coterie.heads import Centroids
from coterie.encoder import features
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.run import Run

@dataclass(frozen=True)
class Config(PretextConfig):
    final: str = "graph"
    restarts: int = 10

def assign(encoder: nn.Module, images: Images, config: Config, run: Run) -> Fitted:
    z_ND = run.once("features", features, encoder, images, run)
    head: Centroids = run.new("centroids", Centroids, z_ND.shape[1], config.n_clusters)  # type: ignore[assignment]
    found = run.once("k-means", clusters_of, z_ND, config.n_clusters, config.restarts, run)
    head.calibrate(found.centroids_KD, z_ND, found.labels_N)
    return Fitted.from_parts(encoder, head, z_ND)
