import math

import pytest
import torch

from coterie.learning.diagnose import agreement, continuity, discord, neighbour_losses, vital_signs, worries


def one_hot(labels: list[int], k: int, sure: float = 0.97) -> torch.Tensor:
    p = torch.full((len(labels), k), (1 - sure) / max(1, k - 1))
    p[torch.arange(len(labels)), torch.tensor(labels)] = sure
    return p


def test_vital_signs():
    p = one_hot([0, 0, 1, 3], 4)
    p[2] = torch.tensor([0.1, 0.6, 0.2, 0.1])
    signs = vital_signs(p, torch.tensor([0, 1, 1, 3]))
    assert signs["sizes"] == [2, 1, 0, 1] and signs["empty"] == 1
    assert signs["entropy"] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4), abs=1e-5)
    assert signs["confident"] == 0.75 and signs["changed"] == 0.25
    assert "changed" not in vital_signs(p)


# ---- agreement with the neighbours


def naive_agreement(labels: list[int], neighbours: list[list[int]]) -> float:
    n = len(labels)
    pairs = [(i, j) for i, row in enumerate(neighbours) for j in row]
    observed = sum(labels[i] == labels[j] for i, j in pairs) / len(pairs)
    expected = sum((labels.count(c) / n) ** 2 for c in set(labels))
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


def test_agreement_equals_naive_loops():
    rng = torch.Generator().manual_seed(0)
    for k in (2, 3, 10):
        labels, neighbours = torch.randint(k, (60,), generator=rng), torch.randint(60, (60, 7), generator=rng)
        assert agreement(labels, neighbours) == pytest.approx(naive_agreement(labels.tolist(), neighbours.tolist()), abs=1e-12)


def test_agreement_is_one_for_clusters_of_neighbours_and_about_zero_by_chance():
    n = 4000
    labels = torch.arange(n) % 4
    mates = torch.stack([(torch.arange(n) + 4 * (1 + j)) % n for j in range(5)], 1)
    assert agreement(labels, mates) == 1.0
    rng = torch.Generator().manual_seed(0)
    assert abs(agreement(torch.randint(4, (n,), generator=rng), torch.randint(n, (n, 5), generator=rng))) < 0.03
    uneven = (torch.rand(n, generator=rng) > 0.9).long()
    assert abs(agreement(uneven, torch.randint(n, (n, 5), generator=rng))) < 0.03, "also for uneven sizes"


def test_a_collapse_scores_nothing():
    """All neighbours agree in it, and it is worth no more than chance."""
    neighbours = torch.randint(50, (50, 5), generator=torch.Generator().manual_seed(0))
    assert agreement(torch.zeros(50, dtype=torch.int64), neighbours) == 0.0
    assert agreement(torch.full((50,), 3), neighbours) == 0.0
    nearly = torch.zeros(50, dtype=torch.int64)
    nearly[0] = 1
    assert agreement(nearly, neighbours) < 0.5


def test_agreement_does_not_care_for_the_names_of_clusters():
    rng = torch.Generator().manual_seed(0)
    labels, neighbours = torch.randint(5, (60,), generator=rng), torch.randint(60, (60, 7), generator=rng)
    assert agreement(torch.tensor([9, 2, 7, 0, 4])[labels], neighbours) == pytest.approx(agreement(labels, neighbours), abs=1e-12)


# ---- when to worry


def signs(sizes: list[int], confident: float = 0.9) -> dict:
    return {"sizes": sizes, "empty": sizes.count(0), "confident": confident}


@pytest.mark.parametrize("sizes", [[10] * 10, [27, 7, 10, 10], [90, 10], [49, 17, 17, 17], [100], [60, 20, 20]])
def test_no_worry(sizes):
    assert worries(signs(sizes)) == []


