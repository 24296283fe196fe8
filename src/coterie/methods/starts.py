"""Where heads may begin: from clusterings, each of its own, which a few updates teach them.

Heads that begin anywhere find the kinds of many sets; on an unlucky seed, and with many clusters always, each of them ends with two kinds
in one cluster and another one torn in two. The graph of neighbours knows better, and errs in other places than what is learned from
there; how wide its neighbourhoods are decides where. A few clusters on the axes of given features begin from k-means instead: cuts of
that graph are so alike there that all heads end in the same place. Shapes: N images, S of them, D feature, d components, H heads,
K clusters or neighbours.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from coterie.clustering.kmeans import kmeans
from coterie.clustering.neighbours import Neighbours, nearest, neighbourhood
from coterie.clustering.sampling import sample
from coterie.clustering.spaces import Reduced, unit_by_space
from coterie.clustering.spectral import spectral
from coterie.networks.heads import Heads
from coterie.run import Run

MOST = 100  # neighbours
RANGE = 0.7, 2.5  # times the usual number of neighbours, in the narrowest and the widest neighbourhoods
SAMPLE, EACH = 5000, 50  # rows that are cut, at most, or so many a cluster: what a cut costs grows with them
TAUGHT = 40, 0.05  # updates, and rate of Adam, with which a head learns the clusters it starts from
FEW = 20  # clusters on axes that begin from k-means
ITERS = 15  # of that
SOFT = 0.1  # label smoothing meanwhile: a start is no verdict


def begin(heads: Heads, z_ND: Tensor, rows: Reduced | None, run: Run) -> None:
    """Half of the heads learn clusterings of the features (N, D): spectral ones, each of neighbourhoods of another width, or a few clusters
    on axes k-means from other places; the other heads stay.

    rows: what the heads see of the features; None: the features as they are.
    """
    n_heads, k, _ = heads.weight.shape
    if n_heads < 2:
        return
    index_S = sample(len(z_ND), run.rng("start", "sample"), max(SAMPLE, EACH * k)).to(z_ND.device)
    z_SD, seen_SD = z_ND[index_S], (z_ND if rows is None else rows.rows_Nd)[index_S]
    if rows is not None and k <= FEW:
        teach(heads, seen_SD, run.once("starts", partitions, seen_SD, k, n_heads // 2, run), run)
        return
    count = neighbourhood(len(z_SD), k, MOST)
    counts = widths(count, n_heads // 2)
    index_SK, similarity_SK = graph(z_SD, rows, counts[-1], run)
    teach(heads, seen_SD, run.once("starts", starts, index_SK, similarity_SK, counts, k, run), run)


def widths(count: int, n: int) -> list[int]:
    """Numbers of neighbours, `n` of them in even ratios over the range around the usual one."""
    least, most = RANGE
    return [max(1, round(count * least * (most / least) ** ((i + 0.5) / n))) for i in range(n)]


def graph(z_ND: Tensor, rows: Reduced | None, count: int, run: Run) -> Neighbours:
    """So many neighbours of each image, seen from the mean; fewer where there are no more images."""
    # axes that are left out tell little, but neighbours are a little better
    seen_ND = z_ND - z_ND.mean(0) if rows is None else unit_by_space(z_ND - rows.mean_D, rows.space_D)
    found: Neighbours = run.once("graph", nearest, seen_ND, min(len(z_ND) - 1, count))
    return found


def starts(index_NK: Tensor, similarity_NK: Tensor, widths: Sequence[int], k: int, run: Run) -> Tensor:
    """A spectral clustering for each head, (H, N) int64, of so many neighbours."""
    found = [spectral(index_NK[:, :width], similarity_NK[:, :width], k, run.rng("start", head)) for head, width in enumerate(widths)]
    return torch.stack(found)


def partitions(rows_Nd: Tensor, k: int, n: int, run: Run) -> Tensor:
    """k-means for each of `n` heads, (n, N) int64, each from its own draw."""
    return torch.stack([kmeans(rows_Nd, k, run.rng("start", head), ITERS, "k-means++").labels_N for head in range(n)])


def teach(heads: Heads, rows_Nd: Tensor, labels_HN: Tensor, run: Run, temperature: float = 1.0) -> None:
    """The first heads learn the clusters (H, N) they start from; others stay. `temperature` divides their logits."""
    updates, rate = TAUGHT
    optimizer = Adam(heads.parameters(), rate * temperature)
    for _ in range(updates):
        logits_HNK = heads(rows_Nd)[: len(labels_HN)] / temperature
        loss = F.cross_entropy(logits_HNK.flatten(0, 1), labels_HN.flatten(), label_smoothing=SOFT)
        run.step(loss * len(labels_HN), optimizer)
