"""Per-cluster numbers against loops, and planted pairs: apart, touching, one cloud cut in two."""

import pytest
import torch

from coterie.clustering.neighbours import nearest
from coterie.learning.borders import mixed_pairs, qualities


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_qualities_are_those_of_a_loop():
    z_ND = torch.randn(30, 5, generator=rng(), dtype=torch.float64)
    p_NK = torch.rand(30, 4, generator=rng(1), dtype=torch.float64)
    p_NK[:, 3] = 0  # a cluster without images
    p_NK /= p_NK.sum(1, keepdim=True)
    near_NK = torch.stack([torch.randperm(30, generator=rng(i))[:4] for i in range(30)])
    found = qualities(z_ND, p_NK, near_NK)
    labels = p_NK.argmax(1).tolist()
    assert [row["cluster"] for row in found] == [0, 1, 2]
    for row in found:
        mine = [i for i in range(30) if labels[i] == row["cluster"]]
        rows = [z_ND[i] / z_ND[i].norm() for i in mine]
        middle = sum(rows) / len(rows)
        assert row["cohesion"] == pytest.approx(sum(float(x @ middle / middle.norm()) for x in rows) / len(rows), abs=6e-4)
        same = [labels[j] == row["cluster"] for i in mine for j in near_NK[i].tolist()]
        assert row["neighbours"] == pytest.approx(sum(same) / len(same), abs=6e-4)
        leads = [sorted(p_NK[i].tolist())[-1] - sorted(p_NK[i].tolist())[-2] for i in mine]
        assert row["margin"] == pytest.approx(sum(leads) / len(leads), abs=6e-4)


def test_a_cloud_cut_in_two_is_to_be_merged_and_kinds_apart_are_not_named():
    kinds_N = torch.arange(300) % 3
    z_ND = 8 * torch.eye(3, 6)[kinds_N] + torch.randn(300, 6, generator=rng())
    near_NK = nearest(z_ND - z_ND.mean(0), 10).index_NK
    assert mixed_pairs(kinds_N, near_NK, 3) == []
    cut_N = kinds_N.clone()
    cut_N[(kinds_N == 1) & (torch.arange(300) % 2 == 0)] = 3  # by chance: no border at all
    (pair,) = mixed_pairs(cut_N, near_NK, 4)
    assert pair["pair"] == [1, 3] and pair["suggestion"] == "merge" and pair["mixing"] > 0.9 and pair["crossing"] > 400


def test_mixing_is_that_of_a_loop_whatever_clusters_are_called():
    labels_N = torch.randint(3, (60,), generator=rng())
    near_NK = torch.stack([torch.randperm(60, generator=rng(i))[:5] for i in range(60)])
    found = {tuple(row["pair"]): row["mixing"] for row in mixed_pairs(labels_N, near_NK, 3)}
    for a, b in ((0, 1), (0, 2), (1, 2)):
        ends = [(int(labels_N[i]), int(labels_N[j])) for i in range(60) for j in near_NK[i]]
        inside = [x != y for x, y in ends if {x, y} <= {a, b}]
        n_a, n_b = int((labels_N == a).sum()), int((labels_N == b).sum())
        want = min(1.0, sum(inside) / len(inside) / (2 * n_a * n_b / (n_a + n_b) ** 2))
        assert found[a, b] == pytest.approx(want, abs=6e-4)
    renamed = {tuple(sorted(2 - c for c in row["pair"])): row["mixing"] for row in mixed_pairs(2 - labels_N, near_NK, 3)}
    assert renamed == found


def test_tiny_clusters_are_not_judged_and_pairs_are_few():
    labels_N = torch.arange(60) // 15
    labels_N[-4:] = 4
    near_NK = torch.stack([torch.randperm(60, generator=rng(i))[:5] for i in range(60)])
    assert all(4 not in row["pair"] for row in mixed_pairs(labels_N, near_NK, 5))
    assert len(mixed_pairs(torch.arange(300) % 25, torch.randint(300, (300, 9), generator=rng()), 25)) <= 10
