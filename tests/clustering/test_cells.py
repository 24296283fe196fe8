"""Approximate neighbours: what is found is truly as near as is said, and it is nearly all."""

import math

import numpy as np
import pytest
import torch

from coterie.clustering import cells
from coterie.clustering.cells import nearest_in_cells
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import unit
from coterie.clustering.tiles import nearest_of_all


def kinds(n: int, d: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """n unit rows around 50 directions."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(50, d, generator=rng, dtype=dtype)
    return unit(centres[torch.arange(n) % 50] + 0.3 * torch.randn(n, d, generator=rng, dtype=dtype))


@pytest.fixture
def shallow(monkeypatch):
    """Few cells are looked into, so that rows as few as these are not all compared."""
    monkeypatch.setattr(cells, "LOOKED_INTO", 12)


def test_most_of_the_nearest_are_found_and_none_is_nearer_than_is_said(shallow):
    x = kinds(5000)
    x[7] = 0
    exact, got = nearest(x, 10), nearest(x, 10, approximate=True)
    assert got.index_NK.shape == (5000, 10) and got.index_NK.dtype == torch.int64
    assert (got.index_NK != torch.arange(5000)[:, None]).all() and (got.index_NK >= 0).all()
    assert 0.9 < (got.index_NK[:, :, None] == exact.index_NK[:, None]).any(2).float().mean() < 1  # 1: all were compared
    rows = x.double().numpy()
    for i in range(0, 5000, 97):  # the naive product of each row that is returned, no row twice, nearest first
        index, similarity = got.index_NK[i].tolist(), got.similarity_NK[i].tolist()
        assert len(set(index)) == 10 and similarity == sorted(similarity, reverse=True)
        assert similarity == pytest.approx([float((rows[i] * rows[j]).sum()) for j in index], abs=1e-5)


def test_in_the_cells_looked_into_nothing_nearer_is_passed_over(shallow):
    """A naive loop over the rows of the same cells."""
    x = kinds(3000, dtype=torch.float64)
    seen, real = [], cells._look

    def look(seen_BW, queries_BD, cell_BP, ends_BP, found):
        real(seen_BW, queries_BD, cell_BP, ends_BP, found)
        seen.append((queries_BD, cell_BP, found))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_look", look)
        index_MK, similarity_MK = nearest_in_cells(x, x, 5)
    assert seen
    best = {}
    for queries_BD, cell_BP, (_, sorted_ND, _, first_C, sizes_C) in seen:
        for query, looked in zip(queries_BD.numpy(), cell_BP.tolist()):
            rows = np.concatenate([sorted_ND[int(first_C[c]) : int(first_C[c] + sizes_C[c])].numpy() for c in looked])
            best[query.tobytes()] = sorted((float(np.dot(query, row)) for row in rows), reverse=True)[:5]
    for query, similarity in list(zip(x.numpy(), similarity_MK.tolist()))[::53]:
        assert similarity == pytest.approx(best[query.tobytes()], abs=1e-12)


def test_pieces_of_any_size_give_the_same(shallow, monkeypatch):
    x = kinds(3000, dtype=torch.float64)
    whole = nearest_in_cells(x, x, 8)
    monkeypatch.setattr(cells, "AT_ONCE", 20_000)
    pieces = nearest_in_cells(x, x, 8)
    assert torch.equal(whole[0], pieces[0]) and torch.allclose(whole[1], pieces[1], atol=1e-12)


def test_the_order_of_the_queries_does_not_matter(shallow):
    x, order = kinds(3000, dtype=torch.float64), torch.randperm(700, generator=torch.Generator().manual_seed(1))
    queries = kinds(700, seed=3, dtype=torch.float64)
    index_MK, _ = nearest_in_cells(x, queries, 4)
    assert torch.equal(nearest_in_cells(x, queries[order], 4)[0], index_MK[order])


def test_where_cells_hold_too_few_all_rows_are_compared(shallow):
    """One crowd, and outliers each of which lies in a cell of its own: a cell has fewer rows than are asked for."""
    rng = torch.Generator().manual_seed(0)
    crowd = unit(torch.tensor([1.0] + [0.0] * 63) + 0.01 * torch.randn(4000, 64, generator=rng))
    x = torch.cat([crowd, -unit(torch.tensor([1.0] + [0.0] * 63) + 2 * torch.randn(60, 64, generator=rng))])
    index_MK, similarity_MK = nearest_in_cells(x, x, 30)
    assert similarity_MK.isfinite().all() and all(len(set(row)) == 30 for row in index_MK.tolist())


def test_few_rows_or_many_neighbours_are_all_compared():
    x = kinds(600)
    assert torch.equal(nearest_in_cells(x, x, 9)[0], nearest_of_all(x, x, 9)[0])
    many, k = kinds(3000), 2000
    assert torch.equal(nearest_in_cells(many, many[:20], k)[0], nearest_of_all(many, many[:20], k)[0])


def test_duplicates_and_zeros_are_rows_like_others(shallow):
    x = torch.cat([kinds(2000), kinds(1)[:1].expand(500, -1), torch.zeros(300, 16)])
    found = nearest(x, 6, approximate=True)
    assert (found.index_NK != torch.arange(len(x))[:, None]).all()
    assert all(len(set(row)) == 6 for row in found.index_NK.tolist())
    assert float(found.similarity_NK[2000:2500].min()) == pytest.approx(1, abs=1e-5)
    assert not math.isinf(float(found.similarity_NK.min()))


def test_rows_that_are_all_the_same_are_neighbours_of_each_other(shallow):
    """Most cells are empty then, and a query may look into none that is not."""
    found = nearest(torch.ones(3000, 8), 5, approximate=True)
    assert (found.index_NK != torch.arange(3000)[:, None]).all() and all(len(set(row)) == 5 for row in found.index_NK.tolist())
    assert float(found.similarity_NK.min()) == pytest.approx(1, abs=1e-5)
