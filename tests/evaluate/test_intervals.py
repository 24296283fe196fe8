"""Bootstrap intervals: each drawn table is scored as the metrics score its images, and the draws are those of images."""

import numpy as np
import pytest

from coterie.evaluate import intervals as bootstrap
from coterie.evaluate import metrics


def pair(n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    return labels, np.where(rng.random(n) < 0.7, (labels + 1) % 4, rng.integers(0, 6, n))


def test_a_table_is_scored_as_its_images():
    labels, clusters = pair()
    table = metrics.confusion(labels, clusters)
    class_M, cluster_M = table.nonzero()
    partner = metrics.match(labels, clusters)
    right_M = np.array([partner.get(int(k)) == int(c) for c, k in zip(class_M, cluster_M)])
    drawn_RM = np.random.default_rng(1).multinomial(300, table[class_M, cluster_M] / 300, size=4)
    drawn_RM = np.vstack([drawn_RM, [300, *[0] * (len(class_M) - 1)]])  # one class in one cluster
    found = bootstrap.scores(drawn_RM, class_M, cluster_M, right_M)
    for i, counts in enumerate(drawn_RM):
        its_labels, its_clusters = np.repeat(class_M, counts), np.repeat(cluster_M, counts)
        right = sum(partner.get(int(k)) == int(c) for c, k in zip(its_labels, its_clusters))
        assert found["acc"][i] == pytest.approx(right / 300)
        assert found["nmi"][i] == pytest.approx(metrics.nmi(its_labels, its_clusters), abs=1e-9)
        assert found["ari"][i] == pytest.approx(metrics.ari(its_labels, its_clusters), abs=1e-9)


def test_it_is_the_bootstrap_over_images():
    labels, clusters = pair()
    partner = metrics.match(labels, clusters)
    right_N = np.array([partner.get(int(k)) == int(c) for c, k in zip(labels, clusters)])
    rng, naive = np.random.default_rng(2), []
    for _ in range(1000):
        chosen = rng.integers(0, 300, 300)
        naive.append((right_N[chosen].mean(), metrics.ari(labels[chosen], clusters[chosen])))
    found = bootstrap.intervals(labels, clusters, seed=0)
    for name, wanted in zip(("acc", "ari"), np.quantile(naive, [0.025, 0.975], axis=0).T):
        assert found[name] == pytest.approx(wanted, abs=0.02) and found[name][0] < found[name][1]
    assert found["acc"][0] < metrics.accuracy(labels, clusters) < found["acc"][1]


def test_the_same_seed_gives_the_same_and_clusters_need_no_names():
    labels, clusters = pair()
    found = bootstrap.intervals(labels, clusters, seed=3)
    assert found == bootstrap.intervals(labels, clusters, seed=3) != bootstrap.intervals(labels, clusters, seed=4)
    assert bootstrap.intervals([5] * 9, [7] * 9)["acc"] == [1.0, 1.0]
