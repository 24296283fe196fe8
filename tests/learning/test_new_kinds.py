"""Kinds among rows that fit nowhere: planted ones are found, strays are none, and nothing depends on the order."""

import pytest
import torch
import torch.nn.functional as F

from coterie.learning.kinds import FEWEST, NEIGHBOURS, _neighbours, kinds


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def cloud(centre, n, spread=0.03, seed=0):
    """n unit rows around the centre-th of 40 directions that are fixed."""
    centres = F.normalize(torch.randn(40, 24, generator=rng(99)))
    return F.normalize(centres[centre] + spread * torch.randn(n, 24, generator=rng(1000 * centre + seed)))


def known(k=6, n=40):
    return torch.cat([cloud(c, n) for c in range(k)])


def found(known_ND, strange_MD, seed=0):
    return [kind.rows.tolist() for kind in kinds(known_ND, strange_MD, rng(seed))]


def strays(n, seed=5):
    """Far rows of the known kinds."""
    return torch.cat([cloud(c % 6, 1, 0.2, seed + c) for c in range(n)])


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_planted_kinds_are_found_among_strays(number):
    sizes = [10 + 7 * i for i in range(number)]
    rows = torch.cat([strays(8), *(cloud(10 + i, n) for i, n in enumerate(sizes))])
    start = [8 + sum(sizes[:i]) for i in range(number)]
    wanted = [list(range(first, first + n)) for first, n in zip(start, sizes, strict=True)]
    assert found(known(), rows) == wanted[::-1]


def test_strays_and_few_are_none():
    assert found(known(), strays(60)) == []
    assert found(known(), cloud(10, FEWEST - 1)) == [] and len(found(known(), cloud(10, FEWEST))) == 1
    assert found(known(), torch.zeros(0, 24)) == []


def test_nine_of_a_kind_beside_a_large_one_are_left_out():
    assert found(known(), torch.cat([cloud(10, 30), cloud(11, FEWEST - 1)])) == [list(range(30))]


def test_own_is_the_share_of_neighbours_as_counted_one_by_one():
    known_ND, rows = known(), torch.cat([cloud(10, 12, 0.2), strays(9)])
    (kind,) = kinds(known_ND, rows, rng())
    seen = F.normalize(torch.cat([known_ND, rows]) - known_ND.mean(0)).double()
    inside, shares = {len(known_ND) + i for i in kind.rows.tolist()}, []
    for i in sorted(inside):
        order = [j for j in (seen @ seen[i]).argsort(descending=True).tolist() if j != i][:NEIGHBOURS]
        shares.append(sum(j in inside for j in order) / NEIGHBOURS)
    assert kind.own == pytest.approx(sum(shares) / len(shares))


def test_order_and_length_do_not_matter():
    rows = torch.cat([cloud(10, 20), cloud(11, 14), strays(6)])
    order = torch.randperm(40, generator=rng(3))
    again = kinds(known(), rows[order], rng())
    assert [sorted(order[kind.rows].tolist()) for kind in again] == found(known(), rows)


def test_rows_that_are_the_same_find_others_than_themselves():
    index = _neighbours(torch.ones(20, 3), 5)
    assert index.shape == (15, NEIGHBOURS) and not (index == torch.arange(5, 20)[:, None]).any()
    assert found(known(), cloud(10, 1).repeat(15, 1)) == [list(range(15))]
