"""What is too far from all that were fitted: beside naive loops, under changes that must not matter, at the rate that was asked for."""

import math

import numpy as np
import pytest
import torch

from coterie.clustering.novelty import COPY, lowest_rate, novelty, own_novelty, threshold
from coterie.errors import InputError


def blobs(n: int, seed: int, kinds=(0, 1, 2, 3), width: int = 24) -> torch.Tensor:
    """Rows of some of eight kinds, of unequal spread, float64."""
    centres = torch.randn(8, width, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    rng = torch.Generator().manual_seed(seed)
    kind = torch.tensor(kinds)[torch.arange(n) % len(kinds)]
    spread = 0.15 + 0.1 * kind[:, None]
    return centres[kind] + spread * torch.randn(n, width, generator=rng, dtype=torch.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def naive(fitted: np.ndarray, row: np.ndarray, k: int, without: int | None = None) -> float:
    def away(x: np.ndarray, left_out: int | None) -> tuple[float, list[int]]:
        others = [i for i in range(len(fitted)) if i != left_out]
        near = sorted(others, key=lambda i: -cosine(fitted[i], x))[:k]
        return float(np.mean([1 - cosine(fitted[i], x) for i in near])), near

    distance, near = away(row, without)
    return distance / math.sqrt(np.mean([away(fitted[i], i)[0] for i in near]))


def test_scores_are_those_of_naive_loops():
    fitted, new = blobs(30, 0), blobs(9, 1, (0, 5, 2))
    want = [naive(fitted.numpy(), row.numpy(), 4) for row in new]
    np.testing.assert_allclose(novelty(fitted, new, 4), want, rtol=1e-4)
    want = [naive(fitted.numpy(), fitted[i].numpy(), 4, i) for i in range(30)]
    np.testing.assert_allclose(own_novelty(fitted, 4), want, rtol=1e-4)


def test_the_rows_asked_are_spread_evenly():
    fitted = blobs(50, 0)
    np.testing.assert_allclose(own_novelty(fitted, asked=8), own_novelty(fitted)[[0, 7, 14, 21, 28, 35, 42, 49]], rtol=1e-4)


def test_order_length_and_turning_do_not_matter():
    fitted, new = blobs(60, 0), blobs(12, 1, (0, 6))
    want, own = novelty(fitted, new), own_novelty(fitted)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    turned = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)).Q
    np.testing.assert_allclose(novelty(fitted[order], new), want, rtol=1e-4)
    np.testing.assert_allclose(own_novelty(fitted[order]), own[order], rtol=1e-4)
    np.testing.assert_allclose(novelty(3 * fitted @ turned, new @ turned), want, rtol=1e-4)
    np.testing.assert_allclose(novelty(fitted, new[4:5])[0], want[4], rtol=1e-4)  # whatever other new pictures there are
    np.testing.assert_allclose(novelty(fitted.half(), new.half()), want, rtol=0.02)  # as features are kept


@pytest.mark.parametrize("kinds", [(0,), (0, 1), (0, 1, 2, 3)])
def test_a_planted_kind_is_novel(kinds):
    fitted, above = blobs(200, 0, kinds), threshold(own_novelty(blobs(200, 0, kinds)), 0.05)
    assert (novelty(fitted, blobs(40, 1, (6,))) > above).float().mean() > 0.95
    assert (novelty(fitted, blobs(400, 2, kinds)) > above).float().mean() < 0.12


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_false_alarms_come_at_the_rate_that_was_asked(rate):
    found = []
    for seed in range(5):
        fitted = blobs(400, 10 + seed)
        found.append((novelty(fitted, blobs(400, 20 + seed)) > threshold(own_novelty(fitted), rate)).float().mean())
    assert 0.5 * rate < float(np.mean(found)) < 1.6 * rate


@pytest.mark.parametrize("times", [2, 7])
def test_copies_among_the_fitted_pictures_hardly_matter(times):
    fitted, new = blobs(300, 0), blobs(400, 1)
    copies = fitted.repeat(times, 1)
    rate = float((novelty(copies, new) > threshold(own_novelty(copies), 0.05)).float().mean())
    assert rate < 0.13, "copies left in would make 0.2 of it, or all"
    assert (novelty(copies, blobs(40, 2, (6,))) > threshold(own_novelty(copies), 0.05)).all()


def test_a_fitted_picture_is_not_novel():
    fitted = blobs(100, 0)
    assert (novelty(fitted, fitted) > threshold(own_novelty(fitted), 0.05)).float().mean() <= 0.05


def test_rows_that_are_all_alike_are_not_told_apart_by_rounding():
    fitted = torch.ones(50, 8) + 1e-6 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    new = torch.ones(20, 8) + 1e-5 * torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    assert not (novelty(fitted, new) > threshold(own_novelty(fitted), 0.05)).any()


def test_the_threshold_is_the_conformal_quantile():
    own = torch.linspace(1, 0, 99)[torch.randperm(99, generator=torch.Generator().manual_seed(0))] + 0.5
    for rate, above in ((0.05, 4), (0.1, 9), (0.5, 49), (0.01, 0), (0.001, 0), (0.999, 98)):  # of 100 scores, the new one counted
        assert int((own > threshold(own, rate)).sum()) == above
    assert lowest_rate(own) == 0.01
    assert threshold(torch.zeros(9), 0.05) == math.sqrt(COPY)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_few_rows(n):
    fitted = blobs(n, 0)
    own = own_novelty(fitted)
    assert len(own) == (n if n > 1 else 0) and own.isfinite().all()
    scores = novelty(fitted, blobs(5, 1, (0, 6)))
    assert scores.shape == (5,) and scores.isfinite().all() and len(novelty(fitted, fitted[:0])) == 0
    assert n > 1 or threshold(own, 0.05) == math.inf


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="columns"):
        novelty(blobs(9, 0), blobs(3, 0)[:, :5])
    with pytest.raises(InputError, match="NaN"):
        novelty(blobs(9, 0), blobs(3, 0) * torch.nan)
