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
    z_ND, doubt_N = F.normalize(rows_ND.double()), 1 - leads(p_NK).double()

    def covered(ids):
        chosen = [*answered_N.nonzero().squeeze(1).tolist(), *ids]
        return sum(
            float(doubt_N[j]) * max((max(0.0, float(z_ND[i] @ z_ND[j])) ** 2 for i in chosen), default=0.0) for j in range(30) if free_N[j]
        )

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


def test_the_certain_and_the_answered_are_not_asked(monkeypatch):
    rng = torch.Generator().manual_seed(0)
    rows_ND, p_NK = torch.randn(40, 5, generator=rng), torch.tensor([[1.0, 0]]).repeat(40, 1)
    p_NK[7:20] = 0.5
    answered_N = torch.arange(40) < 10
    assert all(10 <= i < 20 for i in telling(rows_ND, p_NK, ~answered_N, answered_N, 8).tolist())
    monkeypatch.setattr(asking, "CANDIDATES", 4)  # in parts
    assert len(set(telling(rows_ND, p_NK, ~answered_N, answered_N, 8).tolist())) == 4
