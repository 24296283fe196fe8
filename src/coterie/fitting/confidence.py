"""How sure the clusters of a fit are, without labels: probabilities calibrated by a witness, and the images to leave out.

Shapes: N images, K clusters.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from coterie.clustering.neighbours import nearest
from coterie.clustering.spaces import reduced
from coterie.learning import evidence
from coterie.learning.borders import mixed_pairs, qualities
from coterie.learning.calibration import least_sure, temperature
from coterie.learning.witness import CLUSTERS, KINDS, SAMPLE, witness
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.run import Run


class Sure(NamedTuple):
    """`fitted` with calibrated probabilities; their temperature; unsure_N bool (N,); numbers for people."""

    fitted: Fitted
    temperature: float
    unsure_N: Tensor
    told: dict[str, Any]


@torch.no_grad()
def assured(fitted: Fitted, config: PretextConfig, run: Run) -> Sure:
    """The probabilities of `fitted` with the mean that a witness supports, and the `config.unsure` share of images that are left out.
    Which cluster is the likeliest does not change."""
    logits_NK, k = fitted.head(fitted.features_ND)[0].float(), config.n_clusters
    spaces = getattr(config, "spaces", "")  # no encoder's features outweigh another's
    z_ND = run.once("floor-rows", reduced, fitted.features_ND, spaces, evidence.AXES).rows_Nd if spaces else fitted.features_ND
    found = witness(z_ND, fitted.p_NK.argmax(1), k, run.rng("witness"))
    labels_N = fitted.p_NK.argmax(1).cpu()
    hot = temperature(logits_NK, found.agreed) if found else 1.0
    hot = float(run.broadcast(torch.tensor(hot, device=logits_NK.device)))  # one number for all ranks, and for the file: float32
    p_NK = (logits_NK / hot).softmax(1)
    agrees_N = found.labels_N == labels_N if found else torch.ones(len(p_NK), dtype=torch.bool)
    unsure_N = least_sure(p_NK.cpu(), agrees_N, config.unsure)
    told: dict[str, Any] = {"temperature": round(hot, 4), "raw": _mean(fitted.p_NK), "calibrated": _mean(p_NK)}
    told |= {"witness": KINDS[found.kind], "agreed": round(found.agreed, 4)} if found else {"witness": None}
    told |= {"unsure": int(unsure_N.sum()), **of_clusters(z_ND, p_NK, k, run.rng("borders"))}
    return Sure(replace(fitted, p_NK=p_NK), hot, unsure_N, told)


def of_clusters(z_ND: Tensor, p_NK: Tensor, k: int, generator: torch.Generator) -> dict[str, Any]:
    """What can be said of each cluster and of pairs, from a sample; nothing of one alone, or of very many."""
    index_S = evidence.sample(len(z_ND), generator, SAMPLE).to(z_ND.device)
    if not 2 <= k <= CLUSTERS or len(index_S) < 3:
        return {}
    rows_SD, p_SK = (z_ND[index_S] - z_ND.mean(0)).float().cpu(), p_NK[index_S].cpu()
    near_SK = nearest(rows_SD, evidence.how_many(len(rows_SD), k)).index_NK
    return {"clusters": qualities(rows_SD, p_SK, near_SK), "confused": mixed_pairs(p_SK.argmax(1), near_SK, k)}


def _mean(p_NK: Tensor) -> float:
    return round(float(p_NK.amax(1).cpu().double().mean()), 4)
