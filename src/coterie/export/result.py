"""What every export takes: the assignments of a run, and what a person corrected in them.

A cluster that a person marked as no kind is exported as unsure (-1): it counts for nobody.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from coterie.run.edits import FILE, Edited, edited
from coterie.run.files import probabilities, read_assignments

UNSURE = "unsure"


class Result(NamedTuple):
    """table: that of the run, `cluster` corrected, and where anything was, `name` and `confirmed` behind the others; cluster_N: int64, -1
    unsure; names: of every cluster there is, ascending, as a person called it, else `cluster_07`; k: clusters of the method; edits: the
    corrections, None where there are none, or they are left out."""

    run: Path
    table: pa.Table
    cluster_N: np.ndarray
    names: dict[int, str]
    k: int
    edits: Edited | None

    def name(self, cluster: int) -> str:
        return self.names.get(cluster, UNSURE)

    @property
    def held(self) -> list[int]:
        """The clusters that hold pictures, ascending."""
        return [int(cluster) for cluster in np.unique(self.cluster_N[self.cluster_N >= 0])]


def read_result(run: Path, edits: bool = True) -> Result:
    """The result of a finished run. InputError when it is not finished, or damaged, or its corrections are."""
    table = read_assignments(run)
    k = probabilities(table.slice(0, 1)).shape[1]
    cluster_N = table["cluster"].to_numpy().astype(np.int64)
    made = edited(run) if edits and (run / FILE).exists() else None
    if made is None or not made.applied:
        return Result(run, table, cluster_N, names({}, range(k)), k, None)
    kinds = [cluster for cluster in made.clusters if cluster not in made.not_kinds]
    called = names(made.names, kinds)
    cluster_N = np.where(np.isin(made.cluster_N, kinds), made.cluster_N, -1)
    at = table.column_names.index("cluster")
    table = table.set_column(at, "cluster", pa.array(cluster_N, table.schema.field("cluster").type))
    table = table.append_column("name", pa.array([called.get(cluster, UNSURE) for cluster in cluster_N.tolist()], pa.string()))
    return Result(run, table.append_column("confirmed", pa.array(made.confirmed_N)), cluster_N, called, k, made)


def names(given: dict[int, str], clusters: "range | list[int]") -> dict[int, str]:
    """Of each cluster a name of its own, whatever the case of its letters: the one that was given, else its number."""
    width = max(2, len(str(max(clusters, default=0))))
    taken = {UNSURE, *(given[cluster].casefold() for cluster in clusters if cluster in given)}
    found: dict[int, str] = {}
    for cluster in clusters:
        plain = f"cluster_{cluster:0{width}d}"
        name = given.get(cluster, plain)
        if name.casefold() == UNSURE or (cluster not in given and plain in taken):
            name = f"{plain}_{name}" if cluster in given else f"{plain}_"
        found[cluster] = name
    return found
