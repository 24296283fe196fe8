"""Which pictures of a run to ask a person about: whose answers would tell most of all others. What `coterie ask` and a review show."""

from pathlib import Path
from typing import Any

from torch import Tensor

from coterie.errors import InputError
from coterie.fitting.teaching import Corrected, corrected, reduced_rows
from coterie.learning.asking import leads, telling
from coterie.learning.taught import first_beliefs
from coterie.run.files import read_assignments


def ask(run: Path, count: int = 20, given: Corrected | None = None, rows_Nd: Tensor | None = None) -> list[dict[str, Any]]:
    """`count` pictures, or all that are left, the most telling first: {id, path, cluster, name, likeliest, lead}.

    cluster     where it is now, -1 in none, and its name ("" where it has none);  likeliest: where what was said so far would put it
    lead        of the likeliest before the second, 0 to 1
    Neither what was confirmed or moved is asked again, nor what was taken out of all kinds, nor what is in a cluster that is none.
    given, rows_Nd: the run with its edits, and what is learned on, for a caller that has read them.
    InputError: no such run, one that is damaged, a count below 1.
    """
    if count < 1:
        raise InputError(f"--n {count}: wanted a number of pictures, 1 or more")
    run = Path(run)
    given = given or corrected(run)
    if given.settled_N.all():
        return []
    p_NK, ids = chosen(given, reduced_rows(run, given).rows_Nd if rows_Nd is None else rows_Nd, count)
    paths, lead_N, best_N = read_assignments(run)["path"], leads(p_NK), p_NK.argmax(1)
    names, cluster_N = given.edited.names, given.edited.cluster_N
    return [
        {
            "id": i, "path": paths[i].as_py(), "cluster": int(cluster_N[i]), "name": names.get(int(cluster_N[i]), ""),
            "likeliest": given.numbers[int(best_N[i])], "lead": round(float(lead_N[i]), 4),
        }
        for i in ids.tolist()
    ]  # fmt: skip


def chosen(given: Corrected, rows_Nd: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """What is believed of each picture, (N, K), and the ids of the most telling ones.

    By the kinds' means alone: after spreading, a kind that is hidden in another's cluster is as sure as that.
    """
    anchor_N = given.anchors.labels_N
    p_NK = first_beliefs(rows_Nd, given.p_NK, anchor_N, given.outside_N)
    return p_NK, telling(rows_Nd, p_NK, ~given.settled_N, anchor_N >= 0, count)
