"""What a person's edits of a run come to, as its heads can learn it: kinds, what each picture is of them, and what was said.

Shapes: N images, D feature, C clusters of the method, K kinds after the edits.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.spaces import Reduced, reduced
from coterie.clustering.spectral import Graph
from coterie.errors import InputError
from coterie.fitting.hierarchy import Sorted, read_sorted
from coterie.learning import constraints
from coterie.learning.constraints import Anchors
from coterie.learning.taught import neighbours
from coterie.run.acts import Edited
from coterie.run.edits import edited
from coterie.run.files import read_config

AXES = 64  # main axes of the features on which heads learn, or twice the kinds where that is more, as TEMI's and TURTLE's


class Corrected(NamedTuple):
    """A run as it was corrected. numbers: the clusters there are, ascending; kind k is number k of them. p_NK float32: what each picture is
    by the run's clusters alone; labels_N int64: its kind after the edits, -1 in none; anchors: what was said, of copies too; outside_N
    bool: taken out of every kind; settled_N bool: nothing to ask about."""

    found: Sorted
    edited: Edited
    numbers: list[int]
    p_NK: Tensor
    labels_N: Tensor
    anchors: Anchors
    outside_N: Tensor
    settled_N: Tensor

    @property
    def changed(self) -> bool:
        """Whether anything was corrected or confirmed; names alone teach nothing."""
        moved = bool((torch.from_numpy(self.edited.cluster_N) != self.found.labels_N).any())
        return moved or bool(self.edited.confirmed_N.any()) or self.numbers != list(range(self.found.k))


def corrected(run: Path) -> Corrected:
    """Reads a finished run and its edits. InputError when they are damaged."""
    return of(read_sorted(run), edited(run))


def of(found: Sorted, now: Edited) -> Corrected:
    """The same, of what was read."""
    numbers, cluster_N = sorted(now.clusters), torch.from_numpy(now.cluster_N)
    kind_of = torch.full((now.following + 1,), -1)  # the last place is that of -1
    kind_of[numbers] = torch.arange(len(numbers))
    labels_N, confirmed_N = kind_of[cluster_N], torch.from_numpy(now.confirmed_N)
    said_N = torch.where(confirmed_N, labels_N, -1)
    anchors = constraints.closed(said_N, constraints.groups(len(said_N), constraints.copies(found.rows_ND)))
    outside_N = (labels_N < 0) & (found.labels_N >= 0) & (anchors.labels_N < 0)
    nothing_N = torch.isin(cluster_N, torch.tensor(sorted(now.not_kinds), dtype=torch.int64))
    moved_N = torch.zeros(len(said_N), dtype=torch.bool)
    for act in now.applied:
        if act["act"] == "move":
            moved_N[act["ids"]] = True
    p_NK = of_kinds(found.p_NK, found.labels_N, labels_N, moved_N & (said_N >= 0), len(numbers), kind_of[: found.k])
    settled_N = (anchors.labels_N >= 0) | outside_N | nothing_N | confirmed_N
    return Corrected(found, now, numbers, p_NK, labels_N, anchors, outside_N, settled_N)


def of_kinds(p_NC: Tensor, was_N: Tensor, now_N: Tensor, moved_N: Tensor, k: int, kind_of_C: Tensor) -> Tensor:
    """Probabilities (N, K) of the kinds. What a picture gave its own cluster goes to the kind it is in now; what it gave others, and what
    those gave that were moved one by one (moved_N), is shared as the other pictures of a cluster are.

    was_N, now_N: cluster and kind of each, -1 in none. kind_of_C: the kind that has a cluster's number, -1 where that is gone.
    """
    c = p_NC.shape[1]
    inside_N = (was_N >= 0) & (now_N >= 0)
    others_CK, all_CK = (_table(was_N[some_N], now_N[some_N], c, k) for some_N in (inside_N & ~moved_N, inside_N))
    itself_CK = torch.where((kind_of_C >= 0)[:, None], F.one_hot(kind_of_C.clamp(min=0), k).double(), 1 / k)
    share_CK = others_CK.where(others_CK.sum(1, keepdim=True) > 0, all_CK)
    share_CK = share_CK.where(share_CK.sum(1, keepdim=True) > 0, itself_CK)
    share_CK = share_CK / share_CK.sum(1, keepdim=True)
    p_NK = p_NC.double() @ share_CK
    stay_M = (inside_N & ~moved_N).nonzero().squeeze(1)
    own_M = p_NC[stay_M, was_N[stay_M]].double()[:, None]
    p_NK[stay_M] += own_M * (F.one_hot(now_N[stay_M], k).double() - share_CK[was_N[stay_M]])
    return p_NK.clamp(min=0).float()


def _table(a_N: Tensor, b_N: Tensor, c: int, k: int) -> Tensor:
    return (a_N * k + b_N).bincount(minlength=c * k).view(c, k).double()


class Ground(NamedTuple):
    """What heads learn on, the same however many answers come: the features seen from their mean, every encoder's at unit length, on their
    main axes; and the graph of their neighbours."""

    reduced: Reduced
    graph: Graph


def reduced_rows(run: Path, given: Corrected) -> Reduced:
    """The rows of a run. InputError where there is but one picture or kind, so that there is nothing to learn."""
    if len(given.labels_N) < 2 or len(given.numbers) < 2:
        raise InputError(f"{run} has one {'picture' if len(given.labels_N) < 2 else 'kind'}: there is nothing to ask or to learn")
    spaces = read_config(run)["settings"].get("spaces", "")  # the widths of the features of several encoders
    return reduced(given.found.rows_ND, spaces, max(AXES, 2 * len(given.numbers)))


def ground_of(found: Reduced) -> Ground:
    return Ground(found, neighbours(found.rows_Nd))
