"""A draw of the rows; the draw of DeepCluster: each non-empty pseudo-cluster as often as any other."""

import pytest
import torch

from coterie.clustering.sampling import sample, uniform_draw
from coterie.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_sizes(*sizes: int) -> torch.Tensor:
    """Labels in random order, clusters of these sizes."""
    labels = torch.cat([torch.full((size,), cluster) for cluster, size in enumerate(sizes)])
    return labels[torch.randperm(len(labels), generator=seeded(99))]


def test_the_sample():
    assert sample(10, seeded()).tolist() == list(range(10))
    some = sample(100, seeded(), 30)
    assert len(some) == len(set(some.tolist())) == 30 and (some.diff() > 0).all()
    assert torch.equal(some, sample(100, seeded(), 30))


@pytest.mark.parametrize("count", [1, 5, 100, 101, 99, 1000])
@pytest.mark.parametrize("sizes", [(10, 0, 200, 1, 40), (100,), (3, 3, 3), (1, 500)], ids=str)
def test_shares_are_equal_to_one_image(sizes, count):
    labels = of_sizes(*sizes)
    drawn = uniform_draw(labels, count, seeded())
    assert drawn.shape == (count,) and drawn.dtype == torch.int64
    filled = [cluster for cluster, size in enumerate(sizes) if size]
    shares = labels[drawn].bincount(minlength=len(sizes))
    assert int(shares.sum()) == int(shares[filled].sum()) == count
    assert int(shares[filled].max() - shares[filled].min()) <= (1 if count % len(filled) else 0)


def test_a_large_cluster_repeats_nobody_and_a_small_one_does():
    labels = of_sizes(50, 4)
    drawn = uniform_draw(labels, 60, seeded())
    large, small = drawn[labels[drawn] == 0], drawn[labels[drawn] == 1]
    assert len(large) == len(small) == 30 and len(large.unique()) == 30 and len(small.unique()) <= 4


def test_a_cluster_of_its_share_gives_each_image_once():
    drawn = uniform_draw(of_sizes(7, 7, 7), 21, seeded())
    assert drawn.sort().values.tolist() == list(range(21)) and drawn.tolist() != list(range(21))


def chi_squared(counts: torch.Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected).square() / expected).sum())


@pytest.mark.parametrize("size, share", [(40, 10), (10, 40)], ids=["larger than the share", "smaller than the share"])
def test_within_a_cluster_every_image_is_as_likely(size, share):
    """200 draws of two clusters; the 99.9 % point of chi-squared, by the approximation of Wilson and Hilferty. Without repetition an
    image's count varies by 1 - share / size of what it would with it, so there the sum is divided by that."""
    labels = of_sizes(size, size)
    counts = sum(uniform_draw(labels, 2 * share, seeded(seed)).bincount(minlength=2 * size) for seed in range(200))
    for cluster in (0, 1):
        found = chi_squared(counts[labels == cluster].double()) / (1 - share / size if share <= size else 1)
        free = size - 1
        low, high = (free * (1 - 2 / (9 * free) + sign * 3.09 * (2 / (9 * free)) ** 0.5) ** 3 for sign in (-1, 1))
        assert low < found < high


def test_over_the_clusters_the_odd_draws_are_even():
    """One draw of three clusters a time, and one image of a hundred in the smallest: each cluster about as often, by chi-squared."""
    labels = of_sizes(1, 30, 69)
    counts = sum(labels[uniform_draw(labels, 1, seeded(seed))].bincount(minlength=3) for seed in range(300))
    assert chi_squared(counts.double()) < 13.8, "the 99.9 % point at 2 degrees of freedom"
    uneven = torch.tensor([3.0, 90, 207])
    assert chi_squared(uneven) > 13.8, "what a draw over images would give is told apart"


def test_left_out_images_are_never_drawn_and_change_nothing():
    labels = of_sizes(5, 20)
    kept = torch.arange(25) * 2
    among = torch.full((50,), -1)
    among[kept] = labels
    assert torch.equal(uniform_draw(among, 33, seeded()), kept[uniform_draw(labels, 33, seeded())])


def test_names_of_clusters_do_not_matter():
    labels = of_sizes(5, 20, 9)
    assert torch.equal(uniform_draw(labels * 7 + 3, 33, seeded()), uniform_draw(labels, 33, seeded()))


def test_the_order_is_random():
    labels = torch.arange(90) // 30
    drawn = labels[uniform_draw(labels, 90, seeded())]
    first = drawn[:30].bincount(minlength=3)
    assert first.min() >= 3, "no cluster comes first"


def test_nobody_to_draw():
    with pytest.raises(InputError, match="no image has a pseudo-label"):
        uniform_draw(torch.full((4,), -1), 4, seeded())
