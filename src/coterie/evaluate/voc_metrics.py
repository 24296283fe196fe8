"""The numbers of Pascal VOC: average precision of classification and detection, mean IoU of segmentation.

Shapes: N images, C classes, M boxes found in an image, G true boxes in it, P places of a mask. Everything is numpy on the CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError

OVERLAP = 0.5  # IoU from which a box found is the true one; VOC2007, sec. 4.2 of the devkit's notes
UNJUDGED = 255  # in masks: borders and objects too hard to tell, which do not count

Floats = NDArray[np.float64]


def area(recall_N: Floats, precision_N: Floats, points: int | None = None) -> float:
    """Average precision in [0, 1] from recall (rising) and precision along a ranking.

    points  11: the mean, over recall 0, 0.1, .. 1, of the highest precision at that recall or above (VOC2007); None: the area under the
            precision made non-increasing (VOC2010 on).  InputError: another number.
    """
    if points not in (11, None):
        raise InputError(f"points = {points}; 11, or None for all, are known")
    envelope_N = np.maximum.accumulate(precision_N[::-1])[::-1]
    if points is None:
        return float((np.diff(recall_N, prepend=0.0) * envelope_N).sum())
    first = np.searchsorted(recall_N, np.arange(11) / 10 - 1e-12)  # so that a recall of 3 / 10 reaches the point 0.3
    return float(np.append(envelope_N, 0.0)[first].mean())


def average_precision(present_N: Any, scores_N: Any, points: int | None = None) -> float:
    """AP of one class: present_N 1, 0, or -1 (left out: only objects called difficult); scores_N the higher the surer.

    Images with equal scores enter together, so that their order is no matter. NaN where no image has the class.
    InputError: lengths that differ, scores that are not finite.
    """
    present, scores = np.asarray(present_N), np.asarray(scores_N, np.float64)
    if present.shape != scores.shape or present.ndim != 1 or not np.isfinite(scores).all():
        raise InputError(f"{present.shape} targets, {scores.shape} scores; as many, and finite ones, are needed")
    present, scores = present[present >= 0], scores[present >= 0]
    if not (present == 1).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(present[order] == 1)[ends]
    return area(hits / hits[-1], hits / (ends + 1), points)


def mean_average_precision(present_NC: Any, scores_NC: Any, points: int | None = None) -> tuple[float, Floats]:
    """mAP over the classes that occur, and AP of each (C,), NaN for the others. InputError: no class occurs, and as for one class."""
    present, scores = np.asarray(present_NC), np.asarray(scores_NC)
    if present.shape != scores.shape or present.ndim != 2:
        raise InputError(f"{present.shape} targets, {scores.shape} scores; both must be (images, classes)")
    each = np.array([average_precision(present[:, c], scores[:, c], points) for c in range(present.shape[1])])
    return _mean(each), each


@dataclass(frozen=True)
class Boxes:
    """Boxes of one image: `corners` (M, 4) left, top, right, bottom in pixels, right and bottom exclusive; `labels` (M,) in 0 .. C-1.
    Of boxes found, `scores` (M,); of true ones, `difficult` (M,) bool."""

    corners: NDArray[Any]
    labels: NDArray[Any]
    scores: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    difficult: NDArray[Any] = field(default_factory=lambda: np.empty(0, bool))


def iou(one_M4: NDArray[Any], other_G4: NDArray[Any]) -> Floats:
    """Intersection over union of each pair, (M, G) in [0, 1]; 0 where both are empty."""
    one, other = np.asarray(one_M4, np.float64).reshape(-1, 1, 4), np.asarray(other_G4, np.float64).reshape(1, -1, 4)
    sides = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(min=0)
    both = sides.prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def detection(
    truth: Sequence[Boxes], found: Sequence[Boxes], n_classes: int, points: int | None = 11, overlap: float = OVERLAP
) -> tuple[float, Floats]:
    """mAP over the classes that have a true box not difficult, and AP of each class (C,), NaN for the others.

    As the devkit: over all images, boxes found are taken by falling score; each is held against the true box of its image and class that
    it overlaps most. Below `overlap` it is false; a difficult one is passed over; a true one that was found already makes it false, too.
    InputError: lists of different length, scores not finite or not one per box, no class with a true box.
    """
    if len(truth) != len(found):
        raise InputError(f"boxes found in {len(found)} images, true ones in {len(truth)}; as many are needed")
    for boxes in found:
        if len(boxes.scores) != len(boxes.labels) or not np.isfinite(np.asarray(boxes.scores, np.float64)).all():
            raise InputError("boxes found need one finite score each")
    each = np.array([_of_class(truth, found, c, points, overlap) for c in range(n_classes)])
    return _mean(each), each


def _of_class(truth: Sequence[Boxes], found: Sequence[Boxes], c: int, points: int | None, overlap: float) -> float:
    verdicts: list[tuple[float, bool]] = []  # score and whether true, of the boxes that count
    wanted = 0
    for true, boxes in zip(truth, found):
        mine = np.asarray(true.labels) == c
        difficult = np.asarray(true.difficult, bool)[mine] if len(true.difficult) else np.zeros(mine.sum(), bool)
        wanted += int((~difficult).sum())
        own = np.flatnonzero(np.asarray(boxes.labels) == c)
        own = own[np.argsort(-np.asarray(boxes.scores, np.float64)[own], kind="stable")]
        overlaps = iou(np.asarray(boxes.corners)[own], np.asarray(true.corners)[mine])
        taken = np.zeros(len(difficult), bool)
        for box, row in zip(own, overlaps):
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= overlap
            if hit and difficult[best]:
                continue
            verdicts.append((float(boxes.scores[box]), bool(hit and not taken[best])))
            if hit:
                taken[best] = True
    if not wanted:
        return float("nan")
    if not verdicts:
        return 0.0
    order = np.argsort([-score for score, _ in verdicts], kind="stable")
    right = np.cumsum(np.array([true for _, true in verdicts])[order])
    return area(right / wanted, right / np.arange(1, len(right) + 1), points)


def confusion(truth_P: Any, found_P: Any, n_classes: int) -> NDArray[np.int64]:
    """Counts (C, C) of places: rows true, columns found; places of truth 255 do not count. InputError: shapes that differ, classes outside
    0 .. C-1."""
    truth, found = np.asarray(truth_P, np.int64), np.asarray(found_P, np.int64)
    if truth.shape != found.shape:
        raise InputError(f"a mask of {truth.shape} for one of {found.shape}; they must be equal")
    truth, found = truth[truth != UNJUDGED], found[truth != UNJUDGED]
    if len(truth) and not (truth.min() >= 0 and truth.max() < n_classes and found.min() >= 0 and found.max() < n_classes):
        raise InputError(f"a mask with classes outside 0 .. {n_classes - 1}")
    return np.bincount(truth * n_classes + found, minlength=n_classes**2).reshape(n_classes, n_classes)


def mean_iou(confusion_CC: Any) -> tuple[float, Floats]:
    """Mean, over the classes that are true or found somewhere, of right / (true + found - right), and that of each class (C,), NaN for the
    others. InputError: nothing was counted."""
    table = np.asarray(confusion_CC, np.float64)
    right, union = np.diag(table), table.sum(0) + table.sum(1) - np.diag(table)
    each = np.divide(right, union, out=np.full(len(table), np.nan), where=union > 0)
    return _mean(each), each


def _mean(each_C: Floats) -> float:
    if not np.isfinite(each_C).any():
        raise InputError("no class occurs, so there is nothing to score")
    return float(np.nanmean(each_C))
