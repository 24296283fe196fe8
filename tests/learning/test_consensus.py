"""What several fits agree on: beside naive loops over every way to match clusters, and on fits whose agreement was planted."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from coterie.errors import InputError
from coterie.learning.consensus import consensus


def soft(labels: torch.Tensor, k: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (4.0 * torch.eye(k)[labels] + torch.rand(len(labels), k, generator=rng)).softmax(1)


def planted(n: int = 90, k: int = 3, fits: int = 4, wrong: float = 0.15) -> list[torch.Tensor]:
    """Fits of one truth, `wrong` of the images elsewhere in each, the clusters of each numbered anew."""
    rng = torch.Generator().manual_seed(5)
    truth, found = torch.arange(n) % k, []
    for seed in range(fits):
        labels = torch.where(torch.rand(n, generator=rng) < wrong, torch.randint(k, (n,), generator=rng), truth)
        found.append(soft(torch.randperm(k, generator=rng)[labels], k, seed))
    return found


def naive(fits: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and labels (S, N) under its numbers, by trying all ways to match each fit with the mean, until nothing changes."""
    given = [p.double().numpy() for p in fits]
    mean, aligned = given[0], given
    for _ in range(20):
        aligned = [max((p[:, list(way)] for way in permutations(range(p.shape[1]))), key=lambda q: (q * mean).sum()) for p in given]
        mean = np.mean(aligned, 0)
    return mean, np.stack([p.argmax(1) for p in aligned])


@pytest.mark.parametrize("wrong", [0.1, 0.4])
def test_it_is_that_of_naive_loops(wrong):
    fits = planted(wrong=wrong)
    found, (mean, labels) = consensus(fits), naive(fits)
    agree = labels == mean.argmax(1)
    nearest = agree.sum(1).argmax()
    own = fits[nearest].double().numpy()
    way = next(way for way in permutations(range(3)) if np.array_equal(own[:, list(way)].argmax(1), labels[nearest]))
    np.testing.assert_allclose(found.p_NK[:, list(way)], mean, atol=1e-6)
    np.testing.assert_allclose(found.stability_N, agree.mean(0), atol=1e-6)
    assert found.nearest == nearest and np.array_equal(found.labels_SN[nearest], own.argmax(1)), "the nearest keeps its numbers"
    pairs = [adjusted_rand_score(fits[i].argmax(1), fits[j].argmax(1)) for i in range(4) for j in range(i)]
    assert abs(found.alike - np.mean(pairs)) < 1e-9


def test_how_a_fit_numbers_its_clusters_does_not_matter():
    fits = planted(k=5)
    found = consensus(fits)
    rng = torch.Generator().manual_seed(1)
    other = consensus([p[:, torch.randperm(5, generator=rng)] for p in fits])
    assert torch.equal(found.stability_N, other.stability_N) and found.nearest == other.nearest
    assert adjusted_rand_score(found.p_NK.argmax(1), other.p_NK.argmax(1)) == 1 and abs(found.alike - other.alike) < 1e-9


def test_it_is_better_than_its_fits_and_knows_who_wavers():
    fits, truth = planted(300, 4, 7, 0.3), torch.arange(300) % 4
    found = consensus(fits)
    alone = [adjusted_rand_score(truth, p.argmax(1)) for p in fits]
    assert adjusted_rand_score(truth, found.p_NK.argmax(1)) > max(alone)
    assert found.stability_N.min() < 0.6 and found.stability_N.max() == 1
    np.testing.assert_allclose(found.p_NK.sum(1), 1, atol=1e-5)


def test_equal_fits_agree_in_everything():
    p = planted()[0]
    found = consensus([p, p[:, [2, 0, 1]], p])
    assert found.stability_N.eq(1).all() and found.alike == 1 and found.nearest == 0
    assert torch.equal(found.p_NK.argmax(1), p.argmax(1))


def test_one_cluster_and_clusters_that_are_empty():
    assert consensus([torch.ones(6, 1), torch.ones(6, 1)]).stability_N.eq(1).all()
    found = consensus([soft(torch.arange(9) % 2, 4), soft(torch.arange(9) % 2 + 2, 4)])
    assert found.stability_N.eq(1).all() and len(found.p_NK.argmax(1).unique()) == 2


def test_what_cannot_be_matched_is_refused():
    for fits in ([torch.ones(6, 1)], [torch.ones(6, 1), torch.ones(5, 1)], [torch.ones(6, 1), torch.ones(6, 2) / 2]):
        with pytest.raises(InputError, match="two fits"):
            consensus(fits)
