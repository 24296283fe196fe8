"""Losses against a memory bank, and of spreading: each against a naive float64 loop, and one thing each that must not matter, or must."""

import math

import pytest
import torch
import torch.nn.functional as F

from coterie.learning.instance_losses import (
    bank_cross_entropy,
    neighbourhood_loss,
    noise_contrastive,
    purified_cluster_loss,
    softmax_normaliser,
    spreading_loss,
)

N, B, D, T = 23, 7, 5, 0.3


@pytest.fixture
def case():
    """features (B, D) that want gradients, ids (B,), a bank (N, D), labels (N,): float64."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=1)  # noqa: E731
    labels = torch.randint(-1, 3, (N,), generator=generator)
    return draw(B, D).requires_grad_(), torch.randperm(N, generator=generator)[:B], draw(N, D), labels


def probability(x, bank, j) -> float:
    """Of image j, given the feature x: the softmax over the whole bank."""
    scores = (x.detach() @ bank.T / T).exp().tolist()
    return scores[j] / sum(scores)


def test_bank_cross_entropy(case):
    x, index, bank, _ = case
    want = -sum(math.log(probability(x[b], bank, int(i))) for b, i in enumerate(index)) / B
    assert float(bank_cross_entropy(x, index, bank, T).detach()) == pytest.approx(want, rel=1e-9)


def by_differences(function, x, step=1e-6) -> torch.Tensor:
    """The gradient of a function of (B, D), by central differences."""
    gradient = torch.zeros_like(x).detach()
    for i in range(x.numel()):
        ahead, behind = x.detach().clone(), x.detach().clone()
        ahead.view(-1)[i] += step
        behind.view(-1)[i] -= step
        gradient.view(-1)[i] = (function(ahead) - function(behind)) / (2 * step)
    return gradient


@pytest.mark.parametrize("log_outside", [True, False])
def test_purified_cluster_loss(case, log_outside):
    x, index, bank, labels = case
    assert set(labels[index].tolist()) > {-1}, "the batch has purified images and others"
    total = 0.0
    for b, i in enumerate(index.tolist()):
        group = [i] + [j for j in range(N) if j != i and labels[i] >= 0 and labels[j] == labels[i]]
        p = [probability(x[b], bank, j) for j in group]
        total -= math.log(sum(p)) if log_outside else sum(map(math.log, p))
    got = purified_cluster_loss(x, index, bank, labels, T, log_outside)
    assert float(got.detach()) == pytest.approx(total / B, rel=1e-9)
    got.backward()
    torch.testing.assert_close(x.grad, by_differences(lambda x: purified_cluster_loss(x, index, bank, labels, T, log_outside), x))


def test_clusters_have_no_names_and_alone_is_instance_discrimination(case):
    x, index, bank, labels = case
    renamed = torch.where(labels >= 0, (labels + 1) % 3, labels)
    torch.testing.assert_close(purified_cluster_loss(x, index, bank, renamed, T), purified_cluster_loss(x, index, bank, labels, T))
    alone = torch.full((N,), -1)
    for outside in (True, False):
        torch.testing.assert_close(purified_cluster_loss(x, index, bank, alone, T, outside), bank_cross_entropy(x, index, bank, T))


def test_neighbourhood_loss(case):
    x, index, bank, _ = case
    neighbours = torch.stack([(torch.arange(N) + 3) % N, (torch.arange(N) + 8) % N], 1)
    neighbours[index[:3]] = -1  # no anchors
    total = 0.0
    for b, i in enumerate(index.tolist()):
        total -= math.log(sum(probability(x[b], bank, j) for j in [i, *neighbours[i].tolist()] if j >= 0))
    got = neighbourhood_loss(x, index, bank, neighbours, T)
    assert float(got.detach()) == pytest.approx(total / B, rel=1e-9)
    torch.testing.assert_close(neighbourhood_loss(x, index, bank, neighbours.flip(1), T), got)
    torch.testing.assert_close(
        neighbourhood_loss(x, index, bank, torch.full_like(neighbours, -1), T), bank_cross_entropy(x, index, bank, T)
    )


def test_noise_contrastive(case):
    x, index, bank, _ = case
    noise = torch.randint(N, (B, 4), generator=torch.Generator().manual_seed(1))
    score = lambda b, j: math.exp(float(x.detach()[b] @ bank[j]) / T)  # noqa: E731
    z = N * sum(score(b, j) for b in range(B) for j in [int(index[b]), *noise[b].tolist()]) / (5 * B)
    total = 0.0
    for b in range(B):
        data = [score(b, j) / z for j in [int(index[b]), *noise[b].tolist()]]
        total -= math.log(data[0] / (data[0] + 4 / N)) + sum(math.log((4 / N) / (p + 4 / N)) for p in data[1:])
    normaliser = softmax_normaliser(x, index, bank, noise, T)
    assert float(normaliser) == pytest.approx(z, rel=1e-9) and not normaliser.requires_grad
    got = noise_contrastive(x, index, bank, noise, T, normaliser)
    assert float(got.detach()) == pytest.approx(total / B, rel=1e-9)
    torch.testing.assert_close(noise_contrastive(x, index, bank, noise.flip(1), T, normaliser), got)


def test_spreading_loss(case):
    rows = F.normalize(torch.randn(8, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=1)
    total = 0.0
    for i in range(8):
        score = [0.0 if k == i else math.exp(float(rows[i] @ rows[k]) / T) for k in range(8)]
        p = [s / sum(score) for s in score]
        pair = (i + 4) % 8
        total -= math.log(p[pair]) + sum(math.log(1 - p[k]) for k in range(8) if k not in (i, pair))
    assert float(spreading_loss(rows, T)) == pytest.approx(total / 8, rel=1e-9)
    torch.testing.assert_close(spreading_loss(rows.roll(4, 0), T), spreading_loss(rows, T))  # which view is the first does not matter
    with pytest.raises(AssertionError, match="two views"):
        spreading_loss(rows[:7], T)


def test_spreading_loss_stays_finite_and_takes_no_gradient_into_the_second_factor():
    same = torch.ones(6, 3, dtype=torch.float64).div(3**0.5).requires_grad_()
    apart = torch.eye(6)[[0, 1, 2, 1, 2, 0]].requires_grad_()  # each image's views are farther apart than two images are
    for rows in (same, apart):
        loss = spreading_loss(rows, 0.01)
        loss.backward()
        assert loss.isfinite() and rows.grad.isfinite().all()
    x = F.normalize(torch.randn(4, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64), dim=1).requires_grad_()
    spreading_loss(x, T).backward()
    fixed = x.detach()
    torch.testing.assert_close(x.grad, by_differences(lambda first: _with_second_fixed(first, fixed), x))


def _with_second_fixed(first, second):
    scores = (first @ second.T / T).exp() * (1 - torch.eye(4))
    p = scores / scores.sum(1, keepdim=True)
    pair = torch.eye(4).roll(2, 1).bool()
    return -(p[pair].log().sum() + (1 - p)[~pair & ~torch.eye(4, dtype=bool)].log().sum()) / 4


@pytest.mark.parametrize("loss", [bank_cross_entropy, purified_cluster_loss, neighbourhood_loss])
def test_no_gradient_goes_into_the_bank(case, loss):
    x, index, bank, labels = case
    bank.requires_grad_()
    more = {bank_cross_entropy: [], purified_cluster_loss: [labels], neighbourhood_loss: [labels[:, None].clamp(min=0)]}[loss]
    loss(x, index, bank, *more, T).backward()
    assert bank.grad is None and x.grad.abs().sum() > 0
