"""The neighbours of every image: all pairs compared, or approximate through faiss where all pairs would take long.

Shapes: N images, D feature, K neighbours.
"""

from importlib.util import find_spec
from typing import Literal

from torch import Tensor

from coterie.clustering.neighbours import Neighbours, nearest
from coterie.run import Run

Approximate = Literal["auto", "true", "false"]
MANY = 100_000  # rows from which all pairs take long on a CPU: their time grows with the square (benchmarks/results/near.csv)


def neighbours(z_ND: Tensor, count: int, how: Approximate, run: Run) -> Tensor:
    """The `count` most similar others of each row, (N, K) int64."""
    found: Neighbours = run.once("neighbours", nearest, z_ND, count, None, approximately(how, z_ND, run))
    return found.index_NK


def approximately(how: Approximate, z_ND: Tensor, run: Run) -> bool:
    """Whether to search through faiss: as was said, else for 100,000 rows and more on a CPU, where it is installed. A note tells it, or
    that it is missing."""
    if how != "auto":
        return how == "true"
    if len(z_ND) < MANY or z_ND.device.type != "cpu":
        return False
    if find_spec("faiss") is None:
        run.note(
            f"{len(z_ND):,} images: all pairs are compared for their neighbours, which takes long; pip install coterie[faiss] finds nearly "
            "the same ones sooner"
        )
        return False
    run.note(f"{len(z_ND):,} images: their neighbours are found approximately, by faiss; --set approximate=false compares all pairs")
    return True
