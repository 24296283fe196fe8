"""How large kinds are, without labels."""

import math

import pytest
import torch

from coterie.clustering.sizes import EVEN, ROWS_PER_CLUSTER, evenness, evenness_of, kinds_of_any_size, power_law, shares, untorn
from coterie.errors import InputError


def blobs(sizes, seed=0, spread=0.02, away=0.0):
    """Rows of kinds of these sizes, all of them `away` from the origin along an axis of their own."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(len(sizes), 12)
    rows_ND = torch.cat([centre + spread * torch.randn(n, 12, generator=generator) for centre, n in zip(centres, sizes, strict=True)])
    rows_ND[:, 11] += away
    return rows_ND


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(30, 30, 30), (90, 60, 30), (200, 60, 30, 15), (58, 12)])
def test_it_is_the_entropy_of_the_sizes_that_are_there(sizes, seed):
    wanted = math.exp(-sum(n / sum(sizes) * math.log(n / sum(sizes)) for n in sizes)) / len(sizes)
    assert evenness(blobs(sizes, seed), len(sizes), rng(seed)) == pytest.approx(wanted, abs=1e-9)


def test_shares_are_those_of_the_kinds_and_the_largest_is_first():
    found_K = shares(blobs((20, 120, 60)), 3, rng())
    torch.testing.assert_close(found_K, torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64))


def test_a_power_law_is_found_again_and_even_shares_are_one():
    law_K = torch.arange(1, 9, dtype=torch.float64) ** -1.3
    law_K /= law_K.sum()
    torch.testing.assert_close(power_law(law_K.flip(0)), law_K, atol=1e-3, rtol=0)
    even_K = torch.full((5,), 0.2, dtype=torch.float64)
    torch.testing.assert_close(power_law(even_K), even_K)


def test_even_kinds_are_even_and_others_are_not():
    assert evenness(blobs((40,) * 5), 5, rng()) >= EVEN > evenness(blobs((80, 40, 40, 40, 20)), 5, rng())


def test_order_length_and_turning_change_nothing():
    z_ND = blobs((80, 40, 20))
    turn = torch.linalg.qr(torch.randn(12, 12, generator=rng(3), dtype=torch.float64))[0].float()
    first = evenness(z_ND, 3, rng())
    for other in (z_ND.flip(0), z_ND * 7, z_ND @ turn, z_ND.double()):
        assert evenness(other, 3, rng()) == pytest.approx(first, abs=1e-9)


def test_many_rows_are_drawn_from():
    assert evenness(blobs((4000, 2000, 1000)), 3, rng()) == pytest.approx(0.8622, abs=0.02)


def test_too_few_rows_say_nothing():
    assert evenness(blobs((10, 2)), 12 // ROWS_PER_CLUSTER + 1, rng()) == evenness(blobs((10, 2)), 1, rng()) == 1.0


@pytest.mark.parametrize("of", [evenness, kinds_of_any_size])
def test_rows_that_are_not_finite(of):
    with pytest.raises(InputError):
        of(torch.full((30, 4), math.nan), 2, rng())


def test_evenness_is_the_exponential_of_the_entropy():
    assert evenness_of(torch.arange(20) % 5, 5) == pytest.approx(1) and evenness_of(torch.zeros(20, dtype=torch.int64), 4) == 0.25
    some = [0.5, 0.3, 0.2]
    found = evenness_of(torch.arange(3).repeat_interleave(torch.tensor([5, 3, 2])), 3)
    assert found == pytest.approx(math.exp(-sum(x * math.log(x) for x in some)) / 3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(30, 30, 30), (90, 60, 30), (200, 60, 30, 15), (58, 12), (58, 2)])
def test_kinds_are_found_whatever_their_size(sizes, seed):
    labels_N = kinds_of_any_size(blobs(sizes, seed), len(sizes), rng(seed))
    assert all(len(part.unique()) == 1 for part in labels_N.split(sizes)) and len(labels_N.unique()) == len(sizes)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(58, 2), (40, 20), (30, 30)])
def test_wide_kinds_are_told_apart_too(sizes, seed):
    found_K = kinds_of_any_size(blobs(sizes, seed, spread=0.12, away=1), 2, rng(seed)).bincount(minlength=2)
    assert abs(int(found_K.max()) - sizes[0]) <= 2


def test_order_length_and_turning_change_no_kind():
    turn = torch.linalg.qr(torch.randn(12, 12, generator=rng(3), dtype=torch.float64))[0].float()
    z_ND = blobs((80, 40, 20))
    for other in (z_ND.flip(0), z_ND * 7, z_ND @ turn, z_ND.double()):
        assert sorted(kinds_of_any_size(other, 3, rng()).bincount().tolist()) == [20, 40, 80]


def test_of_many_rows_some_are_looked_at_and_the_others_follow():
    labels_N = kinds_of_any_size(blobs((4000, 2000, 1000)), 3, rng())
    assert sorted(labels_N.bincount().tolist()) == [1000, 2000, 4000]
    assert all(len(part.unique()) == 1 for part in labels_N.split([4000, 2000, 1000]))


def test_what_is_torn_is_mended_and_nothing_else():
    z_ND, right_N = blobs((58, 2), spread=0.1, away=1), torch.tensor([0] * 58 + [1] * 2)
    assert evenness_of(untorn(z_ND, torch.arange(60) % 2, 2, rng()), 2) == evenness_of(right_N, 2)
    assert untorn(z_ND, right_N, 2, rng()) is right_N, "as good already"
    even_ND, badly_N = blobs((30, 30)), torch.arange(60) % 2
    assert untorn(even_ND, badly_N, 2, rng()) is badly_N, "kinds of one size are not what this mends"
    assert untorn(z_ND, badly_N, 11, rng()) is badly_N and untorn(z_ND, badly_N, 1, rng()) is badly_N, "sizes say nothing"


@pytest.mark.parametrize("seed", [1, 2])
def test_an_odd_row_in_a_cloud_is_no_kind(seed):
    z_ND, labels_N = torch.randn(240, 48, generator=rng(seed)) + 2, torch.arange(240) % 2
    assert kinds_of_any_size(z_ND, 2, rng()).bincount().min() == 1, "although it would be nearer to itself than clusters are"
    assert untorn(z_ND, labels_N, 2, rng()) is labels_N


def test_rows_that_are_all_alike_are_one_kind_and_no_error():
    labels_N = torch.arange(30) % 2
    assert kinds_of_any_size(torch.ones(30, 4), 2, rng()).shape == (30,) and untorn(torch.ones(30, 4), labels_N, 2, rng()) is labels_N
