"""The neighbours of every image: all pairs compared, or only rows near each other where all pairs would take long.

Shapes: N images, D feature, d components, K neighbours.
"""

from typing import Literal

from torch import Tensor

from coterie.clustering.kmeans import pca_whiten
from coterie.clustering.neighbours import Neighbours, nearest
from coterie.run import Run

Approximate = Literal["auto", "true", "false"]
ROWS = 10  # for each component of a whitening, at least: with few images the last components are noise, and tell nothing apart
MANY = 100_000  # rows from which all pairs take long on a CPU: their time grows with the square (benchmarks/results/near.csv)


def neighbours(z_ND: Tensor, count: int, how: Approximate, run: Run) -> Tensor:
    """The `count` most similar others of each row, (N, K) int64."""
    found: Neighbours = run.once("neighbours", nearest, z_ND, count, None, approximately(how, z_ND, run))
    return found.index_NK


def comparable(z_ND: Tensor, components: int, k: int) -> Tensor:
    """The features among which images are alike, (N, d): whitened to so many main axes, or twice the `k` clusters, one for 10 rows at most;
    0 components, or a single row: as they are. InputError: rows that are not finite.

    A pretext gives a few directions most of the variance, such as how bold a digit is drawn, and they would decide; whitened, all count
    alike.
    """
    if not components or len(z_ND) < 2:
        return z_ND
    return pca_whiten(z_ND, max(2, min(max(components, 2 * k), len(z_ND) // ROWS)))


def approximately(how: Approximate, z_ND: Tensor, run: Run) -> bool:
    """Whether to find nearly all neighbours and not all: as was said, else for 100,000 rows and more on a CPU. A note tells it."""
    if how != "auto":
        return how == "true"
    if len(z_ND) < MANY or z_ND.device.type != "cpu":
        return False
    run.note(f"{len(z_ND):,} images: some 0.95 of their nearest neighbours are found; --set approximate=false compares all pairs")
    return True
