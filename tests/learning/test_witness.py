"""The witness on planted kinds, and how near its agreement is to the accuracy."""

from itertools import permutations

import pytest
import torch

from coterie.errors import InputError
from coterie.learning import witness as home
from coterie.learning.witness import CLUSTERS, renamed, witness


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kinds(n: int = 200, k: int = 4, width: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    kind_N = torch.arange(n) % k
    return 3 + 4 * torch.randn(k, width, generator=rng(seed))[kind_N] + torch.randn(n, width, generator=rng(seed + 1)), kind_N


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.4])
def test_agreement_is_the_accuracy(wrong):
    z_ND, kind_N = kinds()
    lost = int(wrong * len(kind_N))
    labels_N = kind_N.clone()
    labels_N[:lost] = (labels_N[:lost] + 1) % 4
    found = witness(z_ND, labels_N, 4, rng())
    assert found.agreed == pytest.approx(1 - wrong, abs=0.01) and 0 < found.agreed < 1
    assert torch.equal(found.labels_N == labels_N, torch.arange(200) >= lost)  # it names the very pictures


def test_names_of_clusters_do_not_matter():
    z_ND, kind_N = kinds()
    other = torch.tensor([2, 0, 3, 1])
    one, two = witness(z_ND, kind_N, 4, rng()), witness(z_ND, other[kind_N], 4, rng())
    assert one.agreed == two.agreed and torch.equal(other[one.labels_N], two.labels_N)


def test_rows_beyond_the_sample_go_where_their_nearest_are(monkeypatch):
    monkeypatch.setattr(home, "SAMPLE", 60)
    z_ND, kind_N = kinds(400)
    found = witness(z_ND, kind_N, 4, rng())
    assert torch.equal(found.labels_N, kind_N) and found.agreed == pytest.approx(61 / 62)


def test_renamed_is_the_best_of_all_permutations():
    labels_N, like_N = torch.randint(4, (40,), generator=rng()), torch.randint(4, (40,), generator=rng(1))
    found = renamed(labels_N, like_N, 4)
    best = max(int((torch.tensor(order)[labels_N] == like_N).sum()) for order in permutations(range(4)))
    assert int((found == like_N).sum()) == best
    assert len({*zip(labels_N.tolist(), found.tolist())}) == 4


def test_nothing_is_said_where_nothing_can_be():
    z_ND, kind_N = kinds(20)
    assert witness(z_ND, torch.zeros(20, dtype=torch.int64), 1, rng()) is None
    assert witness(z_ND[:2], kind_N[:2], 2, rng()) is None
    assert witness(z_ND, kind_N, CLUSTERS + 1, rng()) is None and witness(z_ND, kind_N, 21, rng()) is None


def test_features_without_any_difference_are_no_obstacle():
    found = witness(torch.ones(12, 3), torch.arange(12) % 3, 3, rng())
    assert found is not None and 0 < found.agreed < 1
    with pytest.raises(InputError, match="NaN"):
        witness(torch.full((12, 3), torch.nan), torch.arange(12) % 3, 3, rng())
