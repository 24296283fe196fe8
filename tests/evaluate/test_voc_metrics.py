import numpy as np
import pytest

from coterie.errors import InputError
from coterie.evaluate.voc_metrics import Boxes, average_precision, confusion, detection, iou, mean_average_precision, mean_iou


def naive_area(curve, points):
    """curve: (recall, precision) pairs in order. Loops as the devkit's program."""
    if points == 11:
        return sum(max([p for r, p in curve if r >= t / 10 - 1e-9], default=0.0) for t in range(11)) / 11
    total, before = 0.0, 0.0
    for i, (recall, _) in enumerate(curve):
        total += (recall - before) * max(p for _, p in curve[i:])
        before = recall
    return total


def naive_ap(present, scores, points):
    curve = []
    for bar in sorted({s for s, y in zip(scores, present) if y >= 0}, reverse=True):
        above = [y for s, y in zip(scores, present) if s >= bar and y >= 0]
        curve.append((sum(above) / sum(y == 1 for y in present), sum(above) / len(above)))
    return naive_area(curve, points)


@pytest.mark.parametrize("points", [11, None])
def test_classification_equals_naive_loops(points):
    rng = np.random.default_rng(0)
    for _ in range(40):
        present = rng.choice([1, 0, 0, -1], 30)
        present[0] = 1
        scores = rng.integers(0, 12, 30) / 4  # ties
        assert average_precision(present, scores, points) == pytest.approx(naive_ap(present.tolist(), scores.tolist(), points))


def test_classification_by_hand():
    present, scores = [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]
    assert average_precision(present, scores) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(present, scores, 11) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision([1, 0, 0, 0], [1, 1, 1, 1]) == 0.25, "one who says the same of all scores the share of the class"
    assert average_precision([1, -1, 0], [0.5, 0.9, 0.1]) == 1.0
    assert np.isnan(average_precision([0, -1], [1, 2]))
    found, each = mean_average_precision([[1, 0], [0, 0]], [[1, 0], [0, 1]], 11)
    assert found == 1.0 and np.isnan(each[1])


def test_planted_and_random():
    rng = np.random.default_rng(0)
    present = (rng.random((2000, 5)) < [0.1, 0.2, 0.3, 0.4, 0.5]).astype(int)
    assert mean_average_precision(present, present + 0.1 * rng.random(present.shape))[0] == 1.0
    assert mean_average_precision(present, rng.random(present.shape))[0] == pytest.approx(0.3, abs=0.03)


def naive_iou(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, wide) * max(0, high)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union else 0.0


def naive_detection(truth, found, c, points):
    queue = [(boxes.scores[m], i, m) for i, boxes in enumerate(found) for m in range(len(boxes.labels)) if boxes.labels[m] == c]
    wanted = sum(1 for t in truth for g in range(len(t.labels)) if t.labels[g] == c and not t.difficult[g])
    taken, right, seen, curve = set(), 0, 0, []
    for _, i, m in sorted(queue, key=lambda entry: -entry[0]):
        best, at = 0.0, None
        for g in range(len(truth[i].labels)):
            overlap = naive_iou(found[i].corners[m], truth[i].corners[g]) if truth[i].labels[g] == c else -1
            if overlap > best:
                best, at = overlap, g
        if best >= 0.5 and truth[i].difficult[at]:
            continue
        seen += 1
        if best >= 0.5 and (i, at) not in taken:
            taken.add((i, at))
            right += 1
        curve.append((right / wanted, right / seen))
    return naive_area(curve, points)


def some_boxes(rng, n):
    start = rng.integers(0, 12, (n, 2))
    return np.concatenate([start, start + rng.integers(3, 9, (n, 2))], 1).astype(float)


@pytest.mark.parametrize("points", [11, None])
def test_detection_equals_naive_loops(points):
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = [Boxes(some_boxes(rng, 5), rng.integers(0, 2, 5), difficult=rng.random(5) < 0.3) for _ in range(6)]
        truth[0].labels[:2], truth[0].difficult[:2] = [0, 1], False
        found = []
        for t in truth:
            near = np.concatenate([t.corners + rng.integers(-2, 3, t.corners.shape), some_boxes(rng, 4)])
            found.append(Boxes(near, np.concatenate([t.labels, rng.integers(0, 2, 4)]), rng.random(9)))
        mean, each = detection(truth, found, 2, points)
        wanted = [naive_detection(truth, found, c, points) for c in range(2)]
        assert np.allclose(each, wanted) and mean == pytest.approx(np.mean(wanted)) and 0 < mean < 1


