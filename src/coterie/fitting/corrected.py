"""A cluster of a corrected run, split as its hierarchy would. M pictures, D feature."""

from pathlib import Path

import torch

from coterie.clustering.hierarchy import parted
from coterie.errors import InputError
from coterie.run import seeding
from coterie.run.edits import Edited
from coterie.run.files import read_config, read_features

MOST_PARTS = 20


def parts(run: Path, now: Edited, cluster: int, number: int = 2) -> list[list[int]]:
    """The ids of the pictures that are in `cluster` now, in `number` parts, the largest first. As `recut` splits: k-means of the run's
    features, from a generator of its seed; of a cluster that is as the method made it, these are the parts of hierarchy.json.

    InputError for a cluster that is not there, and for more parts than it has different pictures.
    """
    if cluster not in now.clusters:
        raise InputError(f"there is no cluster {cluster}")
    if not 2 <= number <= MOST_PARTS:
        raise InputError(f"split: wanted 2 to {MOST_PARTS} parts, not {number}")
    index_M = torch.from_numpy((now.cluster_N == cluster).nonzero()[0])
    found: list[list[int]] = []
    if len(index_M) >= number:
        rows_MD = torch.from_numpy(read_features(run, len(now.cluster_N))[index_M.numpy()]).float()
        part_M = parted(rows_MD, number, seeding.generator(read_config(run)["seed"], "hierarchy"))
        found = [index_M[part_M == part].tolist() for part in part_M.unique().tolist()]
    if len(found) < number:
        raise InputError(f"split: cluster {cluster} has {len(index_M):,} pictures, too few different ones for {number} parts")
    return found
