"""Must-links and cannot-links, against loops over all pairs."""

import itertools

import pytest
import torch

from coterie.learning.constraints import closed, copies, groups, kept


def by_hand(n, must):
    """Groups by walking from each image along its must-links."""
    found = []
    for start in range(n):
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            for a, b in must:
                for other in (b,) if a == here else (a,) if b == here else ():
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
        found.append(min(seen))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_chains_of_links(seed):
    rng = torch.Generator().manual_seed(seed)
    must_P2 = torch.randint(25, (seed, 2), generator=rng)
    assert groups(25, must_P2).tolist() == by_hand(25, must_P2.tolist())


def test_a_long_chain_in_any_order_is_one_group():
    chain_P2 = torch.stack([torch.arange(99), torch.arange(1, 100)], 1)
    for order in (torch.arange(99), torch.arange(99).flip(0), torch.randperm(99, generator=torch.Generator().manual_seed(0))):
        assert (groups(100, chain_P2[order].flip(1)) == 0).all()


def test_what_is_said_of_one_is_said_of_its_group():
    group_N = torch.tensor([0, 0, 2, 2, 2, 5, 6])
    anchors = closed(torch.tensor([-1, 3, 1, -1, 1, -1, 0]), group_N)
    assert anchors.labels_N.tolist() == [3, 3, 1, 1, 1, -1, 0] and anchors.contradictions == []


def test_a_contradiction_is_said_and_believed_of_nobody():
    anchors = closed(torch.tensor([0, 1, -1, 2]), torch.tensor([0, 0, 0, 3]))
    assert anchors.labels_N.tolist() == [-1, -1, -1, 2] and anchors.contradictions == [[0, 1, 2]]


def test_copies_are_the_very_same_rows():
    rows_ND = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows_ND[4], rows_ND[5], rows_ND[2] = rows_ND[1], rows_ND[1], rows_ND[1] + 1e-6
    assert copies(rows_ND).tolist() == [[1, 4], [1, 5]]
    assert copies(rows_ND[:3]).shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_kept_counts_pairs(seed):
    rng = torch.Generator().manual_seed(seed)
    anchor_N, labels_N = (torch.randint(-1, 4, (seed,), generator=rng) for _ in range(2))
    must = must_kept = cannot = cannot_kept = 0
    for i, j in itertools.combinations(range(seed), 2):
        if anchor_N[i] < 0 or anchor_N[j] < 0:
            continue
        together = bool(labels_N[i] == labels_N[j]) and labels_N[i] >= 0
        if anchor_N[i] == anchor_N[j]:
            must, must_kept = must + 1, must_kept + together
        else:
            cannot, cannot_kept = cannot + 1, cannot_kept + (not together)
    found = kept(anchor_N, labels_N)
    assert found == (must, must_kept, cannot, cannot_kept)
    assert found.share == pytest.approx((must_kept + cannot_kept) / (must + cannot) if must + cannot else 1)
