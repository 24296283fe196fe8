"""Which pictures are asked, against a loop over all sets, and by hand."""

import pytest
import torch
import torch.nn.functional as F

from coterie.learning import asking
from coterie.learning.asking import leads, telling


def test_leads():
    assert leads(torch.tensor([[0.5, 0.3, 0.2], [0, 1, 0]])).tolist() == pytest.approx([0.2, 1])
    assert leads(torch.ones(3, 1)).tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_each_adds_most_to_what_is_covered(seed):
    rng = torch.Generator().manual_seed(seed)
    rows_ND, p_NK = torch.randn(30, 4, generator=rng), torch.randn(30, 3, generator=rng).softmax(1)
    answered_N = torch.rand(30, generator=rng) < 0.2
    free_N = ~answered_N & (torch.rand(30, generator=rng) < 0.9)
    found = telling(rows_ND, p_NK, free_N, answered_N, 5).tolist()
    z_ND = F.normalize(rows_ND.double())
    means_KD = F.normalize(p_NK.double().T @ z_ND)

    def covered(ids):
        chosen = [z_ND[i] for i in (*answered_N.nonzero().squeeze(1).tolist(), *ids)]
        held = [means_KD[int(p_NK[j].argmax())] for j in range(30)]
        return sum(max(max(0.0, float(one @ z_ND[j])) ** 2 for one in (held[j], *chosen)) for j in range(30) if free_N[j])

    for place, i in enumerate(found):
        before = found[:place]
        best = max(covered([*before, j]) for j in range(30) if free_N[j] and j not in before)
        assert free_N[i] and i not in before and covered([*before, i]) == pytest.approx(best, rel=1e-4)


def test_questions_differ_and_stop_where_all_were_asked():
    rows_ND, p_NK = torch.eye(3).repeat(4, 1), torch.full((12, 2), 0.5)
    none_N = torch.zeros(12, dtype=torch.bool)
    assert sorted((telling(rows_ND, p_NK, ~none_N, none_N, 3) % 3).tolist()) == [0, 1, 2], "one of each direction"
    assert sorted(telling(rows_ND, p_NK, ~none_N, none_N, 50).tolist()) == list(range(12))
    assert len(telling(rows_ND, p_NK, none_N, ~none_N, 5)) == 0


def test_a_hidden_kind_is_asked_before_one_that_is_as_it_is_held(monkeypatch):
    """Two kinds of 30; in the first's cluster are 10 of another, held for it and as surely as all others."""
    rng = torch.Generator().manual_seed(0)
    of_N = torch.tensor([0] * 30 + [1] * 30 + [2] * 10)
    rows_ND = torch.eye(8)[of_N] + 0.1 * torch.randn(70, 8, generator=rng)
    p_NK = F.one_hot((of_N == 1).long(), 2).float()
    none_N = torch.zeros(70, dtype=torch.bool)
    assert int(telling(rows_ND, p_NK, ~none_N, none_N, 1)) >= 60
    monkeypatch.setattr(asking, "COVERED", 20)  # the worst covered alone
    monkeypatch.setattr(asking, "CANDIDATES", 5)
    assert int(telling(rows_ND, p_NK, ~none_N, none_N, 1)) >= 60


def test_what_may_not_be_asked_is_not(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    rows_ND, p_NK = torch.randn(40, 5, generator=rng), torch.tensor([[1.0, 0]]).repeat(40, 1)
    answered_N = torch.arange(40) < 10
    assert all(i >= 10 for i in telling(rows_ND, p_NK, ~answered_N, answered_N, 30).tolist())
    monkeypatch.setattr(asking, "CANDIDATES", 4)  # in parts
    assert len(set(telling(rows_ND, p_NK, ~answered_N, answered_N, 8).tolist())) == 4
