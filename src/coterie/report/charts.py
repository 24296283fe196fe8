"""Curves and the map as coordinates that the template draws. Nothing here knows html.

A drawing is 100 wide and 40 high (curves) or 1000 wide (the map); y runs downwards as in SVG.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from coterie.report.data import Stage
from coterie.report.wording import accuracy, number, percent

WIDTH, HEIGHT, MARGIN = 100.0, 40.0, 2.0
MAP_WIDTH, MAP_MARGIN = 1000.0, 24.0
MOST_POINTS = 400  # of one curve; more cannot be seen
PANELS = {  # what a curve is called, whether it is a share, and how it reads
    "loss": ("Loss", False, "lower is better, within a stage"),
    "labelled": ("Loss of reliable images", False, "how well a weak view gets its image’s label; lower is better"),
    "unlabelled": ("Loss of all images", False, "strong views against what the weak ones are sure of; may rise while more of them are"),
    "confident": ("Confident", True, "share of images above the method's threshold"),
    "clusters": ("Clusters in training", False, "N_t: fewer and larger as the features mature"),
    "kept": ("Kept", True, "share of images that learn together with their cluster; the others learn alone"),
    "reliable": ("Near the middle", True, "share of images kept before the vote"),
    "removed": ("Voted out", True, "share of images that past clusterings part from the middle of their cluster"),
    "added": ("Voted in", True, "share of images far from the middle that past clusterings keep with it"),
    "changed": ("Changed cluster", True, "share of images since the epoch before; settles near 0"),
    "nmi": ("Same clusters as before", False, "NMI of the pseudo-labels with those of the epoch before; 1 the same, rises as they settle"),
    "entropy": ("Evenness of sizes", False, "entropy in nats; the dashed line is perfectly even"),
    "agreement": ("Neighbours agree", False, "an image and those most like it share a cluster; 1 always, 0 as often as by chance"),
    "score": ("Label-free score", False, "what the run itself goes by; no labels in it"),
}
REST = {
    "loss": "Loss, the sum",
    "empty": "Empty clusters",
    "clusters": "Pseudo-clusters",
    "smallest": "Images of the smallest pseudo-cluster",
    "largest": "Images of the largest pseudo-cluster",
    "images_per_second": "Images per second",
    "seconds": "Seconds per epoch",
    "purified": "Loss of the purified clusters",
    "grouped": "Share of images in clusters of two or more",
    "skipped": "Batches without a confident image",
    "threshold": "Threshold of confidence",
}


@dataclass(frozen=True)
class Panel:
    """One small chart. line: an SVG path; end: its last point; even: height of a dashed line or None; epochs: the first and the last;
    the rest are words."""

    title: str
    note: str
    line: str
    end: tuple[float, float]
    even: float | None
    low: str
    high: str
    last: str
    epochs: tuple[int, int]


class Spot(NamedTuple):
    """A point of a curve, and what it is. role: "chosen" or "oracle"."""

    role: str
    words: str
    epoch: int
    curve: int


class Mark(NamedTuple):
    """A spot, placed."""

    role: str
    words: str
    x: float
    y: float


@dataclass(frozen=True)
class Lines:
    """Several curves in one chart. lines: (role, SVG path), role "other" or that of a mark, the marked ones last, on top of the rest."""

    title: str
    note: str
    lines: list[tuple[str, str]]
    marks: list[Mark]
    low: str
    high: str
    epochs: tuple[int, int]


def panels(
    stage: Stage, n_clusters: int, accuracies: list[tuple[int, float]] | None = None, before: float | None = None
) -> tuple[list[Panel], list[Panel]]:
    """The charts of one stage that everybody should see, and the others. accuracies: (epoch, accuracy) where labels were evaluated;
    before: accuracy of what the stage began with, if known."""
    drawn = {"score"} if stage.scores else set()  # beside each other in a chart of their own
    later = {"loss"} if {"labelled", "unlabelled"} <= stage.curves.keys() else set()  # its two parts say more
    if len({count for _, count in stage.curves.get("clusters", [])}) == 1:
        later.add("clusters")  # a setting, not a story
    main = [
        _panel(stage.curves[key], *PANELS[key], even=_even(key, n_clusters))
        for key in PANELS
        if key in stage.curves and key not in drawn | later
    ]
    if accuracies:
        note = "against the true labels, which the run never saw" + (
            "; dashed: where the stage before left off" if before is not None else ""
        )
        main.append(_panel(accuracies, "Accuracy", False, note, before, accuracy))
    rest = [
        _panel(points, REST.get(key, key), False, "", None) for key, points in stage.curves.items() if key not in PANELS or key in later
    ]
    return main, rest


def draw_lines(title: str, note: str, rows: list[tuple[int, list[float]]], spots: list[Spot], word: Callable[[float], str]) -> Lines:
    """rows: (epoch, value of each curve), at least one; spots: the most important first."""
    values = dict(rows)
    frame = _Frame.around([epoch for epoch, _ in rows], [value for _, row in rows for value in row])
    roles = {spot.curve: spot.role for spot in reversed(spots)}
    order = sorted(range(len(rows[0][1])), key=lambda curve: (roles.get(curve, "other") != "other", roles.get(curve) == "chosen"))
    return Lines(
        title,
        note,
        [(roles.get(curve, "other"), frame.path([(epoch, row[curve]) for epoch, row in rows])) for curve in order],
        [Mark(role, words, *frame.place(epoch, values[epoch][curve])) for role, words, epoch, curve in spots],
        word(frame.low),
        word(frame.high),
        (frame.first, frame.last),
    )


class Dots(NamedTuple):
    """The images of a cluster on a small map; path: an SVG path whose round ends are the dots."""

    cluster: int
    path: str


def draw_dots(xy_M2: np.ndarray, labels_M: np.ndarray) -> list[Dots]:
    """Points of a map by cluster, in whole units: many points take few bytes."""
    places_M2 = _places(xy_M2).round().astype(int)
    groups = ((cluster, places_M2[labels_M == cluster].tolist()) for cluster in np.unique(labels_M).tolist())
    return [Dots(cluster, "".join(f"M{x} {y}h0" for x, y in points)) for cluster, points in groups]


def map_height(xy_M2: np.ndarray) -> float:
    """Of a drawing of this map."""
    tallest = float(xy_M2[:, 1].max()) if len(xy_M2) else 0.0
    return round(max(0.3, tallest) * (MAP_WIDTH - 2 * MAP_MARGIN) + 2 * MAP_MARGIN, 1)


def _places(xy_M2: np.ndarray) -> np.ndarray:
    return xy_M2 * (MAP_WIDTH - 2 * MAP_MARGIN) + MAP_MARGIN


def radius(n: int) -> float:
    """Of the dots of a map of n points."""
    return round(min(6.0, max(3.0, 190 / math.sqrt(max(1, n)))), 1)


def _even(key: str, n_clusters: int) -> float | None:
    return math.log(n_clusters) if key == "entropy" and n_clusters > 1 else None


class _Frame(NamedTuple):
    """Epochs across, values upwards; places are in the units of the drawing."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def around(cls, epochs: list[int], values: list[float]) -> "_Frame":
        return cls(min(epochs), max(epochs), min(values), max(values))

    def place(self, epoch: int, value: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * ((epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5)
        y = MARGIN + (HEIGHT - 2 * MARGIN) * ((self.high - value) / (self.high - self.low) if self.high > self.low else 0.5)
        return round(x, 2), round(y, 2)

    def path(self, points: list[tuple[int, float]]) -> str:
        step = max(1, math.ceil(len(points) / MOST_POINTS))
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in (self.place(*point) for point in [*points[:-1:step], points[-1]]))


def _panel(
    points: list[tuple[int, float]], title: str, share: bool, note: str, even: float | None, word: Callable[[float], str] | None = None
) -> Panel:
    values = [value for _, value in points]
    frame = _Frame.around([epoch for epoch, _ in points], [*values, *([0.0, 1.0] if share else []), *([] if even is None else [even])])
    if word is None:
        digits = next((digits for digits in (3, 4, 5) if number(frame.low, digits) != number(frame.high, digits)), 3)
        word = percent if share else partial(number, digits=digits)
    return Panel(
        title=title,
        note=note,
        line=frame.path(points),
        end=frame.place(*points[-1]),
        even=None if even is None else frame.place(frame.first, even)[1],
        low=word(frame.low),
        high=word(frame.high),
        last=word(values[-1]),
        epochs=(frame.first, frame.last),
    )
