"""Each number of the evidence against a naive float64 loop."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from coterie.learning import evidence


def blobs(n: int, kinds: int, d: int = 8, spread: float = 0.2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(n) % kinds
    return torch.randn(kinds, d, generator=rng)[labels_N] + spread * torch.randn(n, d, generator=rng), labels_N


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(5))
def test_rand_index_is_scikit_learns(seed):
    a, b = np.random.default_rng(seed).integers(0, 5, (2, 60))
    assert evidence.rand_index(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)


def test_rand_index_of_the_simplest():
    one, single = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    assert evidence.rand_index(one, one) == evidence.rand_index(single, single) == 1.0
    assert evidence.rand_index(one, single) == 0.0


def test_close_rows_are_the_nearest():
    rows_Nd = blobs(40, 4)[0].double()
    found = evidence.close(rows_Nd, 5)
    for i, row in enumerate(rows_Nd):
        far = [(float(((row - other) ** 2).sum()), j) for j, other in enumerate(rows_Nd) if j != i]
        assert set(found[i].tolist()) == {j for _, j in sorted(far)[:5]}


def test_axes_keep_what_is_there():
    rows_ND = torch.randn(50, 4, generator=rng(), dtype=torch.float64) @ torch.randn(4, 30, generator=rng(1), dtype=torch.float64)
    mean_D, axes_Dd = evidence.axes(rows_ND, rng(2))
    seen_Nd = evidence.seen(rows_ND, mean_D, axes_Dd)
    assert axes_Dd.shape == (30, 30) and seen_Nd[:, 4:].abs().max() < 1e-6
    centred_ND = rows_ND - rows_ND.mean(0)
    torch.testing.assert_close(seen_Nd @ seen_Nd.T, centred_ND @ centred_ND.T, rtol=1e-6, atol=1e-6)
    variances = seen_Nd.var(0)[:4]
    assert (variances.diff() < 0).all(), "the largest first"


def test_votes_and_what_lies_between():
    labels_N, near_NK = torch.randint(4, (60,), generator=rng()), torch.randint(60, (60, 7), generator=rng(1))
    right = undecided = 0
    for own, near in zip(labels_N.tolist(), near_NK.tolist()):
        counts = [sum(int(labels_N[j]) == k for j in near) for k in range(4)]
        right += counts.index(max(counts)) == own
        undecided += counts[own] <= max(count for k, count in enumerate(counts) if k != own)
    guess = max((labels_N == k).sum().item() for k in range(4)) / 60
    assert evidence.explained(labels_N, near_NK, 4) == pytest.approx(max(0.0, (right / 60 - guess) / (1 - guess)))
    assert evidence.between(labels_N, near_NK, 4) == pytest.approx(undecided / 60)


def test_beyond():
    assert evidence.beyond(0.8, 0.6) == pytest.approx(0.5) and evidence.beyond(0.5, 0.6) == 0.0 and evidence.beyond(1.0, 1.0) == 0.0


def test_stability_of_kinds_and_of_none():
    rows_Nd, _ = blobs(200, 4)
    assert evidence.stability(rows_Nd, 4, rng()) > 0.95
    assert evidence.stability(evidence.cloud(rows_Nd, rng()), 4, rng()) < 0.7


def test_a_cloud_has_the_extent_of_the_rows():
    rows_Nd = torch.randn(5000, 3, generator=rng(), dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.1], dtype=torch.float64)
    ratio = evidence.cloud(rows_Nd, rng(1)).std(0) / rows_Nd.std(0)
    assert (ratio - 1).abs().max() < 0.05


def test_the_score_falls_with_every_fault():
    rows_Nd, labels_N = blobs(200, 5)
    near_NK = evidence.close(rows_Nd, 10)
    merged, shuffled = labels_N.clone(), labels_N.clone()
    merged[merged == 4] = 3
    shuffled[::4] = shuffled[::4].flip(0)
    best = evidence.score(labels_N, near_NK, 5)
    assert best > 0.95 and evidence.score(merged, near_NK, 5) < best - 0.05 and evidence.score(shuffled, near_NK, 5) < best - 0.05
    assert evidence.score(torch.zeros_like(labels_N), near_NK, 5) == 0.0


@pytest.mark.parametrize("n", [2, 3, 7])
def test_tiny_sets_give_numbers(n, k=2):
    rows_ND = torch.randn(n, 12, generator=rng())
    rows_Nd = evidence.seen(rows_ND, *evidence.axes(rows_ND, rng()))
    near_NK = evidence.close(rows_Nd, evidence.how_many(n, k))
    found = evidence.evidence(rows_Nd, near_NK, torch.arange(n) % k, k, rng(), torch.rand(n, 3, 4, 4, generator=rng()))
    assert all(np.isfinite(value) for value in found.values())


def test_equal_rows_give_numbers():
    rows_Nd = evidence.seen(torch.ones(30, 5), *evidence.axes(torch.ones(30, 5), rng()))
    near_NK = evidence.close(rows_Nd, 3)
    found = evidence.evidence(rows_Nd, near_NK, torch.arange(30) % 3, 3, rng(), torch.zeros(30, 1, 4, 4))
    assert all(np.isfinite(value) for value in found.values())
