"""The reliable images of a run, beside all of them: SPICE's fig. 7.

N images, M of them on the map.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from coterie.report.charts import Dots, draw_dots, map_height
from coterie.report.layout import Map


class Share(NamedTuple):
    """Of one cluster: its number, its images, the reliable ones of them."""

    cluster: int
    images: int
    reliable: int


@dataclass(frozen=True)
class Reliable:
    """shares: clusters with images, by number; every, kept: the map of all images and of the reliable ones; height: of both drawings."""

    images: int
    reliable: int
    shares: list[Share]
    every: list[Dots]
    kept: list[Dots]
    height: float


def compare(reliable_N: np.ndarray, labels_N: np.ndarray, found: Map) -> Reliable:
    """Clusters as they are at the end of the run; -1 (left out) counts among all images and in no share."""
    shares = [
        Share(int(cluster), int((labels_N == cluster).sum()), int(reliable_N[labels_N == cluster].sum()))
        for cluster in np.unique(labels_N[labels_N >= 0])
    ]
    kept_M = reliable_N[found.ids]
    labels_M = labels_N[found.ids]
    return Reliable(
        len(labels_N),
        int(reliable_N.sum()),
        shares,
        draw_dots(found.xy, labels_M),
        draw_dots(found.xy[kept_M], labels_M[kept_M]),
        map_height(found.xy),
    )