@pytest.mark.parametrize("sizes", [[51, 10, 10, 10, 9, 10], [100, 0], [70, 15, 15], [97, 1, 1, 1, 0, 0, 0, 0, 0, 0]])
def test_a_collapse_is_told_with_what_to_try(sizes):
    (first, *_) = worries(signs(sizes))
    assert first.startswith("collapse") and f"{max(sizes) / sum(sizes):.0%}" in first and "try" in first


@pytest.mark.parametrize("sizes, told", [([10] * 7 + [0] * 3, True), ([10] * 9 + [0], False), ([30, 30, 0], True), ([25] * 4 + [0], True)])
def test_empty_clusters_are_told(sizes, told):
    found = [text for text in worries(signs(sizes)) if "empty" in text]
    assert bool(found) == told and all(f"{sizes.count(0)} of {len(sizes)}" in text for text in found)


def test_a_guess_is_told():
    assert ["12% of the images" in text for text in worries(signs([10, 10], confident=0.12))] == [True]
    assert worries(signs([10, 10], confident=0.3)) == [] and worries({"sizes": [5, 5], "empty": 0}) == []


def test_from_probabilities_to_worries():
    assert worries(vital_signs(one_hot([0, 1, 2, 3] * 10, 4))) == []
    assert len(worries(vital_signs(one_hot([2] * 40, 4)))) == 2, "collapsed, and clusters are empty"
    assert len(worries(vital_signs(torch.full((40, 4), 0.25)))) == 3


# ---- what chooses among heads


def test_discord_with_known_sizes_is_least_at_these():
    kinds = torch.tensor([0] * 6 + [1] * 3 + [2] * 2)
    neighbours = torch.tensor([[(i + 1) % 6] for i in range(6)] + [[7], [8], [6], [10], [9]])
    even, shares = torch.full((3,), 1 / 3), torch.tensor([6.0, 3, 2]) / 11
    for some in (shares, shares.flip(0)):
        assert discord(kinds, neighbours, 3, some) == pytest.approx(0, abs=1e-6)
    assert discord(kinds, neighbours, 3, even) == pytest.approx(discord(kinds, neighbours, 3), abs=1e-6)
    assert discord(kinds, neighbours, 3) > 0.05


def test_discord_with_very_uneven_sizes_stays_between_0_and_1():
    kinds = torch.arange(40) % 4
    neighbours = torch.arange(40).view(40, 1)  # an image and itself: they agree always
    assert discord(kinds, neighbours, 4, torch.tensor([0.97, 0.01, 0.01, 0.01])) == 1
    assert 0 < discord(kinds, neighbours, 4, torch.tensor([0.4, 0.2, 0.2, 0.2])) < 0.1


def test_discord_is_agreement_and_evenness_together():
    kinds = torch.arange(60) % 3
    neighbours = torch.stack([(i + 3 * torch.arange(1, 6)) % 60 for i in range(60)])  # of the same kind, all of them
    assert discord(kinds, neighbours, 3) == pytest.approx(0, abs=1e-6)
    merged = torch.where(kinds == 2, 1, kinds)
    assert agreement(merged, neighbours) == 1 and discord(merged, neighbours, 3) > 0.3
    entropy = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert discord(merged, neighbours, 3) == pytest.approx(1 - entropy / math.log(3), abs=1e-6)
    mixed = torch.randint(3, (60,), generator=torch.Generator().manual_seed(0))
    assert discord(mixed, neighbours, 3) > 0.7
    assert discord(torch.zeros(60, dtype=torch.int64), neighbours, 1) == 1.0


