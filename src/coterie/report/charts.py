"""Curves and the map as coordinates that the template draws. Nothing here knows html.

A drawing is 100 wide and 40 high (curves) or 1000 wide (the map); y runs downwards as in SVG.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from coterie.report.data import Assigned, Stage
from coterie.report.layout import Map
from coterie.report.wording import number, percent

WIDTH, HEIGHT, MARGIN = 100.0, 40.0, 2.0
MAP_WIDTH, MAP_MARGIN = 1000.0, 24.0
MOST_POINTS = 400  # of one curve; more cannot be seen
PANELS = {  # what a curve is called, whether it is a share, and how it reads
    "loss": ("Loss", False, "lower is better, within a stage"),
    "confident": ("Confident", True, "share of images above the method's threshold"),
    "changed": ("Changed cluster", True, "share of images since the epoch before; settles near 0"),
    "entropy": ("Evenness of sizes", False, "entropy in nats; the dashed line is perfectly even"),
    "score": ("Label-free score", False, "what the run itself goes by; no labels in it"),
}
REST = {"empty": "Empty clusters", "images_per_second": "Images per second", "seconds": "Seconds per epoch"}


class Point(NamedTuple):
    id: int
    x: float
    y: float


@dataclass(frozen=True)
class Panel:
    """One small chart. line: an SVG path; end: its last point; even: height of a dashed line or None; the rest are words."""

    title: str
    note: str
    line: str
    end: tuple[float, float]
    even: float | None
    low: str
    high: str
    last: str


@dataclass(frozen=True)
class MapDrawing:
    """height: of the drawing; radius: of a point; label_size: of its numbers;
    groups: (cluster, its points), -1 for images left out; labels: (cluster, x, y) at the medians."""

    height: float
    radius: float
    label_size: float
    groups: list[tuple[int, list[Point]]]
    labels: list[tuple[int, float, float]]


def panels(stage: Stage, n_clusters: int) -> tuple[list[Panel], list[Panel]]:
    """The charts of one stage that everybody should see, and the others."""
    main = [_panel(stage.curves[key], *PANELS[key], even=_even(key, n_clusters)) for key in PANELS if key in stage.curves]
    rest = [_panel(points, REST.get(key, key), False, "", None) for key, points in stage.curves.items() if key not in PANELS]
    return main, rest


def draw_map(found: Map, assigned: Assigned) -> MapDrawing:
    """Clusters in order, within each by id."""
    span = MAP_WIDTH - 2 * MAP_MARGIN
    xy = found.xy * span + MAP_MARGIN
    labels_M = assigned.labels_N[found.ids]
    groups, labels = [], []
    for cluster in np.unique(labels_M).tolist():
        rows = np.flatnonzero(labels_M == cluster)
        points = [Point(int(found.ids[row]), round(float(xy[row, 0]), 1), round(float(xy[row, 1]), 1)) for row in rows]
        groups.append((cluster, points))
        if cluster >= 0:
            x, y = np.median(xy[rows], axis=0).tolist()
            labels.append((cluster, round(x, 1), round(y, 1)))
    tallest = float(found.xy[:, 1].max()) if len(xy) else 0.0
    radius = min(9.0, max(3.0, 190 / math.sqrt(max(1, len(xy)))))
    label_size = 26.0 * min(1.0, max(0.5, math.sqrt(30 / max(1, len(labels)))))
    return MapDrawing(round(max(0.3, tallest) * span + 2 * MAP_MARGIN, 1), round(radius, 1), round(label_size, 1), groups, labels)


def _even(key: str, n_clusters: int) -> float | None:
    return math.log(n_clusters) if key == "entropy" and n_clusters > 1 else None


def _panel(points: list[tuple[int, float]], title: str, share: bool, note: str, even: float | None) -> Panel:
    values = [value for _, value in points]
    low, high = (0.0, max(1.0, *values)) if share else (min(values), max([*values, *([even] if even is not None else [])]))
    first, last = points[0][0], points[-1][0]

    def place(epoch: int, value: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * ((epoch - first) / (last - first) if last > first else 0.5)
        y = MARGIN + (HEIGHT - 2 * MARGIN) * ((high - value) / (high - low) if high > low else 0.5)
        return round(x, 2), round(y, 2)

    step = max(1, math.ceil(len(points) / MOST_POINTS))
    drawn = [*points[:-1:step], points[-1]]
    word = percent if share else number
    return Panel(
        title=title,
        note=note,
        line="M" + "L".join(f"{x:g} {y:g}" for x, y in (place(*point) for point in drawn)),
        end=place(*points[-1]),
        even=None if even is None else place(first, even)[1],
        low=word(low),
        high=word(high),
        last=word(values[-1]),
    )
