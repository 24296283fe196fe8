"""Temperatures and the least certain: against planted probabilities, and what may never change."""

import math

import pytest
import torch

from coterie.evaluate.metrics import expected_calibration_error
from coterie.learning.calibration import COLDEST, HOTTEST, confidence, least_sure, temperature


def planted(n: int = 4000, k: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, K) float64 whose softmax is right, and classes drawn from it."""
    rng = torch.Generator().manual_seed(seed)
    logits_NK = 2.5 * torch.randn(n, k, generator=rng, dtype=torch.float64)
    return logits_NK, logits_NK.softmax(1).multinomial(1, generator=rng).squeeze(1)


@pytest.mark.parametrize("wrong", [0.3, 1.0, 3.0])
def test_the_accuracy_gives_back_the_temperature(wrong):
    """Perfectly calibrated stays as it is; too sure is cooled; too modest is sharpened."""
    logits_NK, truth_N = planted()
    accuracy = float((logits_NK.argmax(1) == truth_N).double().mean())
    found = temperature(logits_NK * wrong, accuracy)
    assert found == pytest.approx(wrong, rel=0.1)
    after = expected_calibration_error(truth_N, (logits_NK * wrong / found).softmax(1), matched=True)
    assert after < 0.03
    if wrong != 1.0:
        assert after < expected_calibration_error(truth_N, (logits_NK * wrong).softmax(1), matched=True) / 2


def test_the_mean_confidence_is_the_target_and_no_argmax_changes():
    logits_NK, _ = planted(500)
    for target in (0.4, 0.7, 0.99):
        found = temperature(logits_NK, target)
        assert float(confidence(logits_NK, found).mean()) == pytest.approx(target, abs=1e-6)
        assert torch.equal((logits_NK / found).argmax(1), logits_NK.argmax(1))


def test_shifts_orders_and_names_do_not_matter():
    logits_NK, _ = planted(300)
    one = temperature(logits_NK, 0.8)
    assert temperature(logits_NK + torch.arange(300.0)[:, None], 0.8) == pytest.approx(one, rel=1e-9)
    assert temperature(logits_NK.flip(0).flip(1), 0.8) == pytest.approx(one, rel=1e-9)
    assert temperature(logits_NK.log_softmax(1), 0.8) == pytest.approx(one, rel=1e-9)  # log p will do
    assert temperature(logits_NK * 2, 0.8) == pytest.approx(2 * one, rel=1e-9)


def test_ends():
    logits_NK, _ = planted(50)
    assert temperature(logits_NK, 1.0) == pytest.approx(COLDEST) and temperature(logits_NK, 0.0) == pytest.approx(HOTTEST)
    assert temperature(torch.zeros(4, 3), 0.5) == temperature(torch.rand(4, 1), 0.9) == temperature(torch.zeros(0, 3), 0.9) == 1.0


@pytest.mark.parametrize("n, share, count", [(100, 0.05, 5), (100, 0.0, 0), (7, 0.5, 4), (10, 0.04, 0), (30, 0.05, 2)])
def test_the_share_is_exact(n, share, count):
    p_NK = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    assert int(least_sure(p_NK, torch.ones(n, dtype=torch.bool), share).sum()) == count == math.floor(n * share + 0.5)


def test_those_the_witness_puts_elsewhere_come_first():
    top_N = torch.tensor([0.5, 0.9, 0.6, 0.95, 0.6])
    p_NK, agrees_N = torch.stack([top_N, 1 - top_N], 1), torch.tensor([True, False, True, False, True])
    order = [least_sure(p_NK, agrees_N, count / 5).nonzero().flatten().tolist() for count in range(1, 6)]
    assert order == [[1], [1, 3], [0, 1, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4]]
