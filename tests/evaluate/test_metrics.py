import itertools
import math

import numpy as np
import pytest
import torch

from coterie.errors import InputError
from coterie.evaluate import metrics

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 4, 200)
CLUSTERS = np.where(rng.random(200) < 0.6, (LABELS + 1) % 4, rng.integers(0, 5, 200))
P = rng.dirichlet(np.ones(5) * 0.4, 200)


def naive_accuracy(labels, clusters):
    """Every one-to-one choice is tried."""
    classes, ids = sorted(set(labels.tolist())), sorted(set(clusters.tolist()) - {-1})
    classes += [None] * max(0, len(ids) - len(classes))
    best = 0
    for chosen in itertools.permutations(classes, len(ids)):
        partner = dict(zip(ids, chosen))
        best = max(best, sum(partner.get(k) == c for c, k in zip(labels.tolist(), clusters.tolist()) if k != -1))
    return best / len(labels)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
@pytest.mark.parametrize("noise", [0, 0.3])
def test_accuracy_equals_trying_all_matchings(k, noise):
    random = np.random.default_rng(k)
    for _ in range(5):
        labels = random.integers(0, 4, 40)
        clusters = np.where(random.random(40) < noise, -1, random.integers(0, k, 40))
        assert metrics.accuracy(labels, clusters) == pytest.approx(naive_accuracy(labels, clusters))
        found = metrics.match(labels, clusters)
        assert np.mean([found.get(k) == c for c, k in zip(labels.tolist(), clusters.tolist())]) == metrics.accuracy(labels, clusters)
        assert len(set(found.values())) == len(found) and -1 not in found


def test_confusion_and_purity_equal_loops():
    table = metrics.confusion(LABELS, CLUSTERS)
    for c, k in itertools.product(range(4), range(5)):
        assert table[c, k] == sum(a == c and b == k for a, b in zip(LABELS, CLUSTERS))
    assert metrics.purity(LABELS, CLUSTERS) == pytest.approx(sum(max(table[:, k]) for k in range(5)) / 200)


def entropy(values):
    return -sum(n / len(values) * math.log(n / len(values)) for n in np.unique(values, return_counts=True, axis=0)[1])


def test_nmi_equals_its_definition():
    h_class, h_cluster = entropy(LABELS), entropy(CLUSTERS)
    mutual = h_class + h_cluster - entropy(np.stack([LABELS, CLUSTERS], 1))
    assert metrics.nmi(LABELS, CLUSTERS) == pytest.approx(mutual / ((h_class + h_cluster) / 2))
    assert metrics.nmi(LABELS, CLUSTERS, average="geometric") == pytest.approx(mutual / math.sqrt(h_class * h_cluster))


def test_ari_equals_counting_pairs():
    same = [[a == b for a, b in itertools.combinations(v.tolist(), 2)] for v in (LABELS, CLUSTERS)]
    both, one, two, n = np.sum(np.logical_and(*same)), np.sum(same[0]), np.sum(same[1]), len(same[0])
    assert metrics.ari(LABELS, CLUSTERS) == pytest.approx((both - one * two / n) / ((one + two) / 2 - one * two / n))


HARD = [metrics.accuracy, metrics.purity, metrics.nmi, metrics.ari, metrics.ami, metrics.balanced_accuracy, metrics.macro_f1]
SOFT = [metrics.top_k_accuracy, metrics.expected_calibration_error, metrics.risk_coverage_area]


@pytest.mark.parametrize("score", HARD)
def test_names_of_clusters_order_and_container_do_not_matter(score):
    want, order = score(LABELS, CLUSTERS), rng.permutation(200)
    names = np.array([700, 3, 12, 5, 2**40])
    assert score(LABELS, names[CLUSTERS]) == pytest.approx(want)
    assert score(-5 - LABELS, CLUSTERS) == pytest.approx(want)
    assert score(LABELS[order], CLUSTERS[order]) == pytest.approx(want)
    assert score(LABELS.tolist(), torch.tensor(CLUSTERS)) == want == score(torch.tensor(LABELS), CLUSTERS.astype(np.float32))
    assert isinstance(want, float)


@pytest.mark.parametrize("score", HARD)
def test_perfect_is_one(score):
    assert score(LABELS, (LABELS + 2) % 4) == pytest.approx(1)


@pytest.mark.parametrize("score", SOFT)
def test_order_of_images_and_of_clusters_does_not_matter(score):
    want, order = score(LABELS, P), rng.permutation(200)
    assert score(LABELS[order], P[order]) == pytest.approx(want)
    assert score(LABELS, torch.tensor(P)[:, [4, 2, 0, 1, 3]]) == pytest.approx(want)
    assert isinstance(want, float)


