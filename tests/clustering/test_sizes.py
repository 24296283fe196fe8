"""How even kinds are, without labels."""

import math

import pytest
import torch

from coterie.clustering.sizes import EVEN, ROWS_PER_CLUSTER, evenness
from coterie.errors import InputError


def blobs(sizes, seed=0, spread=0.02):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(len(sizes), 12)
    return torch.cat([centre + spread * torch.randn(n, 12, generator=generator) for centre, n in zip(centres, sizes, strict=True)])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(30, 30, 30), (90, 60, 30), (200, 60, 30, 15), (58, 12)])
def test_it_is_the_entropy_of_the_sizes_that_are_there(sizes, seed):
    wanted = math.exp(-sum(n / sum(sizes) * math.log(n / sum(sizes)) for n in sizes)) / len(sizes)
    assert evenness(blobs(sizes, seed), len(sizes), rng(seed)) == pytest.approx(wanted, abs=1e-9)


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


def test_rows_that_are_not_finite():
    with pytest.raises(InputError):
        evenness(torch.full((30, 4), math.nan), 2, rng())
