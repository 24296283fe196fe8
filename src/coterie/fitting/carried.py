"""The corrections of a run as the first acts of the one that grew out of it: what a person said is not asked again.

Pictures keep their ids in an update, and the run's clusters their numbers. New kinds stand behind them, so clusters that acts had made get
the next numbers anew. New pictures go where their cluster went: into what it was merged with; of what it was split into, to the nearest
part. N images, D feature.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coterie.run import edits
from coterie.run.acts import UNSURE, Act, Edited


class Carried(NamedTuple):
    """n_acts: those that the new run begins with; lost: those of the old one that nothing can be done with there; became: the number there
    of each cluster that was made by an act."""

    n_acts: int
    lost: int
    became: dict[int, int]


def carry(now: Edited, k: int, folder: Path, rows_ND: np.ndarray) -> Carried:
    """Writes the acts into the run `folder`. now: the old run as it was corrected; k: the clusters that its method gave; rows_ND: unit
    features of all images of the new one.

    Lost is an act about a cluster, or a part of one, whose pictures all went to a new kind.
    """
    if not now.applied:
        return Carried(0, 0, {})
    known, lost = edits.said(folder), 0
    after = edits.edited(known)
    became = {number: number for number in (UNSURE, *range(k))}  # what is in it and None, was lost
    for act in now.applied:
        if act["act"] in ("confirm", "not_a_kind"):  # of these only what they came to is carried, for new pictures are not confirmed
            continue
        again = _again(act, after, became, rows_ND)
        if again is None:
            lost += 1
        else:
            after = edits.append(known, again)
    for act in _standing(now, after, became):
        after = edits.append(known, act)
    return Carried(after.n_acts, lost, {old: new for old, new in became.items() if old >= k and new is not None})


def _again(act: Act, after: Edited, became: dict[int, Any], rows_ND: np.ndarray) -> Act | None:
    """The act in the numbers of the new run; `became` learns of the clusters that it makes."""
    if act["act"] == "split":
        return _split(act, after, became, rows_ND)
    if act["act"] == "move" and act["cluster"] not in became:
        became[act["cluster"]] = after.following
    there: dict[str, Any] = {name: act[name] for name in ("ids", "name") if name in act}
    there |= {name: became[act[name]] for name in ("cluster", "into") if name in act}
    if "clusters" in act:
        there["clusters"] = [became[number] for number in act["clusters"]]
    return None if None in [*there.values(), *there.get("clusters", [])] else {"act": act["act"], **there}


def _split(act: Act, after: Edited, became: dict[int, Any], rows_ND: np.ndarray) -> Act | None:
    cluster = became[act["cluster"]]
    became |= dict.fromkeys(act["into"])
    if cluster is None:
        return None
    ids = np.flatnonzero(after.cluster_N == cluster)
    parts = {number: ids[np.isin(ids, part)] for number, part in zip(act["into"], act["parts"])}
    parts = {number: part for number, part in parts.items() if len(part)}
    became |= dict(zip(parts, [cluster, *range(after.following, after.following + len(parts))]))
    if len(parts) < 2:
        return None
    new = ids[~np.isin(ids, np.concatenate([*parts.values()]))]
    nearest = (rows_ND[new] @ np.stack([_mean(rows_ND[part]) for part in parts.values()]).T).argmax(1)
    whole = [np.r_[part, new[nearest == j]].tolist() for j, part in enumerate(parts.values())]
    return {"act": "split", "cluster": cluster, "parts": whole}


def _standing(now: Edited, after: Edited, became: dict[int, Any]) -> Iterator[Act]:
    """What is no kind, and the pictures that are confirmed and still where they were."""
    nothing = [became[number] for number in sorted(now.not_kinds) if became[number] in after.clusters]
    yield from ({"act": "not_a_kind", "cluster": number} for number in nothing)
    n = len(now.cluster_N)
    there_N = np.array([UNSURE if became[c] is None else became[c] for c in now.cluster_N.tolist()], np.int64)
    right_N = now.confirmed_N & (after.cluster_N[:n] == there_N) & (there_N != UNSURE) & ~np.isin(there_N, nothing)
    if right_N.any():
        yield {"act": "confirm", "ids": np.flatnonzero(right_N).tolist()}


def _mean(rows_MD: np.ndarray) -> np.ndarray:
    mean_D = rows_MD.mean(0)
    return mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)
