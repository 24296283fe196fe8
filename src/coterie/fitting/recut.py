"""Another number of clusters from a finished run, in seconds: nothing is trained, and no picture is read.

Shapes: N images, D feature, K clusters before, P parts, J clusters after.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coterie.clustering import hierarchy
from coterie.clustering.hierarchy import Division, Merge
from coterie.errors import InputError
from coterie.fitting.hierarchy import Sorted, kept, read_sorted
from coterie.networks.recut import Recut, centroids


@dataclass
class Cut:
    """One step from K clusters to J: the head around the one before, and what it does. `into`: the new clusters of each old one, most often
    one; `merges`: sets of old clusters that are one now; `splits`: old clusters and their numbers of parts."""

    head: Recut
    into: list[list[int]]
    merges: list[list[int]]
    splits: list[tuple[int, int]]

    def apply(self, found: Sorted) -> Sorted:
        p_NJ = self.head.probabilities(found.p_NK, found.rows_ND)
        labels_N = torch.where(found.labels_N < 0, -1, p_NJ.argmax(1))
        return Sorted(p_NJ, labels_N, found.rows_ND, found.seed)

    def layer(self) -> dict[str, Tensor]:
        """The tensors of the head itself, without those before it."""
        return {name: value for name, value in self.head.state_dict().items() if not name.startswith("before.")}


def cut(found: Sorted, group_K: list[int], parts: dict[int, list[Tensor]]) -> Cut:
    """Joins clusters of the same group (its smallest cluster), and divides those in `parts` into these rows. The new clusters stand in the
    order of the old ones: a merged one where its smallest was, parts where their cluster was, the largest first."""
    of_P: list[int] = []
    into_P: list[int] = []
    which: list[int] = []
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    number: dict[int, int] = {}
    into: list[list[int]] = []
    for cluster in range(found.k):
        pieces = parts.get(cluster, [])
        if pieces:
            weight_PD, bias_P = centroids(found.rows_ND, sorted(pieces, key=lambda rows: (-len(rows), int(rows[0]))))
            which += range(len(of_P), len(of_P) + len(pieces))
            weights.append(weight_PD)
            biases.append(bias_P)
            into.append(list(range(_next(into), _next(into) + len(pieces))))
        else:
            group = group_K[cluster]
            into.append([number.setdefault(group, _next(into))])
        of_P += [cluster] * len(into[-1])
        into_P += into[-1]
    head = Recut(nn.Identity(), found.rows_ND.shape[1], found.k, _next(into), len(of_P), len(which))
    head.of.copy_(torch.tensor(of_P))
    head.into.copy_(torch.tensor(into_P))
    if which:
        head.which.copy_(torch.tensor(which))
        head.weight.copy_(torch.cat(weights))
        head.bias.copy_(torch.cat(biases))
    joined = [[c for c in range(found.k) if group_K[c] == group] for group in sorted({g for g in group_K if group_K.count(g) > 1})]
    return Cut(head, into, joined, [(cluster, len(pieces)) for cluster, pieces in sorted(parts.items())])


def _next(into: list[list[int]]) -> int:
    return max((new for numbers in into for new in numbers), default=-1) + 1


def asked(found: Sorted, merge: Sequence[Sequence[int]], split: Sequence[tuple[int, int]]) -> Cut:
    """The merges and splits that were named. InputError for what cannot be."""
    for numbers in merge:
        if len(numbers) < 2 or len(set(numbers)) < len(numbers):
            raise InputError(f"--merge {','.join(map(str, numbers))}: wanted two different clusters, or more")
    named = [cluster for cluster, _ in split]
    joined = {cluster for numbers in merge for cluster in numbers}
    for cluster in (*joined, *named):
        if not 0 <= cluster < found.k:
            raise InputError(f"there is no cluster {cluster}; the run has 0 to {found.k - 1}")
    for cluster in named:
        if named.count(cluster) > 1 or cluster in joined:
            raise InputError(f"cluster {cluster} is named twice; merge or split it in one recut, and go on from that in another")
    parts = {}
    for cluster, number in split:
        if number < 2:
            raise InputError(f"--split {cluster}:{number}: wanted 2 parts or more")
        rows = (found.labels_N == cluster).nonzero().squeeze(1)
        part_M = hierarchy.parted(found.rows_ND[rows], number, found.rng()) if len(rows) >= number else rows.new_zeros(0)
        parts[cluster] = [rows[part_M == part] for part in part_M.unique().tolist()]
        if len(parts[cluster]) < number:
            raise InputError(f"--split {cluster}:{number}: cluster {cluster} has {len(rows):,} pictures, too few different ones")
    return cut(found, hierarchy.groups(found.k, merge), parts)


def to_number(found: Sorted, clusters: int, merges: list[Merge], divisions: list[Division], whole: Sequence[int] = ()) -> Cut:
    """`clusters` of them, as the hierarchy has it; clusters in `whole` are not divided. InputError where that is impossible."""
    if clusters <= found.k:
        steps = merges[: found.k - clusters]
        if len(steps) < found.k - clusters:
            raise InputError(f"--clusters {clusters}: {found.k - len(merges)} are the fewest, as what was split stays apart")
        return cut(found, hierarchy.groups(found.k, [(one.a, one.b) for one in steps]), {})
    free = [one for one in divisions if one.cluster not in whole]
    numbers = [one.cluster for one in free]
    leaves, done = hierarchy.divided(found.rows_ND, found.labels_N, numbers, clusters - found.k, found.rng, free)
    if len(done) < clusters - found.k:
        raise InputError(f"--clusters {clusters}: these pictures can be cut into at most {found.k + len(done)}")
    by_cluster = {cluster: [leaf.rows for leaf in leaves if leaf.cluster == cluster] for cluster in {one.cluster for one in done}}
    return cut(found, list(range(found.k)), by_cluster)


def steps(
    found: Sorted, tree: tuple[list[Merge], list[Division]], clusters: int | None, merge: Sequence[Sequence[int]],
    split: Sequence[tuple[int, int]],
) -> tuple[list[Cut], Sorted]:  # fmt: skip
    """What leads to the asked clusters, first the named merges and splits, then the number; and where it leads. `tree`: the run's own."""
    merges, divisions = tree
    before, done = found, list[Cut]()
    if merge or split:
        done.append(asked(found, merge, split))
        found = done[-1].apply(found)
    if clusters is None or clusters == found.k:
        return done, found
    whole: list[int] = []
    if done:
        whole = [done[0].into[numbers[0]][0] for numbers in done[0].merges]
        separate = [(a, b) for one in done[0].into for a in one for b in one if a < b]
        merges = found.merges(separate) if clusters < found.k else []
        divisions = found.divisions(still(before, found, done, divisions)) if clusters > found.k else []
    done.append(to_number(found, clusters, merges, divisions, whole))
    return done, done[-1].apply(found)


