"""Merges against naive loops, splits of planted groups, and nothing that depends on how clusters are numbered."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coterie.clustering import hierarchy
from coterie.clustering.hierarchy import Division, affinity, apart, centred_sums, divided, first_divisions, groups, merges, parted


def rng():
    return torch.Generator().manual_seed(0)


def drawn(k, n=90, neighbours=4, seed=0, d=6):
    """Probabilities, neighbours and features without any order in them, float64."""
    of = torch.Generator().manual_seed(seed)
    p_NK = (2 * torch.randn(n, k, generator=of, dtype=torch.float64)).softmax(1)
    near_NK = torch.stack([torch.randperm(n - 1, generator=of)[:neighbours] for _ in range(n)])
    near_NK += near_NK >= torch.arange(n)[:, None]
    return p_NK, near_NK, torch.randn(n, d, generator=of, dtype=torch.float64)


def nested(supers=2, kinds=2, each=40, d=32, far=6.0, near=2.0, spread=0.15, seed=0):
    """Unit rows of kinds within kinds, the number of the super-kind and of the kind."""
    of = torch.Generator().manual_seed(seed)
    tops_SD = far * F.normalize(torch.randn(supers, d, generator=of))
    kinds_KD = tops_SD.repeat_interleave(kinds, 0) + near * F.normalize(torch.randn(supers * kinds, d, generator=of))
    kind_N = torch.arange(supers * kinds).repeat(each)
    rows_ND = kinds_KD[kind_N] + spread * torch.randn(len(kind_N), d, generator=of)
    return F.normalize(rows_ND), kind_N // kinds, kind_N


def test_affinity_is_the_mean_over_neighbours():
    p_NK, near_NK, _ = drawn(5)
    wanted = np.zeros((5, 5))
    for i, some in enumerate(near_NK.tolist()):
        for j in some:
            for c in range(5):
                for e in range(5):
                    wanted[c, e] += float(p_NK[i, c] * p_NK[j, e] + p_NK[i, e] * p_NK[j, c]) / 2
    found = affinity(p_NK, near_NK)
    np.testing.assert_allclose(found.numpy(), wanted / near_NK.numel(), rtol=1e-12)
    assert float(found.sum()) == pytest.approx(1)


def naive_merges(shared_KK, sums_KD, separate=()):
    groups = {c: [c] for c in range(len(shared_KK))}
    steps = []

    def whole(a, b):
        return sum(float(shared_KK[c, e]) for c in groups[a] for e in groups[b])

    def compared(a, b):
        overlap = whole(a, b) / math.sqrt(whole(a, a) * whole(b, b))
        x, y = (sum(sums_KD[c] for c in groups[g]) for g in (a, b))
        alike = float(x @ y / (x.norm() * y.norm()))
        return (2 + overlap if overlap >= hierarchy.TOUCH else alike), overlap, alike

    while len(groups) > 1:
        pairs = [(a, b) for a in groups for b in groups if a < b]
        pairs = [(a, b) for a, b in pairs if not any((c, e) in separate or (e, c) in separate for c in groups[a] for e in groups[b])]
        if not pairs:
            break
        a, b = max(pairs, key=lambda pair: compared(*pair)[0])
        steps.append((a, b, *compared(a, b)[1:]))
        groups[a] += groups.pop(b)
    return steps


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sharp", [False, True])
@pytest.mark.parametrize("separate", [(), ((0, 3), (2, 1))])
def test_merges_are_those_of_a_naive_loop(seed, sharp, separate):
    p_NK, near_NK, rows_ND = drawn(9, seed=seed)
    labels_N = p_NK.argmax(1)
    if sharp:  # hardly anything touches: likeness decides
        p_NK = F.one_hot(labels_N, 9).double()
        near_NK = torch.stack([(labels_N == label).nonzero().squeeze(1)[:3] for label in labels_N])
    sums_KD, sizes_K = centred_sums(rows_ND, labels_N, 9)
    assert sizes_K.tolist() == labels_N.bincount(minlength=9).tolist()
    shared_KK = affinity(p_NK, near_NK)
    wanted, found = naive_merges(shared_KK, sums_KD, separate), merges(shared_KK, sums_KD, separate)
    assert [(one.a, one.b) for one in found] == [(a, b) for a, b, *_ in wanted]
    np.testing.assert_allclose([one[2:] for one in found], [one[2:] for one in wanted], rtol=1e-9, atol=1e-12)
    assert len(found) == 8 if not separate else len(found) < 8


@pytest.mark.parametrize("seed", range(3))
def test_merges_do_not_depend_on_numbers(seed):
    p_NK, near_NK, rows_ND = drawn(8, seed=seed)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed + 50))

    def cuts(p_NK):
        """The partition of the clusters, by their first numbers, after each merge."""
        labels_N = p_NK.argmax(1)
        steps = merges(affinity(p_NK, near_NK), centred_sums(rows_ND, labels_N, 8)[0])
        return [groups(8, [(one.a, one.b) for one in steps[:i]]) for i in range(8)]

    for plain, other in zip(cuts(p_NK), cuts(p_NK[:, order])):
        back = [other[order.tolist().index(c)] for c in range(8)]
        assert [[a == b for b in back] for a in back] == [[a == b for b in plain] for a in plain]


def test_a_cluster_without_weight_goes_first():
    shared_KK = torch.tensor([[0.5, 0, 0.01], [0, 0, 0], [0.01, 0, 0.48]], dtype=torch.float64)
    assert merges(shared_KK, torch.eye(3, dtype=torch.float64))[0][:2] == (0, 1)
    assert merges(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)) == []


def test_groups_are_joined_through_each_other():
    assert groups(6, [(3, 4), (0, 5), (4, 5)]) == [0, 1, 2, 0, 0, 0]
    assert groups(5, [(4, 2, 3)]) == [0, 1, 2, 2, 2] and groups(3, []) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_four_kinds_in_two_merge_as_they_were_planted(seed):
    rows_ND, super_N, kind_N = nested(seed=seed)
    p_NK = F.one_hot(kind_N, 4).double()
    near_NK = torch.cdist(rows_ND, rows_ND).topk(6, largest=False).indices[:, 1:]
    found = merges(affinity(p_NK, near_NK), centred_sums(rows_ND, kind_N, 4)[0])
    assert {(one.a, one.b) for one in found[:2]} == {(0, 1), (2, 3)}
    assert all(one.overlap == 0 for one in found), "they do not touch"


@pytest.mark.parametrize("seed", range(3))
def test_two_kinds_of_two_split_as_they_were_planted(seed):
    rows_ND, super_N, kind_N = nested(seed=seed)
    found = first_divisions(rows_ND, super_N, 2, rng)
    assert {one.cluster for one in found} == {0, 1} and all(one.sizes == (40, 40) and one.apart > 0.8 for one in found)
    leaves, done = divided(rows_ND, super_N, [0, 1], 2, rng, found)
    assert len(done) == 2 and [leaf.cluster for leaf in leaves] == [0, 0, 1, 1]
    assert all(len(kind_N[leaf.rows].unique()) == 1 for leaf in leaves) and sum(len(leaf.rows) for leaf in leaves) == len(rows_ND)
    again, _ = divided(rows_ND, super_N, [0, 1], 2, rng)
    assert all(torch.equal(one.rows, other.rows) for one, other in zip(leaves, again)), "what is known beforehand changes nothing"


def test_divisions_are_nested_and_end_at_single_rows():
    rows_ND, super_N, _ = nested(each=4)
    before = [{tuple(leaf.rows.tolist()) for leaf in divided(rows_ND, super_N, [0, 1], more, rng)[0]} for more in range(16)]
    for few, many in zip(before, before[1:]):
        assert len(many - few) in (0, 2) and len(few - many) in (0, 1)
    leaves, done = divided(rows_ND, super_N, [0, 1], 99, rng)
    assert len(done) == 14 and all(len(leaf.rows) == 1 for leaf in leaves)
    same_ND = torch.ones(6, 3) / math.sqrt(3)
    assert first_divisions(same_ND, torch.zeros(6, dtype=torch.int64), 2, rng) == []
    assert divided(same_ND, torch.zeros(6, dtype=torch.int64), [0], 3, rng)[1] == []


def test_gain_is_the_spread_that_lies_between():
    rows_ND, super_N, _ = nested(each=7)
    mean_D, total = rows_ND.double().mean(0), 0.0
    for row in rows_ND.double():
        total += float((row - mean_D).square().sum())
    assert hierarchy.spread(rows_ND) == pytest.approx(total, rel=1e-5)
    for one in first_divisions(rows_ND, super_N, 2, rng):
        mine_MD = rows_ND[super_N == one.cluster].double()
        part_M = parted(mine_MD.float(), 2, rng())
        inside = sum(float((mine_MD[part_M == part] - mine_MD[part_M == part].mean(0)).square().sum()) for part in (0, 1))
        whole = float((mine_MD - mine_MD.mean(0)).square().sum())
        assert one.gain == pytest.approx((whole - inside) / total, rel=1e-5)


def test_what_is_known_is_not_looked_for_again():
    rows_ND, super_N, _ = nested()
    told = {0: Division(0, (41, 39), 0.5, 0.25), 1: None}
    assert first_divisions(rows_ND, super_N, 2, rng, told) == [told[0]]


@pytest.mark.parametrize("m", [40, 1000])
@pytest.mark.parametrize("d", [8, 128])
def test_a_cloud_has_no_gap_and_two_kinds_have_one(m, d):
    clouds, pairs = [], []
    for seed in range(5):
        of = torch.Generator().manual_seed(seed)
        cloud_MD = torch.randn(m, d, generator=of)
        clouds.append(apart(cloud_MD, rng()))
        cloud_MD[: m // 2] += 12 * F.normalize(torch.randn(d, generator=of), dim=0)
        pairs.append(apart(cloud_MD, rng()))
    assert np.mean(clouds) < 0.15 and min(pairs) > 0.5, (clouds, pairs)


def test_few_rows_have_no_gap():
    assert apart(torch.eye(7), rng()) == 0 and apart(torch.ones(20, 4), rng()) == 0


def test_the_largest_part_comes_first_in_many_rows_too(monkeypatch):
    monkeypatch.setattr(hierarchy, "MEMBERS", 50)
    of = torch.Generator().manual_seed(1)
    kind_M = (torch.arange(300) % 10 > 6).long() + (torch.arange(300) % 10 > 8).long()
    rows_MD = 9 * torch.eye(3, 8)[kind_M] + 0.1 * torch.randn(300, 8, generator=of)
    assert torch.equal(parted(rows_MD, 3, rng()), kind_M)
    assert parted(torch.ones(5, 2), 3, rng()).unique().tolist() == [0]