def heads_and_neighbours(h: int = 3, n: int = 30, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    p_HNK = (3 * torch.randn(h, n, k, generator=rng, dtype=torch.float64)).softmax(-1)
    return p_HNK, torch.stack([torch.randperm(n, generator=rng)[:7] for _ in range(n)])


def test_neighbour_losses_equal_naive_loops():
    p_HNK, neighbours_NK = heads_and_neighbours()
    for prior in (None, torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)):
        found = neighbour_losses(p_HNK, neighbours_NK, prior, chunk=8)
        for head, p_NK in enumerate(p_HNK.tolist()):
            pairs = [(i, j) for i, row in enumerate(neighbours_NK.tolist()) for j in [i, *row[:5]]]
            consistency = -sum(math.log(sum(a * b for a, b in zip(p_NK[i], p_NK[j]))) for i, j in pairs) / len(pairs)
            means = [sum(p[k] for p in p_NK) / len(p_NK) for k in range(4)]
            shares = [1.0] * 4 if prior is None else prior.tolist()
            entropy = -sum(m * math.log(m / share) for m, share in zip(means, shares))
            assert float(found[head]) == pytest.approx(consistency - entropy, abs=1e-9)


def test_neighbour_losses_do_not_know_the_order_of_clusters_or_images():
    p_HNK, neighbours_NK = heads_and_neighbours()
    expected = neighbour_losses(p_HNK, neighbours_NK)
    assert torch.allclose(neighbour_losses(p_HNK[:, :, [2, 0, 3, 1]], neighbours_NK), expected, atol=1e-9)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(2))
    place = order.argsort()
    assert torch.allclose(neighbour_losses(p_HNK[:, order], place[neighbours_NK[order]]), expected, atol=1e-9)
    assert not torch.allclose(neighbour_losses(p_HNK[:, order], neighbours_NK), expected, atol=1e-3)


# ---- two clusterings of the same images


def naive_continuity(now: list[int], then: list[int]) -> dict[str, float]:
    pairs = [(a, b) for a, b in zip(then, now) if a >= 0 and b >= 0]
    n, olds, news = len(pairs), [a for a, _ in pairs], [b for _, b in pairs]

    def entropy(labels):
        return -sum(labels.count(c) / n * math.log(labels.count(c) / n) for c in set(labels))

    mutual = sum(pairs.count(p) / n * math.log(n * pairs.count(p) / (olds.count(p[0]) * news.count(p[1]))) for p in set(pairs))
    stayed = sum(max(pairs.count((a, b)) for b in set(news)) for a in set(olds))
    return {"nmi": mutual / math.sqrt(entropy(olds) * entropy(news)), "changed": 1 - stayed / n}


def test_continuity_equals_naive_loops_and_scikit_learn():
    from sklearn.metrics import normalized_mutual_info_score

    rng = torch.Generator().manual_seed(0)
    for k, other, kept in ((3, 3, 0.8), (7, 4, 0.5), (20, 30, 0.0)):
        then = torch.randint(k, (150,), generator=rng)
        now = torch.where(torch.rand(150, generator=rng) < kept, then, torch.randint(other, (150,), generator=rng))
        found = continuity(now, then)
        assert found == pytest.approx(naive_continuity(now.tolist(), then.tolist()), abs=1e-9)
        assert found["nmi"] == pytest.approx(normalized_mutual_info_score(then, now, average_method="geometric"), abs=1e-9)
        now[::7], then[::11] = -1, -1
        assert continuity(now, then) == pytest.approx(naive_continuity(now.tolist(), then.tolist()), abs=1e-9)


def test_continuity_knows_no_names_of_clusters():
    then = torch.randint(5, (80,), generator=torch.Generator().manual_seed(0))
    assert continuity(torch.tensor([9, 2, 4, 0, 7])[then], then) == {"nmi": pytest.approx(1.0, abs=1e-12), "changed": 0.0}
    merged = continuity(then.clamp(max=3), then)
    assert merged["changed"] == 0.0 and merged["nmi"] < 1, "who joins another cluster whole stays with its own"


def test_continuity_at_the_edge():
    one, many = torch.zeros(6, dtype=torch.int64), torch.arange(6)
    assert continuity(one, one) == {"nmi": 1.0, "changed": 0.0}
    assert continuity(many, one)["nmi"] == continuity(one, many)["nmi"] == 0.0
    assert continuity(one, torch.full((6,), -1)) == {}