def still(before: Sorted, after: Sorted, done: list[Cut], divisions: list[Division]) -> dict[int, Division | None]:
    """Of the new clusters that hold the very pictures of an old one: how that splits, as it was found; None where it cannot."""
    known = {one.cluster: one for one in divisions}
    now = became(before.k, done)
    found: dict[int, Division | None] = {}
    for old in range(before.k):
        if len(now[old]) == 1 and torch.equal(before.labels_N == old, after.labels_N == now[old][0]):
            new = now[old][0]
            found[new] = known[old]._replace(cluster=new) if old in known else None
    return found


def became(k: int, done: list[Cut]) -> list[list[int]]:
    """The new clusters of each of the k old ones, ascending, through all steps."""
    now = [[cluster] for cluster in range(k)]
    for step in done:
        now = [sorted({new for old in numbers for new in step.into[old]}) for numbers in now]
    return now


def recut(
    run: Path, output: Path, clusters: int | None = None, merge: Sequence[Sequence[int]] = (), split: Sequence[tuple[int, int]] = ()
) -> dict[str, Any]:
    """Makes the run folder `output` with other clusters of `run`; returns what was done (`recut --json`).

    clusters  how many, by the run's hierarchy
    merge     sets of clusters that become one each;  split: (cluster, parts) pairs. Both come before `clusters`, and stay as asked

    A picture's probability for a merged cluster is the sum of those before; that for a part is the cluster's times the part's. So a few
    pictures may go to another cluster than the one that was merged or split: they are counted (`moved`).
    InputError: a run that is not finished or is damaged, clusters or numbers that there cannot be, an `output` that is not empty.
    """
    from coterie.fitting import derived, recut_files

    started = time.monotonic()
    run, output = Path(run), Path(output)
    derived.check(run, output)
    if clusters is None and not merge and not split:
        raise InputError("recut needs --clusters K, --merge A,B or --split A")
    before = read_sorted(run)
    if clusters is not None and not 1 <= clusters <= len(before.p_NK):
        raise InputError(f"--clusters {clusters}: wanted 1 to {len(before.p_NK):,}, the number of pictures")
    tree = kept(run, before)
    done, after = steps(before, tree, clusters, merge, split)
    now = became(before.k, done)
    of_N = torch.zeros(before.k, after.k, dtype=torch.bool)
    for old, numbers in enumerate(now):
        of_N[old, numbers] = True
    inside_N = before.labels_N >= 0
    moved = int((~of_N[before.labels_N[inside_N], after.labels_N[inside_N]]).sum())
    what = {
        "became": {str(old): numbers for old, numbers in enumerate(now)},
        "merges": [{"clusters": [old for old in range(before.k) if new in now[old]], "into": new} for new in _several(now)],
        "splits": [{"cluster": old, "into": numbers} for old, numbers in enumerate(now) if len(numbers) > 1],
        "moved": moved,
    }
    with derived.folder(output, after, lambda: still(before, after, done, tree[1])) as part:
        recut_files.write(run, part, before, after, done, what, started)
    return {"run": str(output), "of": str(run), "n_clusters_before": before.k, "n_clusters": after.k, **what}


def _several(now: list[list[int]]) -> list[int]:
    """The new clusters that hold more than one old one."""
    every = [new for numbers in now for new in numbers]
    return sorted({new for new in every if every.count(new) > 1})
