"""The hierarchy of a finished run: which of its clusters would merge first, and how each would split. Kept in hierarchy.json.

Shapes: N images, S images of a sample, D feature, K clusters or neighbours.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coterie.clustering import hierarchy
from coterie.clustering.hierarchy import Division, Merge
from coterie.clustering.neighbours import nearest
from coterie.clustering.sampling import SAMPLE, sample
from coterie.errors import InputError
from coterie.fitting import assignments as store
from coterie.learning import evidence
from coterie.run import manifest, seeding
from coterie.run.files import probabilities, read_assignments, read_config, read_features, read_hierarchy

FILE = "hierarchy.json"
PER_CLUSTER = 20  # images of the sample in which neighbours are sought, at least; 5,000 in all


Known = dict[int, Division | None] | None


class Sorted:
    """What a run says of its images: p_NK float32, labels_N int64 (-1: in no cluster), unit rows_ND float32 as it keeps them; its seed."""

    def __init__(self, p_NK: Tensor, labels_N: Tensor, rows_ND: Tensor, seed: int):
        self.p_NK, self.labels_N, self.rows_ND, self.seed = p_NK, labels_N, rows_ND, seed

    @property
    def k(self) -> int:
        return self.p_NK.shape[1]

    def rng(self, *keys: str) -> torch.Generator:
        return seeding.generator(self.seed, "hierarchy", *keys)

    def divisions(self, known: Known = None) -> list[Division]:
        return hierarchy.first_divisions(self.rows_ND, self.labels_N, self.k, self.rng, known)

    def merges(self, separate: Any = ()) -> list[Merge]:
        """By the neighbours in a sample of the images, which is as good as all, and soon done."""
        if self.k == 1:
            return []
        index_S = sample(len(self.p_NK), self.rng("sample"), max(SAMPLE, PER_CLUSTER * self.k))
        p_SK, rows_SD = self.p_NK[index_S], self.rows_ND[index_S]
        near_SK = nearest(rows_SD - rows_SD.mean(0), evidence.how_many(len(rows_SD), self.k)).index_NK
        sums_KD, _ = hierarchy.centred_sums(self.rows_ND, self.labels_N, self.k)
        return hierarchy.merges(hierarchy.affinity(p_SK, near_SK), sums_KD, separate)


def read_sorted(folder: Path) -> Sorted:
    """From the files of a finished run."""
    table = read_assignments(folder)
    rows_ND = torch.from_numpy(read_features(folder, len(table))).float()
    labels_N = torch.from_numpy(table["cluster"].to_numpy().copy()).long()
    return Sorted(torch.from_numpy(probabilities(table).copy()), labels_N, rows_ND, read_config(folder)["seed"])


def kept(folder: Path, found: Sorted, known: Known = None) -> tuple[list[Merge], list[Division]]:
    """The run's hierarchy; made and written to hierarchy.json where it is not there yet, or damaged. known: how some of its clusters
    split, where that was found before (None: they cannot)."""
    path = folder / FILE
    if path.exists():
        try:
            told = read_hierarchy(folder, found.k)
            divisions = [Division(one["cluster"], (one["sizes"][0], one["sizes"][1]), one["apart"], one["gain"]) for one in told["splits"]]
            return [Merge(one["a"], one["b"], one["overlap"], one["alike"]) for one in told["merges"]], divisions
        except InputError:  # the same run gives the same hierarchy
            pass
    merges, divisions = found.merges(), found.divisions(known)
    if os.access(folder, os.W_OK):  # an archive of runs may be read-only
        store.write_json(folder, FILE, plain(merges, divisions))
        manifest.record(path)
    return merges, divisions


def plain(merges: list[Merge], divisions: list[Division]) -> dict[str, Any]:
    """As hierarchy.json has it: merges from K clusters to one, and a split of each cluster that can, in the order they would be taken."""
    return {
        "merges": [{"a": one.a, "b": one.b, "overlap": round(one.overlap, 6), "alike": round(one.alike, 6)} for one in merges],
        "splits": [
            {"cluster": one.cluster, "sizes": list(one.sizes), "apart": round(one.apart, 6), "gain": round(one.gain, 9)}
            for one in divisions
        ],
    }
