"""Whether clusters shall be alike in size: as a setting says, or as the features do. Shapes: N images, D feature, K clusters."""

from typing import Literal

import torch
from torch import Tensor

from coterie.clustering.sizes import EVEN, evenness, evenness_of, kinds_of_any_size, untorn
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


def of_any_size(z_ND: Tensor, labels_N: Tensor, sizes: Sizes, k: int, run: Run) -> Tensor:
    """These clusters, (N,) int64, or those of any size in their place: where `sizes` says so, or where these tear kinds apart."""
    if sizes == "even":
        return labels_N
    if sizes == "uneven":
        return run.once("kinds", _kinds, z_ND, k, run)
    found_N: Tensor = run.once("untorn", _untorn, z_ND, labels_N, k, run)
    if not torch.equal(found_N, labels_N):
        found = evenness_of(found_N, k)
        run.note(f"kinds seem to differ in size (evenness {found:.2f} of 1), so clusters do, too; --set sizes=even is diffusion as it is")
    return found_N


def _kinds(z_ND: Tensor, k: int, run: Run) -> Tensor:
    return kinds_of_any_size(z_ND, k, run.rng("kinds"))


def _untorn(z_ND: Tensor, labels_N: Tensor, k: int, run: Run) -> Tensor:
    return untorn(z_ND, labels_N, k, run.rng("kinds"))


def _evenness(z_ND: Tensor, k: int, run: Run) -> float:
    return evenness(z_ND, k, run.rng("sizes"))
