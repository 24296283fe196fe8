"""Where heads on frozen features may begin: each from a spectral clustering of its own, which a few updates teach it.

With few clusters heads find the kinds from anywhere; with many, some always end between two. The graph of neighbours knows better, and errs
in other places than what is learned from there. Shapes: N images, D feature, d components, H heads, K neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from coterie.clustering.neighbours import Neighbours, nearest
from coterie.clustering.spaces import Reduced, unit_by_space
from coterie.clustering.spectral import spectral
from coterie.networks.heads import Heads
from coterie.run import Run

MOST = 100  # neighbours
WIDER = 1.6  # times as many neighbours for every second head
TAUGHT = 40, 0.05  # updates, and rate of Adam, with which a head learns the clusters it starts from
SOFT = 0.1  # label smoothing meanwhile: a start is no verdict


def graph(z_ND: Tensor, rows: Reduced, count: int, run: Run) -> Neighbours:
    """The neighbours of each image for the widest neighbourhood, of which `count` are the usual one."""
    unit_ND = unit_by_space(z_ND - rows.mean_D, rows.space_D)  # axes that are left out tell little, but neighbours are a little better
    found: Neighbours = run.once("graph", nearest, unit_ND, min(len(z_ND) - 1, round(WIDER * count)))
    return found


def starts(index_NK: Tensor, similarity_NK: Tensor, count: int, k: int, n_heads: int, run: Run) -> Tensor:
    """A spectral clustering for each head, (H, N) int64, every second one of wider neighbourhoods."""
    found = []
    for head in range(n_heads):
        wide = slice(None if head % 2 else count)
        found.append(spectral(index_NK[:, wide], similarity_NK[:, wide], k, run.rng("start", head)))
    return torch.stack(found)


def teach(heads: Heads, rows_Nd: Tensor, labels_HN: Tensor, run: Run, temperature: float = 1.0) -> None:
    """The first heads learn the clusters (H, N) they start from; others stay. `temperature` divides their logits."""
    updates, rate = TAUGHT
    optimizer = Adam(heads.parameters(), rate * temperature)
    for _ in range(updates):
        logits_HNK = heads(rows_Nd)[: len(labels_HN)] / temperature
        loss = F.cross_entropy(logits_HNK.flatten(0, 1), labels_HN.flatten(), label_smoothing=SOFT)
        run.step(loss * len(labels_HN), optimizer)
