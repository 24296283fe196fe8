"""Whether clusters shall be alike in size: as a setting says, or as the features do. Shapes: N images, D feature."""

from typing import Literal

from torch import Tensor

from coterie.clustering.sizes import EVEN, evenness
from coterie.run import Run

Sizes = Literal["auto", "even", "uneven"]


def uneven(z_ND: Tensor, sizes: Sizes, k: int, run: Run, name: str = "sizes") -> bool:
    """Whether the kinds in these features are of clearly different size, or are said to be; a note tells what was found."""
    if sizes != "auto":
        return sizes == "uneven"
    found = run.once(name, _evenness, z_ND, k, run)
    if found < EVEN:
        run.note(f"kinds seem to differ in size (evenness {found:.2f} of 1), so clusters may, too; --set sizes=even keeps them alike")
    return bool(found < EVEN)


def _evenness(z_ND: Tensor, k: int, run: Run) -> float:
    return evenness(z_ND, k, run.rng("sizes"))
