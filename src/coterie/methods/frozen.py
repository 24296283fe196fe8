"""What the heads on frozen features share (TEMI, TURTLE): the rows they learn on, where they start, and which of them is the best.

    rows        each encoder's features seen from their mean at unit length, on their main axes
    start       every head but the last from a spectral clustering of its own, half of them on wider neighbourhoods; the last from SCAN's
                clustering stage, which errs elsewhere; or all at random, as the papers
    choice      the head with which neighbours differ least, sizes being even (`diagnose.discord`), of the last epoch: the first ones lie
                near the start, which was cut along the same neighbours, and would win by that alone. No label is looked at

Shapes: N images, d components, H heads, K clusters or neighbours.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from coterie.clustering.neighbours import Neighbours, neighbourhood
from coterie.clustering.spaces import Reduced, reduced
from coterie.learning.diagnose import discord
from coterie.methods import scan
from coterie.methods.bounds import Count, Whole
from coterie.methods.final import Config as FinalConfig
from coterie.methods.final import Final
from coterie.methods.pretext import PretextConfig
from coterie.methods.starts import MOST, graph, starts, teach
from coterie.networks.heads import Heads
from coterie.run import Run

WIDER = 1.6  # times as many neighbours for the start of every second head


@dataclass(frozen=True)
class Config(FinalConfig):
    """Settings of heads on frozen features."""

    spaces: str = ""  # widths of the features of several encoders that stand side by side, "1280,1280"; empty: one encoder
    components: Whole = 64  # main axes kept of each encoder's features, or twice n_clusters where that is more; 0: all
    start: Literal["both", "spectral", "random"] = "both"  # both: spectral, and one head as SCAN's clustering stage; random: as the papers
    n_neighbors: Whole = 0  # of the start, the pairs and the choice; 0: 2.5 times the root of images a cluster, at most 100
    n_heads: Count = 5  # each from a start of its own; the best is chosen by what neighbours say
    final: Final = "heads"  # their own; or diffusion, k-means, on the features


def prepare(z_ND: Tensor, config: Config, run: Run) -> tuple[Reduced, Neighbours, int]:
    """The rows, their neighbours for the widest neighbourhood, and how many of these are the usual one."""
    rows = run.once("rows", reduced, z_ND, config.spaces, config.components and max(config.components, 2 * config.n_clusters))
    count = min(len(z_ND) - 1, config.n_neighbors or neighbourhood(len(z_ND), config.n_clusters, MOST))
    return rows, graph(z_ND, rows, round(WIDER * count), run), count


def begin(
    heads: Heads, z_ND: Tensor, rows_Nd: Tensor, found: Neighbours, count: int, config: Config, run: Run, temperature: float = 1.0
) -> None:
    """Heads learn the clusters they start from; as they are with start=random. `temperature` divides their logits."""
    if config.start == "random":
        return
    widths = [found.index_NK.shape[1] if head % 2 else count for head in range(config.n_heads)]
    labels_HN = run.once("starts", starts, found.index_NK, found.similarity_NK, widths, config.n_clusters, run)
    if config.start == "both" and config.n_heads > 1:
        labels_HN[-1] = of_scan(z_ND, found.index_NK, config, run)
    teach(heads, rows_Nd, labels_HN, run, temperature)


def of_scan(z_ND: Tensor, index_NK: Tensor, config: Config, run: Run) -> Tensor:
    """The cluster of each image by SCAN's clustering stage, (N,) int64."""
    shared = {field.name: getattr(config, field.name) for field in fields(PretextConfig)} | {"pretext": "frozen"}
    head = scan.cluster(z_ND, index_NK[:, : scan.PUBLISHED], scan.Config(**shared, sizes=config.sizes, spaces=config.spaces), run)
    with torch.no_grad():
        return head(z_ND)[0].argmax(1)


def scores(p_HNK: Tensor, index_NK: Tensor) -> Tensor:
    """How bad each head is, (H,): how often neighbours differ, and how uneven sizes are. No label is looked at."""
    return torch.tensor([discord(labels_N, index_NK, p_HNK.shape[-1]) for labels_N in p_HNK.argmax(-1)])
