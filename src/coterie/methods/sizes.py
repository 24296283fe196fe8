"""Whether clusters shall be alike in size, or what sizes they shall have: as a setting says, or as the features do.

Shapes: N images, D feature, K clusters.
"""

from typing import Literal

import torch
from torch import Tensor

from coterie.clustering.sizes import EVEN, evenness, evenness_of, kinds_of_any_size, power_law, shares, untorn
from coterie.errors import InputError
from coterie.run import Run

Sizes = Literal["auto", "even", "uneven"]
TOLD = 0.9  # evenness below which clusters are told how large to be. Kinds whose sizes fall evenly to a fifth have 0.89; the graph of a
# pretext's features of digits, whose kinds are alike, had 0.96 and 0.97 on the seeds 2 and 4, and two of them in one part
SEEM = "kinds seem to differ in size"
ESTIMATED, POWER_LAW = "estimated", "power-law"  # a prior that the features tell


def uneven(z_ND: Tensor, sizes: Sizes, k: int, run: Run, name: str = "sizes", below: float = EVEN) -> bool:
    """Whether the kinds in these features are of clearly different size (evenness `below` this), or are said to be; a note tells what was
    found."""
    if sizes != "auto":
        return sizes == "uneven"
    found = run.once(name, _evenness, z_ND, k, run)
    if found < below and not any(row.get("text", "").startswith(SEEM) for row in run.history):  # other features may tell it again
        run.note(f"{SEEM} (evenness {found:.2f} of 1), so clusters may, too; --set sizes=even keeps them alike")
    return bool(found < below)


def prior_of(prior: str, z_ND: Tensor, k: int, run: Run) -> Tensor | None:
    """The shares (K,) that clusters shall have, summing to one, in any order; None where none were asked for ("").

    "60,30,10": shares or counts; estimated: those of the parts that the graph of neighbours falls into; power-law: the power of the rank
    that is nearest to these. InputError when it is none of that, or not K positive numbers.
    """
    if not prior:
        return None
    if prior in (ESTIMATED, POWER_LAW):
        shares_K = run.once("shares", _shares, z_ND, k, run)
        shares_K = power_law(shares_K) if prior == POWER_LAW else shares_K
        run.note(f"prior={prior}: the largest kind is taken to have {shares_K.max():.1%} of the images, the smallest {shares_K.min():.1%}")
        return shares_K.float().to(z_ND.device)
    try:
        sizes = [float(word) for word in prior.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) != k or not all(0 < size < float("inf") for size in sizes):
        raise InputError(
            f"prior={prior}: wanted {k} positive numbers with commas between, one for each cluster, or {ESTIMATED} or {POWER_LAW}"
        )
    prior_K = torch.tensor(sizes, device=z_ND.device)
    return prior_K / prior_K.sum()


def shares_of(z_ND: Tensor, sizes: Sizes, k: int, run: Run) -> Tensor | None:
    """How large kinds are in these features, (K,) float32, where clusters may differ in size; None where they shall be alike."""
    if not uneven(z_ND, sizes, k, run, below=TOLD):
        return None
    found_K: Tensor = run.once("shares", _shares, z_ND, k, run)
    return found_K.float().to(z_ND.device)


def of_any_size(z_ND: Tensor, labels_N: Tensor, sizes: Sizes, k: int, run: Run) -> Tensor:
    """These clusters, (N,) int64, or those of any size in their place: where `sizes` says so, or where these tear kinds apart."""
    if sizes == "even":
        return labels_N
    if sizes == "uneven":
        return run.once("kinds", _kinds, z_ND, k, run)
    found_N: Tensor = run.once("untorn", _untorn, z_ND, labels_N, k, run)
    if not torch.equal(found_N, labels_N):
        found = evenness_of(found_N, k)
        run.note(f"{SEEM} (evenness {found:.2f} of 1), so clusters do, too; --set sizes=even is diffusion as it is")
    return found_N


def _kinds(z_ND: Tensor, k: int, run: Run) -> Tensor:
    return kinds_of_any_size(z_ND, k, run.rng("kinds"))


def _untorn(z_ND: Tensor, labels_N: Tensor, k: int, run: Run) -> Tensor:
    return untorn(z_ND, labels_N, k, run.rng("kinds"))


def _shares(z_ND: Tensor, k: int, run: Run) -> Tensor:
    shares_K = shares(z_ND, k, run.rng("sizes")).clamp(min=1 / len(z_ND))  # no kind is asked to be empty
    return shares_K / shares_K.sum()


def _evenness(z_ND: Tensor, k: int, run: Run) -> float:
    return evenness(z_ND, k, run.rng("sizes"))
