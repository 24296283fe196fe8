"""The losses of TEMI and TURTLE against loops over images and clusters in float64."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from coterie.learning.losses import temi_loss, turtle_loss


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("beta", [0.5, 0.6, 1.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_temi_is_the_sum_over_images_and_clusters(beta, weighted):
    student, teacher = logits(2, 7, 4), logits(2, 7, 4, seed=1).softmax(-1)
    shares, weight = logits(2, 4, seed=2).softmax(-1), torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for h in range(2):
        total = 0.0
        for b in range(7):
            q = np.exp(student[h, b].numpy()) / np.exp(student[h, b].numpy()).sum()
            inside = sum((q[c] * float(teacher[h, b, c])) ** beta / float(shares[h, c]) for c in range(4))
            total -= math.log(inside) * (float(weight[b]) if weighted else 1)
        got = temi_loss(student, teacher, shares, weight if weighted else None, beta)
        assert float(got[h]) == pytest.approx(total / 7, rel=1e-9)


def test_temi_falls_when_pairs_agree_and_clusters_are_shared():
    sure = 20 * torch.eye(4, dtype=torch.float64)[torch.arange(8) % 4]
    shares = torch.full((4,), 0.25, dtype=torch.float64)
    together = temi_loss(sure, sure.softmax(-1), shares)
    assert together == pytest.approx(-math.log(4), abs=1e-3), "the information of one of four, log 4"
    assert together < temi_loss(sure, sure.roll(1, 0).softmax(-1), shares)
    one = torch.zeros(8, 4, dtype=torch.float64) + 20 * torch.eye(4, dtype=torch.float64)[0]
    assert together < temi_loss(one, one.softmax(-1), one.softmax(-1).mean(0)), "one cluster for all tells nothing"


def test_turtle_is_the_sum_over_spaces_images_and_clusters():
    tau, said = logits(2, 6, 3).softmax(-1), [logits(2, 6, 3, seed=1), logits(2, 6, 3, seed=2)]
    got = turtle_loss(tau, said, 10.0)
    for h in range(2):
        total = 0.0
        for space in said:
            for b in range(6):
                logs = space[h, b].numpy() - np.log(np.exp(space[h, b].numpy()).sum())
                total -= sum(float(tau[h, b, c]) * logs[c] for c in range(3)) / 6
        mean = tau[h].mean(0).numpy()
        assert float(got[h]) == pytest.approx(total + 10 * float((mean * np.log(mean)).sum()), rel=1e-9)


def test_gradients_are_those_of_the_labelling_alone():
    """TURTLE's first-order hypergradient: none goes into the classifiers; TEMI: none into the teacher."""
    start, said = logits(1, 5, 3).requires_grad_(), logits(1, 5, 3, seed=1).requires_grad_()
    turtle_loss(start.softmax(-1), [said]).sum().backward()
    assert start.grad is not None and said.grad is None
    teacher = logits(5, 3, seed=1).softmax(-1).requires_grad_()
    temi_loss(logits(5, 3).requires_grad_(), teacher, torch.full((3,), 1 / 3, dtype=torch.float64)).backward()
    assert teacher.grad is None
    assert gradcheck(lambda x: turtle_loss(x.softmax(-1), [said.detach()]), (logits(1, 5, 3).requires_grad_(),))
    shares = logits(3, seed=4).softmax(-1)
    assert gradcheck(lambda x: temi_loss(x, teacher.detach(), shares), (logits(5, 3).requires_grad_(),))


def test_sure_and_opposite_rows_stay_finite():
    one, other = 1e4 * torch.eye(3)[[0, 1]], (1e4 * torch.eye(3)[[1, 0]]).softmax(-1)
    student = one.clone().requires_grad_()
    temi_loss(student, other, torch.tensor([0.0, 1.0, 0.0])).backward()
    assert student.grad.isfinite().all()
    tau = other.clone().requires_grad_()
    turtle_loss(tau, [one]).backward()
    assert tau.grad.isfinite().all()
