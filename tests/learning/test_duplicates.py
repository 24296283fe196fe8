"""Near-duplicates: planted copies are found, others are not, as a comparison of all pairs says; and in time."""

import time

import torch
import torch.nn.functional as F

from coterie.learning.duplicates import ALIKE, BITS, COSINE, FLAT, near_duplicates, representatives


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 8, 9, generator=rng(seed))


def all_pairs(small: torch.Tensor, features: torch.Tensor) -> set[tuple[int, int]]:
    bits, z = (small[:, :, 1:] - small[:, :, :-1] > FLAT).flatten(1), features - features.mean(0)
    flat = small.flatten(1) - small.flatten(1).mean(1, keepdim=True)
    found = set()
    for i in range(len(small)):
        for j in range(i):
            cosine = z[i] @ z[j] / z[i].norm() / z[j].norm()
            if (bits[i] != bits[j]).sum() <= BITS and (flat[i] - flat[j]).abs().mean() <= ALIKE and cosine >= COSINE:
                found.add((j, i))
    return found


def joined(groups: list[list[int]]) -> set[frozenset[int]]:
    return {frozenset(group) for group in groups}


def test_planted_copies_are_found_and_nothing_else():
    small, z = pictures(60), torch.randn(60, 16, generator=rng(1))
    for copy, of in ((10, 3), (20, 3), (41, 40)):
        small[copy] = (small[of] * 0.98 + 0.05 + 0.001 * torch.randn(8, 9, generator=rng(copy))).clamp(0, 1)
        z[copy] = z[of] + 0.05 * torch.randn(16, generator=rng(copy))
    assert near_duplicates(small, z) == [[3, 10, 20], [40, 41]]
    z[41] = -z[40]  # the features disagree: another thing of the same light
    assert near_duplicates(small, z) == [[3, 10, 20]]


def test_as_all_pairs_say():
    base, z = pictures(12), torch.randn(12, 8, generator=rng(1))
    which = torch.randint(12, (80,), generator=rng(2))
    small = (base[which] + 0.01 * torch.randn(80, 8, 9, generator=rng(3))).clamp(0, 1)
    features = z[which] + 0.2 * torch.randn(80, 8, generator=rng(4))
    pairs = all_pairs(small.double(), features.double())
    groups = near_duplicates(small, features)
    assert pairs and {i for pair in pairs for i in pair} == {i for group in groups for i in group}
    assert all(any({a, b} <= group for group in joined(groups)) for a, b in pairs)


def test_one_stands_for_each_that_is_like_it_itself():
    """Of a chain of brighter and brighter discs the neighbours are alike, the ends are not."""
    chain = pictures(1) * torch.linspace(1, 0.7, 7)[:, None, None]
    other = pictures(3, seed=9)
    small = torch.cat([other[:1], chain, other[1:], other[:1].repeat(40, 1, 1)])
    z = F.normalize((small - small.mean((1, 2), keepdim=True)).flatten(1))
    assert near_duplicates(small, z)[1] == list(range(1, 8)), "a chain"
    of = representatives(small, z).tolist()
    pairs = all_pairs(small.double(), z.double())
    stand = sorted(set(of))
    assert 1 < len(set(of[1:8])) < 7 and of[0] == 0 and of[10:] == [0] * 40
    assert not any(pair in pairs for pair in zip(stand[:-1], stand[1:], strict=True))
    assert all(i == of[i] or (of[i], i) in pairs for i in range(10))


def test_nobody_stands_for_what_is_like_nothing():
    assert representatives(pictures(20), torch.randn(20, 8, generator=rng(1))).tolist() == list(range(20))
    assert len(representatives(pictures(0), torch.zeros(0, 8))) == 0


def test_order_does_not_matter():
    base, z = pictures(10), torch.randn(10, 8, generator=rng(1))
    which, order = torch.arange(30) % 10, torch.randperm(30, generator=rng(5))
    small, features = base[which], z[which]
    again = near_duplicates(small[order], features[order])
    assert joined(near_duplicates(small, features)) == {frozenset(order[group].tolist()) for group in again}


def test_flat_pictures_are_told_apart_by_features_and_none_or_one_is_no_obstacle():
    z = torch.randn(40, 32, generator=rng())
    assert near_duplicates(torch.full((40, 8, 9), 0.5), z) == []
    assert near_duplicates(pictures(1), z[:1]) == near_duplicates(pictures(0), z[:0]) == []


def test_ten_thousand_are_fast_even_when_all_share_a_hash():
    z = torch.randn(10_000, 64, generator=rng())
    for small in (pictures(10_000), torch.zeros(10_000, 8, 9)):
        begun = time.process_time()
        near_duplicates(small, z)
        assert time.process_time() - begun < 4  # 0.3 alone; a busy machine is slower, all pairs take a minute
