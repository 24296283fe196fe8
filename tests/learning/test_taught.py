"""What anchors tell of others, against loops in float64, and on kinds that are planted."""

import math

import pytest
import torch
import torch.nn.functional as F

from coterie.learning import taught
from coterie.learning.taught import beliefs, by_clusters, by_means, neighbours, spread, weights_of


def cloud(n=40, k=3, d=6, seed=0):
    """Rows in k kinds, soft clusters that are right but for noise, a few anchors, and some that are outside."""
    rng = torch.Generator().manual_seed(seed)
    kind_N = torch.arange(n) % k
    rows_ND = torch.randn(k, d, generator=rng)[kind_N] * 2 + torch.randn(n, d, generator=rng)
    p_NK = (F.one_hot(kind_N, k) * 2.0 + torch.randn(n, k, generator=rng)).softmax(1)
    anchor_N = torch.where(torch.rand(n, generator=rng) < 0.2, kind_N, -1)
    outside_N = (torch.rand(n, generator=rng) < 0.1) & (anchor_N < 0)
    return rows_ND, p_NK, anchor_N, outside_N, kind_N


def test_clusters_learn_what_they_are():
    """Three answers of cluster 0 are kind 1, none is kind 0; of cluster 1 one is as it is called."""
    p_NK = torch.eye(2)[[0, 0, 0, 0, 1, 1]]
    found = by_clusters(p_NK, torch.tensor([1, 1, 1, -1, 1, -1]))
    assert found[3].tolist() == pytest.approx([2 / 5, 3 / 5]) and found[5].tolist() == pytest.approx([0, 1])
    assert torch.equal(by_clusters(p_NK, torch.full((6,), -1)), p_NK)


def test_anchors_of_a_kind_count_as_a_kind_at_most():
    p_NK, anchor_N = torch.zeros(200, 2), torch.full((200,), -1)
    anchor_N[:4], anchor_N[4:54] = 0, 1
    weight_N = weights_of(p_NK, anchor_N)
    assert weight_N[0] == 10 and weight_N[4] == 2, "a tenth of 100 pictures; 50 share what 100 weigh"
    anchor_N[4:] = 1
    assert weights_of(p_NK, anchor_N)[4] == 1, "a picture at least"


def test_means_by_hand():
    rows_ND, p_NK, anchor_N, outside_N, _ = cloud()
    weight, (n, k), d = 4.0, p_NK.shape, rows_ND.shape[1]
    z = [[float(x) / math.sqrt(sum(float(y) ** 2 for y in row)) for x in row] for row in rows_ND]
    p = p_NK.double().tolist()
    for _ in range(taught.ROUNDS):
        for i in range(n):
            if anchor_N[i] >= 0:
                p[i] = [float(c == anchor_N[i]) for c in range(k)]
        w = [0.0 if outside_N[i] else weight if anchor_N[i] >= 0 else 1.0 for i in range(n)]
        means = [[sum(w[i] * p[i][c] * z[i][j] for i in range(n)) for j in range(d)] for c in range(k)]
        means = [[x / math.sqrt(sum(y * y for y in mean)) for x in mean] for mean in means]
        for i in range(n):
            e = [math.exp(taught.SHARP * sum(a * b for a, b in zip(z[i], mean))) for mean in means]
            p[i] = [x / sum(e) for x in e]
    found_NK = by_means(rows_ND, p_NK, anchor_N, torch.full((n,), weight), outside_N)
    torch.testing.assert_close(found_NK, torch.tensor(p).float(), atol=1e-4, rtol=1e-3)


def test_spreading_by_hand():
    rows_ND, p_NK, anchor_N, outside_N, _ = cloud()
    n, weight = len(rows_ND), 4.0
    graph = neighbours(rows_ND)
    z_ND = F.normalize(rows_ND.double())
    dense = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for _, j in sorted([(-float(z_ND[i] @ z_ND[j]), j) for j in range(n) if j != i])[: taught.NEIGHBOURS]:
            similar = max(0.0, float(z_ND[i] @ z_ND[j])) / 2
            dense[i, j] += similar
            dense[j, i] += similar
    root = dense.sum(1).rsqrt()
    dense = root[:, None] * dense * root
    one = F.one_hot(anchor_N.clamp(min=0), 3).double()
    y = torch.where((anchor_N >= 0)[:, None], weight * one, p_NK.double())
    y[outside_N] = 0
    f = y
    for _ in range(taught.STEPS):
        f = taught.FOLLOW * dense @ f + (1 - taught.FOLLOW) * y
    f = torch.where((anchor_N >= 0)[:, None], one, f / f.sum(1, keepdim=True))
    torch.testing.assert_close(spread(graph, p_NK, anchor_N, torch.full((n,), weight), outside_N), f.float(), atol=1e-5, rtol=1e-4)


def test_numbers_of_kinds_and_the_order_of_pictures_do_not_matter():
    rows_ND, p_NK, anchor_N, outside_N, _ = cloud()
    found = beliefs(rows_ND, neighbours(rows_ND), p_NK, anchor_N, outside_N)
    order_K, order_N = torch.tensor([2, 0, 1]), torch.randperm(len(rows_ND), generator=torch.Generator().manual_seed(1))
    place_K = order_K.argsort()
    anchors_N = torch.where(anchor_N >= 0, place_K[anchor_N.clamp(min=0)], -1)
    moved = beliefs(rows_ND[order_N], neighbours(rows_ND[order_N]), p_NK[:, order_K][order_N], anchors_N[order_N], outside_N[order_N])
    torch.testing.assert_close(moved, found[:, order_K][order_N], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


def test_anchors_stay_and_pull():
    """Two rings of pictures that one cluster holds: two answers tell them apart."""
    kind_N = torch.arange(60) % 2
    rng = torch.Generator().manual_seed(0)
    rows_ND = torch.randn(2, 8, generator=rng)[kind_N] * 3 + torch.randn(60, 8, generator=rng)
    p_NK = torch.tensor([[0.9, 0.1]]).expand(60, 2)
    anchor_N = torch.full((60,), -1)
    anchor_N[[0, 2, 1, 3]] = torch.tensor([0, 0, 1, 1])
    found = beliefs(rows_ND, neighbours(rows_ND), p_NK, anchor_N, torch.zeros(60, dtype=torch.bool))
    assert torch.equal(found[:4], F.one_hot(kind_N[:4], 2).float())
    assert float((found.argmax(1) == kind_N).float().mean()) > 0.95


def test_who_is_outside_tells_nobody():
    rows_ND, p_NK, anchor_N, outside_N, _ = cloud()
    other = torch.where(outside_N[:, None], torch.tensor([1.0, 0, 0]), p_NK)
    graph = neighbours(rows_ND)
    assert outside_N.any()
    for before, after in [(beliefs(rows_ND, graph, p, anchor_N, outside_N)[~outside_N] for p in (p_NK, other))]:
        torch.testing.assert_close(after, before)
