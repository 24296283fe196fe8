"""How many kinds: every score against plain loops in float64, planted kinds of known number, and what must not matter."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from coterie.clustering.kmeans import kmeans
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import means, unit
from coterie.clustering.silhouette import silhouette
from coterie.errors import InputError
from coterie.learning import counting
from coterie.learning.counting import Draws, blur, count, cut, graph, grid, nearly_as_good, ward


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(kinds: int, each: int, width: int, seed: int = 0, spread: float = 0.1) -> torch.Tensor:
    rng = generator(seed)
    centres = torch.randn(kinds, width, generator=rng).repeat_interleave(each, 0)
    return centres + spread * torch.randn(centres.shape, generator=rng)


# ---- each score


def naive_silhouette(rows: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for i, row in enumerate(rows):
        far: dict[int, list[float]] = {}
        for j, other in enumerate(rows):
            if i != j:
                far.setdefault(int(labels[j]), []).append(1 - float(row @ other))
        own = far.pop(int(labels[i]), [])
        if own and far:
            a, b = np.mean(own), min(np.mean(others) for others in far.values())
            total += (b - a) / max(a, b)
    return total / len(rows)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_silhouette(k):
    rows = torch.nn.functional.normalize(blobs(3, 8, 5, spread=0.8).double())
    labels = torch.randint(k, (24,), generator=generator(k))
    labels[0] = k - 1  # perhaps alone
    assert silhouette(rows, labels, k) == pytest.approx(naive_silhouette(rows.numpy(), labels.numpy()), abs=1e-12)


def test_silhouette_of_lone_rows_and_empty_clusters():
    rows = torch.nn.functional.normalize(blobs(2, 4, 5).double())
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 2, 5])
    assert silhouette(rows, labels, 9) == pytest.approx(naive_silhouette(rows.numpy(), labels.numpy()), abs=1e-12)
    assert silhouette(rows, torch.zeros(8, dtype=torch.int64), 2) == 0 and silhouette(rows, torch.arange(8), 8) == 0


def naive_ward(rows: np.ndarray, k: int) -> list[set[int]]:
    clusters = [{i} for i in range(len(rows))]
    while len(clusters) > k:
        costs = {}
        for i, one in enumerate(clusters):
            for j, other in enumerate(clusters[:i]):
                gap = rows[list(one)].mean(0) - rows[list(other)].mean(0)
                costs[i, j] = len(one) * len(other) / (len(one) + len(other)) * float(gap @ gap)
        i, j = min(costs, key=lambda pair: costs[pair])
        clusters[j] |= clusters.pop(i)
    return clusters


@pytest.mark.parametrize("k", [1, 2, 5, 17, 18])
def test_cut_of_wards_tree(k):
    rows = torch.randn(18, 3, generator=generator(2), dtype=torch.float64)
    labels = cut(ward(rows), k).numpy()
    found = [set(np.flatnonzero(labels == c).tolist()) for c in range(k)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, naive_ward(rows.numpy(), k)))


def test_stability_is_the_mean_rand_index_with_the_other_draws():
    draws = Draws(blobs(4, 12, 6, spread=0.9), generator())
    draws.try_all([5])
    labels = [one.numpy() for one in draws.labels(5)]
    for s, found in enumerate(draws.stabilities[5]):
        others = [adjusted_rand_score(labels[s], labels[t]) for t in range(len(labels)) if t != s]
        assert found == pytest.approx(max(0.0, np.mean(others)), abs=1e-9)
    assert all(len(np.unique(one)) <= 5 for one in labels) and len(labels) == counting.DRAWS


def test_gap_is_the_difference_of_eigenvalues():
    rows = blobs(3, 14, 6, spread=0.5)
    draws = Draws(rows, generator())
    tried = [2, 3, 4, 6]
    draws.try_all(tried)
    gap_T, spectral_T = graph(rows, tried, 2, generator(), draws)
    n, near = len(rows), nearest(rows, 10)
    similar = np.zeros((n, n))
    for i in range(n):
        for j, value in zip(near.index_NK[i].tolist(), near.similarity_NK[i].tolist()):
            similar[i, j] = max(0.0, value)
    similar = (similar + similar.T) / 2
    scale = 1 / np.sqrt(similar.sum(1))
    values, vectors = np.linalg.eigh(scale[:, None] * similar * scale)
    values = values[::-1]
    wanted = np.array([max(0.0, values[k - 1] - values[k]) for k in tried])
    assert gap_T == pytest.approx(wanted / wanted.max(), abs=1e-6) and gap_T.argmax() == 1
    for k, found in zip(tried, spectral_T):
        within = unit(torch.from_numpy(vectors[:, -k:].copy())).float()
        labels = kmeans(within, k, iters=15, init=means(within, draws.first[k], k)).labels_N
        assert found == pytest.approx(silhouette(draws.unit_Nd, labels, k), abs=0.02)


def test_blur_is_a_weighted_mean_over_neighbours_in_log_k():
    k_T, values_T = np.array([2, 3, 10, 11, 40]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    for i, k in enumerate(k_T):
        weights = [math.exp(-((math.log(k / other) / counting.BLUR) ** 2) / 2) for other in k_T]
        assert blur(k_T, values_T)[i] == pytest.approx(sum(w * v for w, v in zip(weights, values_T)) / sum(weights))


def test_every_number_is_tried_up_to_thirty_then_each_a_twentieth_larger():
    assert grid(2, 9) == list(range(2, 10)) and grid(5, 5) == [5] and grid(50, 52)[0] == 50
    large = grid(2, 400)
    assert large[:29] == list(range(2, 31)) and large[-1] == 400 and large == sorted(set(large))
    assert all(later <= 1.08 * earlier for earlier, later in zip(large[28:], large[29:]))


def test_the_interval_has_no_gap():
    assert nearly_as_good(np.array([2, 3, 4, 5, 6]), np.array([0.99, 0.5, 0.98, 1.0, 0.97])) == [4, 5, 6]


# ---- kinds of known number


@pytest.mark.parametrize("seed", range(3))
def test_one_kind(seed):
    rng = generator(seed)
    noise, narrow = torch.randn(400, 40, generator=rng), torch.randn(300, 24, generator=rng) * torch.linspace(2, 0.1, 24)
    one_blob = 5 + 0.3 * torch.randn(200, 16, generator=rng)
    few = torch.randn(30, 16, generator=rng)
    for rows in (noise, narrow, one_blob, few):
        found = count(rows, generator(seed))
        assert (found.k, found.low, found.high) == (1, 1, 1) and "hardly clearer" in found.why


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds, each", [(2, 60), (2, 12), (3, 20), (7, 15), (24, 12)])
def test_tight_kinds(kinds, each, seed):
    found = count(blobs(kinds, each, 16, seed), generator(seed))
    assert found.k == kinds and found.low <= kinds <= found.high


def test_two_hundred_kinds():
    assert 180 <= count(blobs(200, 8, 12, spread=0.05), generator()).k <= 220


def test_unequal_kinds():
    rows = torch.cat([blobs(1, n, 16, seed) for seed, n in enumerate((200, 80, 40, 20, 12))])
    assert 4 <= count(rows, generator()).k <= 6


def test_identical_rows_are_one_kind():
    assert count(torch.ones(40, 8), generator()).k == 1


def test_a_cluster_that_rounding_alone_parts_is_none():
    rows = torch.nn.functional.normalize(torch.eye(2, 30).repeat(20, 1) + 1e-8 * torch.randn(40, 30, generator=generator()))
    labels = torch.arange(40) % 2
    apart = labels + 2 * (torch.arange(40) % 3 == 0)
    assert silhouette(rows, labels, 2) > 0.99 and abs(silhouette(rows, apart, 4)) < 0.1


def test_copies_of_three_rows():
    assert count(torch.eye(3, 8).repeat(10, 1), generator()).k == 3


# ---- what does not matter


def test_order_rotation_and_length_do_not_matter():
    rows = blobs(6, 20, 12, spread=0.5)
    rng = generator(5)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=rng)).Q
    lengths = torch.rand(len(rows), 1, generator=rng) + 0.5
    same = count(rows, generator()).k
    for other in (rows[torch.randperm(len(rows), generator=rng)], rows @ turn, rows * lengths, rows.double()):
        assert count(other, generator()).k == same == 6


def test_the_same_generator_gives_the_same_count():
    rows = blobs(6, 20, 12, spread=0.9)
    assert count(rows, generator(3)) == count(rows, generator(3))


# ---- bounds, and what cannot be counted


def test_bounds_are_kept():
    rows = blobs(6, 20, 12)
    for least, most in ((1, 4), (2, 5), (8, 12), (6, 6), (9, 9), (40, 60)):
        found = count(rows, generator(), least, most)
        assert least <= found.low <= found.k <= found.high <= most and all(least <= k <= most for k in found.scores)
    assert count(rows, generator(), 1, 1).k == 1 and count(rows, generator(), 3, 9).k == 6
    assert count(torch.randn(100, 20, generator=generator()), generator(), 2, 9).k >= 2, "one kind was not allowed"


@pytest.mark.parametrize("least, most", [(0, 4), (5, 4), (2, 121)])
def test_bounds_that_make_no_sense(least, most):
    with pytest.raises(InputError, match="wanted A:B"):
        count(blobs(6, 20, 12), generator(), least, most)


def test_too_few_rows():
    with pytest.raises(InputError, match="too few to count.*--clusters K"):
        count(torch.randn(19, 4, generator=generator()), generator())
    with pytest.raises(InputError, match="too few to try"):
        count(torch.randn(60, 4, generator=generator()), generator(), 50, 60)


def test_rows_that_are_not_finite():
    with pytest.raises(InputError, match="NaN"):
        count(torch.full((30, 3), float("nan")), generator())
