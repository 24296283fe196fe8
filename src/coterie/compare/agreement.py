"""How far two sortings of the same pictures agree, and which pictures moved from one to the other."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from coterie.compare.runs import Sorting
from coterie.errors import InputError
from coterie.evaluate import metrics


class Moved(NamedTuple):
    """Pictures that went from cluster `from_` of the one run to cluster `to` of the other, -1 unsure; rows_M: theirs in the one run."""

    from_: int
    to: int
    rows_M: np.ndarray


class Pair(NamedTuple):
    """Two runs, of M pictures that both have.

    only: pictures of each that the other has not; unsure: shared ones that are in no cluster of each. Of those in a cluster of both: ari
    and nmi, NaN where there are none; partner: cluster of the other -> cluster of the one (the Hungarian method), so that as many
    pictures as possible stay; stay: the share of them that does; n_moved: those that do not. moves: of all shared pictures, the largest
    first.
    """

    n_shared: int
    only: tuple[int, int]
    unsure: tuple[int, int]
    ari: float
    nmi: float
    partner: dict[int, int]
    stay: float
    n_moved: int
    moves: list[Moved]


def pair(one: Sorting, other: Sorting) -> Pair:
    """Compares two runs. InputError when they have no picture in common."""
    rows_M, theirs_M = shared(one, other)
    if not len(rows_M):
        raise InputError(f"{one.run} and {other.run} have no picture in common: neither by content nor by path")
    a_M, b_M = one.cluster_N[rows_M], other.cluster_N[theirs_M]
    both_M = (a_M >= 0) & (b_M >= 0)
    a, b = a_M[both_M], b_M[both_M]
    partner = metrics.match(a, b) if len(a) else {}
    expected_M = np.array([partner.get(int(cluster), -2) if cluster >= 0 else -1 for cluster in b_M])
    moved_M = expected_M != a_M
    pairs, of_M = np.unique(np.stack([a_M[moved_M], b_M[moved_M]], 1), axis=0, return_inverse=True)
    where = rows_M[moved_M]
    moves = [Moved(int(f), int(t), where[of_M.reshape(-1) == i]) for i, (f, t) in enumerate(pairs)]
    moves.sort(key=lambda move: (-len(move.rows_M), move.from_, move.to))
    n_moved = int((moved_M & both_M).sum())
    return Pair(
        len(rows_M), (len(one.paths) - len(rows_M), len(other.paths) - len(rows_M)), (int((a_M < 0).sum()), int((b_M < 0).sum())),
        metrics.ari(a, b) if len(a) else np.nan, metrics.nmi(a, b) if len(a) else np.nan,
        partner, 1 - n_moved / len(a) if len(a) else np.nan, n_moved, moves,
    )  # fmt: skip


def shared(one: Sorting, other: Sorting) -> tuple[np.ndarray, np.ndarray]:
    """Rows (M,) of the pictures that both have, in the one and in the other, each once, ascending in the one.

    The same content under the same path first, then the same content under another path. Where a run tells no content, the path decides;
    and where features were fitted, whose rows tell nothing of their pictures, row i of both, if there are as many.
    """
    n = len(one.paths)
    if (one.features or other.features) and one.digests != other.digests:
        rows = np.arange(n if n == len(other.paths) else 0)
        return rows, rows
    found: dict[int, int] = {}
    by_path: dict[str, list[int]] = {}
    for j, path in enumerate(other.paths):
        by_path.setdefault(path, []).append(j)
    taken: set[int] = set()
    for i, (path, digest) in enumerate(zip(one.paths, one.digests)):
        for j in by_path.get(path, ()):
            if j not in taken and (not digest or not other.digests[j] or digest == other.digests[j]):
                found[i] = j
                taken.add(j)
                break
    by_content: dict[str, list[int]] = {}
    for j in reversed(range(len(other.paths))):
        if j not in taken and other.digests[j]:
            by_content.setdefault(other.digests[j], []).append(j)
    for i, digest in enumerate(one.digests):
        if i not in found and by_content.get(digest):
            found[i] = by_content[digest].pop()
    rows = np.array(sorted(found), np.int64)
    return rows, np.array([found[i] for i in rows.tolist()], np.int64)


def called(run: Path) -> str:
    """A short name of a run, for tables."""
    return run.resolve().name
