"""Muon beside a loop in float64, and beside torch's AdamW where it is that."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from coterie.learning.muon import LENGTH, MOMENTUM, QUINTIC, STEPS, Muon, orthogonal


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """The same polynomial on each singular value."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    a, b, c = QUINTIC
    for _ in range(STEPS):
        values = a * values + b * values**3 + c * values**5
    return (left * values) @ right


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (1, 7), (5, 1), (8, 8)])
def test_the_polynomial_acts_on_singular_values_alone(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    got = orthogonal(torch.from_numpy(matrix).float()).double().numpy()
    np.testing.assert_allclose(got, newton_schulz(matrix), atol=2e-4)


def test_directions_come_out_alike():
    matrix = torch.randn(12, 40, generator=torch.Generator().manual_seed(1)) * torch.logspace(0, -1, 12)[:, None]
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.min() > 0.5 and values.max() < 1.3


def test_of_another_length_it_is_the_same():
    matrix = torch.randn(6, 9, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(orthogonal(1000 * matrix), orthogonal(matrix), atol=1e-4, rtol=1e-4)


def test_rows_in_another_order_give_rows_in_that_order():
    matrix, order = torch.randn(6, 9, generator=torch.Generator().manual_seed(3)), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(orthogonal(matrix[order]), orthogonal(matrix)[order], atol=1e-4, rtol=1e-4)


def test_no_gradient_is_no_direction():
    assert not orthogonal(torch.zeros(4, 6)).any()


def test_a_convolution_moves_as_the_loop_says():
    weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(4)))
    naive, momentum = weight.detach().double().numpy().copy(), np.zeros((4, 3, 3, 3))
    optimizer = Muon([weight], lr=0.1, weight_decay=0.5)
    for turn in range(3):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(10 + turn))
        gradient = weight.grad.double().numpy()
        optimizer.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
        update = newton_schulz(((1 - MOMENTUM) * gradient + MOMENTUM * momentum).reshape(4, 27)).reshape(naive.shape)
        naive = naive * (1 - 0.1 * 0.5) - 0.1 * LENGTH * math.sqrt(27) * update
        np.testing.assert_allclose(weight.detach().numpy(), naive, atol=5e-4)


def test_what_is_no_matrix_learns_by_adam_without_decay():
    ours = nn.Parameter(torch.randn(7, generator=torch.Generator().manual_seed(5)))
    theirs = nn.Parameter(ours.detach().clone())
    both = Muon([ours], lr=0.01, weight_decay=0.3), torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.0)
    for turn in range(4):
        ours.grad = torch.randn(7, generator=torch.Generator().manual_seed(turn))
        theirs.grad = ours.grad.clone()
        for optimizer in both:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_continued_from_its_state_it_goes_on_as_it_would_have():
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))

    def learn(model: nn.Module, optimizer: Muon, turns: range) -> None:
        for turn in turns:
            optimizer.zero_grad()
            model(torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(turn))).square().sum().backward()
            optimizer.step()

    whole, halved = network(), network()
    learn(whole, Muon(whole.parameters()), range(6))
    first = Muon(halved.parameters())
    learn(halved, first, range(3))
    second = Muon(halved.parameters())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    learn(halved, second, range(3, 6))
    for one, other in zip(whole.state_dict().values(), halved.state_dict().values(), strict=True):
        assert torch.equal(one, other)
