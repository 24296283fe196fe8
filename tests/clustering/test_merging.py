"""Many clusters by merging: a clustering like k-means', of no higher inertia. In float64."""

import pytest
import torch
import torch.nn.functional as F

from coterie.clustering import merging as module
from coterie.clustering.kmeans import kmeans
from coterie.clustering.merging import LEAF, _leaves, merged
from coterie.errors import InputError

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def rows(n: int, d: int = 12, seed: int = 0, kinds: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    middle = 2 * torch.randn(kinds, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return F.normalize(middle[torch.randint(kinds, (n,), generator=generator)] + noise)


@pytest.mark.parametrize("n, k", [(1500, 1490), (1500, 1300), (1500, 700), (1500, 200), (1500, 75), (200, 60)])
@pytest.mark.parametrize("seed", range(2))
def test_no_worse_than_k_means(n, k, seed):
    x = rows(n, seed=seed)
    found, plain = merged(x, k, torch.Generator().manual_seed(seed)), kmeans(x, k, torch.Generator().manual_seed(seed))
    assert found.inertia <= 1.01 * plain.inertia
    assert torch.equal(found.sizes_K, found.labels_N.bincount(minlength=k)) and (found.sizes_K > 0).all()
    for cluster in range(0, k, 7):
        torch.testing.assert_close(found.centroids_KD[cluster], x[found.labels_N == cluster].mean(0), **TIGHT)
    assert found.inertia == pytest.approx(float((x - found.centroids_KD[found.labels_N]).square().sum()), rel=1e-9)


def test_rows_change_sides_after_the_merging(monkeypatch):
    x, seeds = rows(1500), range(3)
    polished = [merged(x, 200, torch.Generator().manual_seed(seed)).inertia for seed in seeds]
    monkeypatch.setattr(module, "POLISH", 0)
    plain = [merged(x, 200, torch.Generator().manual_seed(seed)).inertia for seed in seeds]
    assert all(after < 0.99 * before for after, before in zip(polished, plain)), (polished, plain)


def test_the_closest_pairs_are_merged_first():
    """Twenty close pairs, far from each other: with twenty clusters fewer than rows each pair is one."""
    x = torch.arange(40).div(2, rounding_mode="floor")[:, None] * 10.0 + torch.rand(40, 3, generator=torch.Generator().manual_seed(0))
    labels = merged(x, 20).labels_N
    assert torch.equal(labels[::2], labels[1::2]) and len(labels.unique()) == 20


def test_each_row_a_cluster_and_one_for_all():
    x = rows(50)
    assert merged(x, 50).labels_N.unique().numel() == 50 and merged(x, 50).inertia == 0
    whole = merged(x, 1)
    assert (whole.labels_N == 0).all() and whole.inertia == pytest.approx(kmeans(x, 1).inertia, rel=1e-9)
    assert merged(x[:1], 1).labels_N.tolist() == [0]


def test_fewer_distinct_rows_than_clusters():
    x = rows(30).repeat(20, 1)
    found = merged(x, 100)
    assert found.inertia == pytest.approx(0, abs=1e-9) and found.sizes_K.sum() == 600 and found.labels_N.max() < 100


def test_same_generator_same_clusters_whatever_the_scale():
    x = rows(700)
    one, again = (merged(x, 300, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one.labels_N, again.labels_N) and not torch.equal(one.labels_N, merged(x, 300).labels_N)
    assert torch.equal(merged(4 * x, 300, torch.Generator().manual_seed(1)).labels_N, one.labels_N)


def test_far_from_the_origin_nothing_drowns():
    x = rows(600)
    near, far = merged(x, 400), merged((x + 1000).float(), 400)
    assert far.inertia == pytest.approx(near.inertia, rel=0.02)


def test_leaves_hold_each_row_at_most_once_and_hardly_leave_any_out():
    x = rows(3 * LEAF + 5)
    ids, gaps = zip(*_leaves(x, x, torch.Generator().manual_seed(0)))
    found = torch.cat([part.flatten() for part in ids])
    assert len(found.unique()) == len(found) >= len(x) - 3 and max(part.shape[1] for part in ids) <= LEAF
    torch.testing.assert_close(gaps[0][1], torch.cdist(x[ids[0][1]], x[ids[0][1]]).square(), **TIGHT)


@pytest.mark.parametrize("k", [0, 11])
def test_impossible_numbers_are_refused(k):
    with pytest.raises(InputError, match=f"k = {k}"):
        merged(rows(10), k)