def test_noise_is_wrong():
    clusters = LABELS.copy()
    clusters[:50] = -1
    assert metrics.accuracy(LABELS, clusters) == metrics.purity(LABELS, clusters) == 0.75
    assert metrics.accuracy(LABELS, np.full(200, -1)) == metrics.macro_f1(LABELS, np.full(200, -1)) == 0


def test_balanced_accuracy_and_f1_equal_loops():
    found = metrics.match(LABELS, CLUSTERS)
    recalls, f1 = [], []
    for cluster, c in found.items():
        right = ((c == LABELS) & (cluster == CLUSTERS)).sum()
        recalls.append(right / (c == LABELS).sum())
        f1.append(2 * right / ((c == LABELS).sum() + (cluster == CLUSTERS).sum()))
    assert metrics.balanced_accuracy(LABELS, CLUSTERS) == pytest.approx(np.mean(recalls))
    assert metrics.macro_f1(LABELS, CLUSTERS) == pytest.approx(np.mean(f1))
    assert metrics.balanced_accuracy([0, 0, 0, 1], [1, 1, 1, 1], matched=True) == 0.5


def test_top_k_equals_loops_and_grows_to_one():
    found = metrics.match(LABELS, P.argmax(1))
    for k in (1, 2, 3):
        hits = [any(found.get(int(j)) == c for j in np.argsort(-row)[:k]) for c, row in zip(LABELS, P)]
        assert metrics.top_k_accuracy(LABELS, P, k) == pytest.approx(np.mean(hits))
    assert metrics.top_k_accuracy(LABELS, P, 1) == metrics.accuracy(LABELS, P.argmax(1))
    assert metrics.top_k_accuracy(LABELS, P, 99) == 1
    assert metrics.top_k_accuracy([2, 0], [[0.1, 0.2, 0.7], [0.3, 0.6, 0.1]], 1, matched=True) == 0.5


def test_calibration_equals_loops():
    confidence, right = P.max(1), np.array([metrics.match(LABELS, P.argmax(1)).get(int(k)) == c for k, c in zip(P.argmax(1), LABELS)])
    want = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        want += abs(confidence[inside].sum() - right[inside].sum()) / 200
    assert metrics.expected_calibration_error(LABELS, P) == pytest.approx(want)
    sure = np.eye(4)[LABELS]
    assert metrics.expected_calibration_error(LABELS, sure) == metrics.risk_coverage_area(LABELS, sure) == 0


def test_a_bin_of_calibration_holds_its_upper_end():
    """Two bins: a confidence of exactly 1/2 counts in the lower one, beside which a right image of 3/4 stands in the upper one."""
    p = [[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]]
    assert metrics.expected_calibration_error([1, 0], p, bins=2, matched=True) == pytest.approx((0.5 + 0.25) / 2)
    quarters = [[0.25] * 4, [0.5, 0.5, 0, 0], [0.75, 0.25, 0, 0], [1, 0, 0, 0]]
    want = (abs(0.25 - 1) + abs(0.5 - 0) + abs(0.75 - 1) + abs(1 - 0)) / 4
    assert metrics.expected_calibration_error([0, 1, 0, 1], quarters, bins=4, matched=True) == pytest.approx(want)


def test_risk_coverage_equals_loops():
    right = np.array([metrics.match(LABELS, P.argmax(1)).get(int(k)) == c for k, c in zip(P.argmax(1), LABELS)])
    order = np.argsort(-P.max(1))
    want = np.mean([np.mean(~right[order[: n + 1]]) for n in range(200)])
    assert metrics.risk_coverage_area(LABELS, P) == pytest.approx(want)
    flat = np.eye(2)[[0, 0, 1, 1]] * 0.8 + 0.1  # all equally sure, one in four wrong
    assert metrics.risk_coverage_area([0, 1, 1, 1], flat, matched=True) == metrics.risk_coverage_area([0, 0, 1, 0], flat, matched=True)


def test_refusals():
    with pytest.raises(InputError, match="3 labels and 2 clusters"):
        metrics.accuracy([0, 1, 2], [0, 1])
    with pytest.raises(InputError, match="labels of shape"):
        metrics.nmi([], [])
    with pytest.raises(InputError, match="integers"):
        metrics.ari([0.5, 1], [0, 1])
    with pytest.raises(InputError, match="integers"):
        metrics.accuracy(["a", "b"], [0, 1])
    with pytest.raises(InputError, match="max"):
        metrics.nmi([0, 1], [0, 1], average="max")
    with pytest.raises(InputError, match=r"\(3, clusters\)"):
        metrics.top_k_accuracy([0, 1, 2], P[:2])
    with pytest.raises(InputError, match="k = 0"):
        metrics.top_k_accuracy(LABELS, P, 0)
    with pytest.raises(InputError, match="0 to 1"):
        metrics.expected_calibration_error(LABELS, P * 9)
    with pytest.raises(InputError, match="finite"):
        metrics.risk_coverage_area(LABELS, P * np.nan)