def test_detection_equals_pycocotools():
    """At IoU 0.5 and the eleven recalls of VOC2007. True boxes stand apart: where two could both be meant, COCO gives a second box found
    the one that is left, and VOC calls it false. No number of true boxes is a multiple of ten, where rounding decides."""
    pytest.importorskip("pycocotools", reason="mAP is not compared with pycocotools, which is not installed (pip install pycocotools)")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng, truth, found = np.random.default_rng(0), [], []
    for _ in range(23):
        starts = 20.0 * np.stack([rng.permutation(5), rng.permutation(5)], 1)[: rng.integers(1, 6)]
        corners, labels = np.concatenate([starts, starts + rng.integers(6, 16, starts.shape)], 1), rng.integers(0, 3, len(starts))
        truth.append(Boxes(corners, labels))
        near = np.concatenate([corners + rng.integers(-3, 4, corners.shape) for _ in range(2)] + [some_boxes(rng, 3)])
        kinds = np.concatenate([labels, np.where(rng.random(len(labels)) < 0.3, 2, labels), rng.integers(0, 3, 3)])
        wide = (near[:, 2:] > near[:, :2]).all(1)
        found.append(Boxes(near[wide], kinds[wide], rng.permutation(99)[: wide.sum()] / 99 + rng.random() / 1000))
    sizes = np.bincount(np.concatenate([boxes.labels for boxes in truth]), minlength=3)
    assert (sizes % 10 != 0).all()

    def listed(many):
        rows = [(i, boxes, m) for i, boxes in enumerate(many) for m in range(len(boxes.labels))]
        boxed = [[*boxes.corners[m, :2], *(boxes.corners[m, 2:] - boxes.corners[m, :2])] for _, boxes, m in rows]
        scores = [float(boxes.scores[m]) if len(boxes.scores) else 1.0 for _, boxes, m in rows]
        return [
            {"id": k + 1, "image_id": i, "category_id": int(boxes.labels[m]) + 1, "bbox": box, "score": score, "area": box[2] * box[3],
             "iscrowd": 0}
            for k, ((i, boxes, m), box, score) in enumerate(zip(rows, boxed, scores))
        ]  # fmt: skip

    true = COCO()
    true.dataset = {"info": {}, "images": [{"id": i} for i in range(23)], "annotations": listed(truth),
                    "categories": [{"id": c + 1} for c in range(3)]}  # fmt: skip
    true.createIndex()
    theirs = COCOeval(true, true.loadRes(listed(found)), "bbox")
    theirs.params.iouThrs, theirs.params.recThrs, theirs.params.maxDets = np.array([0.5]), np.linspace(0, 1, 11), [1000]
    theirs.params.areaRng, theirs.params.areaRngLbl = [[0, 1e10]], ["all"]
    theirs.evaluate()
    theirs.accumulate()
    wanted_C = theirs.eval["precision"][0, :, :, 0, 0].mean(0)
    mean, each_C = detection(truth, found, 3, 11)
    assert np.allclose(each_C, wanted_C, atol=1e-9) and 0.2 < mean < 0.95


def test_detection_by_hand():
    truth = [
        Boxes(np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10.0]]), np.zeros(3, int), difficult=np.array([False, False, True]))
    ]
    corners = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [40, 0, 50, 10], [20, 0, 30, 4], [20, 0, 30, 9.0]])
    found = [Boxes(corners, np.zeros(5, int), np.array([0.9, 0.8, 0.7, 0.6, 0.5]))]  # right, twice, difficult, IoU 0.4, right
    assert detection(truth, found, 1, None)[0] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert detection(truth, found, 1, 11)[0] == pytest.approx((6 * 1 + 5 * 0.5) / 11)
    assert iou(np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10], [10, 0, 20, 10]])).tolist() == [[pytest.approx(1 / 3), 0.0]]
    nothing = [Boxes(np.empty((0, 4)), np.empty(0, int), np.empty(0))]
    assert detection(truth, nothing, 2)[0] == 0.0, "a class without a true box is no part of the mean"
    half = [Boxes(np.array([[0, 0, 10, 5.0]]), np.zeros(1, int), np.ones(1))]
    assert detection(truth, half, 1, None)[0] == 0.5, "an overlap of exactly one half is enough"


def test_mean_iou_equals_naive_loops_and_by_hand():
    rng = np.random.default_rng(0)
    truth, found = rng.choice([0, 1, 2, 3, 255], (9, 11)), rng.integers(0, 5, (9, 11))
    wanted = []
    for c in range(5):
        pairs = [(t == c, f == c) for t, f in zip(truth.flat, found.flat) if t != 255]
        wanted.append(sum(t and f for t, f in pairs) / sum(t or f for t, f in pairs))
    mean, each = mean_iou(confusion(truth, found, 5) + confusion(truth, found, 5))
    assert np.allclose(each, wanted) and wanted[4] == 0 and mean == pytest.approx(np.mean(wanted))
    mean, each = mean_iou(confusion([0, 0, 1, 255], [0, 1, 1, 0], 3))
    assert each[:2].tolist() == [0.5, 0.5] and np.isnan(each[2]) and mean == 0.5
    assert mean_iou(confusion(truth, np.where(truth == 255, 0, truth), 4))[0] == 1.0


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: average_precision([1], [1, 2]), "as many"),
        (lambda: average_precision([1, 0], [np.nan, 2]), "finite"),
        (lambda: average_precision([1], [1], 10), "points"),
        (lambda: mean_average_precision([[0]], [[1]]), "no class occurs"),
        (lambda: detection([], [Boxes(np.empty((0, 4)), np.empty(0), np.empty(0))], 1), "as many"),
        (lambda: detection([Boxes(np.ones((1, 4)), np.zeros(1))], [Boxes(np.ones((1, 4)), np.zeros(1))], 1), "one finite score"),
        (lambda: confusion(np.zeros((2, 3)), np.zeros((3, 2)), 2), "equal"),
        (lambda: confusion([2], [0], 2), "outside"),
        (lambda: mean_iou(np.zeros((2, 2))), "no class occurs"),
    ],
)  # fmt: skip
def test_one_line_for_what_cannot_be_scored(call, said):
    with pytest.raises(InputError, match=said):
        call()
