"""Power iteration clustering against plain loops in float64, and what it must not depend on."""

import math

import pytest
import torch

from coterie.clustering import power_iteration
from coterie.clustering.power_iteration import power_iteration_clustering
from coterie.errors import InputError


def drawn(n: int = 60, d: int = 4, groups: int = 5, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, d, generator=rng, dtype=torch.float64)
    return centres[torch.arange(n) % groups] + 0.15 * torch.randn(n, d, generator=rng, dtype=torch.float64)


def naive(x: list[list[float]], k: int, sigma: float, alpha: float, iters: int) -> tuple[list[int], int]:
    """Labels, and how many rows were alone before they joined others."""
    n = len(x)
    gap = [[sum((a - b) ** 2 for a, b in zip(x[i], x[j])) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=lambda j, i=i: gap[i][j])[:k] for i in range(n)]
    w = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in near[i]:
            w[i][j] += math.exp(-gap[i][j] / sigma**2)
            w[j][i] += math.exp(-gap[i][j] / sigma**2)
    g = [[value / sum(row) for value in row] for row in w]
    v = [1 / n] * n
    for _ in range(iters):
        v = [alpha / n + (1 - alpha) * sum(g[i][j] * v[i] for i in range(n)) for j in range(n)]
        v = [value / sum(v) for value in v]
    goal = []
    for i in range(n):
        best = max(range(n), key=lambda j, i=i: w[i][j] * (v[j] - v[i]))
        goal.append(best if w[i][best] * (v[best] - v[i]) > 0 else i)
    tops = list(range(n))
    for i in range(n):
        while goal[tops[i]] != tops[i]:
            tops[i] = goal[tops[i]]
    lonely = [tops.count(top) == 1 for top in tops]
    joined = [tops[min((j for j in range(n) if not lonely[j]), key=lambda j, i=i: gap[i][j])] if lonely[i] else tops[i] for i in range(n)]
    return joined, sum(lonely)


def same_partition(one, other) -> bool:
    one, other = torch.as_tensor(one), torch.as_tensor(other)
    return torch.equal(one[:, None] == one, other[:, None] == other)


@pytest.mark.parametrize(
    "k, sigma, alpha, iters, seed", [(5, 0.5, 0.001, 50, 0), (2, 0.3, 0.001, 30, 1), (3, 1.0, 0.1, 20, 2), (1, 0.4, 0.001, 20, 3)]
)
def test_equals_naive_loops(k, sigma, alpha, iters, seed):
    x = drawn(40, seed=seed)
    got = power_iteration_clustering(x, k, sigma, alpha, iters)
    want, _ = naive(x.tolist(), k, sigma, alpha, iters)
    assert got.dtype == torch.int64 and same_partition(got, want) and got.unique().tolist() == list(range(int(got.max()) + 1))
    assert 1 < len(got.unique()) < 40, "the draw is too easy to tell anything"


def test_a_row_alone_joins_its_nearest():
    """Two threes with a top each, and a row so far away that its edges weigh nothing: it goes nowhere by itself."""
    x = torch.tensor([[0.0, 0], [0.1, 0], [0.2, 0], [3, 0], [3.1, 0], [3.2, 0], [60, 0]], dtype=torch.float64)
    assert same_partition(power_iteration_clustering(x, 2), [0, 0, 0, 1, 1, 1, 1])
    assert same_partition(power_iteration_clustering(x - 2 * x[6:] * (x == 60), 2), [0, 0, 0, 1, 1, 1, 0]), "on the other side"


def test_order_place_and_turn_of_the_rows_do_not_matter():
    x = drawn(50)
    want = power_iteration_clustering(x, sigma=0.5)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    assert same_partition(power_iteration_clustering(x[order], sigma=0.5), want[order])
    assert same_partition(power_iteration_clustering(x @ turn + 100, sigma=0.5), want)


def test_in_tiles_as_in_one(monkeypatch):
    x = drawn(50)
    want = power_iteration_clustering(x, sigma=0.5)
    monkeypatch.setattr(power_iteration, "TILE", 350)
    assert torch.equal(power_iteration_clustering(x, sigma=0.5), want)


def test_at_the_edge():
    assert power_iteration_clustering(torch.ones(7, 3)).shape == (7,), "all rows equal"
    assert power_iteration_clustering(torch.randn(2, 3)).shape == (2,), "fewer neighbours than asked"
    far = 1e6 * torch.eye(6)
    assert power_iteration_clustering(far).shape == (6,), "every weight is 0"


def test_refuses():
    with pytest.raises(InputError, match="1 rows"):
        power_iteration_clustering(torch.randn(1, 3))
    with pytest.raises(InputError, match="n_neighbors = 0"):
        power_iteration_clustering(torch.randn(5, 3), n_neighbors=0)
    with pytest.raises(InputError, match="sigma = 0"):
        power_iteration_clustering(torch.randn(5, 3), sigma=0)
    with pytest.raises(InputError, match="row 2"):
        power_iteration_clustering(torch.randn(9, 4).index_fill(0, torch.tensor([2]), float("nan")))
