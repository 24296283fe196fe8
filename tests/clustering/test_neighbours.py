"""In float64 but where float32 is the matter: who is nearer than whom does not hang on the rounding of a CPU's products.

Shapes: N rows, M queries, D feature, K neighbours.
"""

import pytest
import torch

from coterie.clustering import tiles as module
from coterie.clustering.neighbours import nearest
from coterie.errors import InputError


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(x_ND: torch.Tensor, k: int, queries_MD: torch.Tensor | None = None):
    """Loops in float64: (index, similarity) lists."""
    x = [row / row.norm() for row in x_ND.double()]
    rows = x if queries_MD is None else [row / row.norm() for row in queries_MD.double()]
    index, similarity = [], []
    for i, row in enumerate(rows):
        found = sorted((-float(row @ other), j) for j, other in enumerate(x) if queries_MD is not None or j != i)[:k]
        index.append([j for _, j in found])
        similarity.append([-s for s, _ in found])
    return torch.tensor(index), torch.tensor(similarity, dtype=torch.float64)


TILES = [(1024, 1 << 14), (7, 1 << 14), (1024, 37), (13, 64)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("k", [1, 5, 30])
def test_equals_naive_loops(monkeypatch, tile, k):
    monkeypatch.setattr(module, "TILE", {"cpu": tile})
    x, queries = features(120, 6), features(33, 6, seed=1)
    for asked in (None, queries):
        got, (index, similarity) = nearest(x, k, asked), naive(x, k, asked)
        assert torch.equal(got.index_NK, index) and got.index_NK.dtype == torch.int64
        assert got.similarity_NK.dtype == torch.float32
        torch.testing.assert_close(got.similarity_NK, similarity.float(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("tile", TILES)
def test_all_there_are(monkeypatch, tile):
    monkeypatch.setattr(module, "TILE", {"cpu": tile})
    x = features(80, 4)
    assert torch.equal(nearest(x, 79).index_NK, naive(x, 79)[0])
    assert torch.equal(nearest(x, 80, x[:3]).index_NK, naive(x, 80, x[:3])[0])


def test_more_columns_than_one_tile_by_groups():
    x = features(20_000, 4)
    queries = features(5, 4, seed=1)
    got = nearest(x, 20, queries)
    want = (torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(x).T).topk(20)
    assert torch.equal(got.index_NK, want.indices)


def test_order_length_and_rotation_do_not_matter():
    x = features(200, 5)
    turn = torch.linalg.qr(features(5, 5, seed=1)).Q
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    want = nearest(x, 9)
    assert torch.equal(nearest(x @ turn * torch.rand(200, 1).add(0.1), 9).index_NK, want.index_NK)
    mixed = nearest(x[order], 9)
    assert torch.equal(order[mixed.index_NK], want.index_NK[order])


def test_duplicates_stay_and_the_row_itself_goes():
    signs = torch.tensor([[1 - 2 * (i >> bit & 1) for bit in range(4)] for i in range(10)])
    x = signs.double().repeat(5, 1)  # rows i, i + 10, ... are the same; halves, whose products every kernel computes exactly
    got = nearest(x, 4)
    for i, found in enumerate(got.index_NK.tolist()):
        assert found == [j for j in range(i % 10, 50, 10) if j != i], "the four duplicates, lowest index first"
    torch.testing.assert_close(got.similarity_NK, torch.ones(50, 4))
    assert (got.similarity_NK <= 1).all()


def test_zero_rows_are_similar_to_nothing():
    x = features(30, 4)
    x[3] = 0
    got = nearest(x, 29)
    assert (got.similarity_NK[3] == 0).all() and got.similarity_NK.isfinite().all()
    assert got.index_NK[3].tolist() == [j for j in range(30) if j != 3]


def test_half_precision_and_autocast_are_computed_in_float32():
    x = features(300, 16).bfloat16()
    want = nearest(x.float(), 5)
    with torch.autocast("cpu", torch.bfloat16):
        got = nearest(x.clone().requires_grad_(), 5)
    assert torch.equal(got.index_NK, want.index_NK) and torch.equal(got.similarity_NK, want.similarity_NK)


def test_refusals_name_the_value():
    x = features(10, 3)
    for k in (0, 10, 11):
        with pytest.raises(InputError, match=f"k = {k}"):
            nearest(x, k)
    with pytest.raises(InputError, match="k = 11"):
        nearest(x, 11, x)
    with pytest.raises(InputError, match="queries have 4 columns, features 3"):
        nearest(x, 2, features(2, 4))
    with pytest.raises(InputError, match="row 5"):
        nearest(x.index_fill(0, torch.tensor([5]), float("nan")), 2)
    with pytest.raises(InputError, match="queries have NaN"):
        nearest(x, 2, x * float("inf"))
