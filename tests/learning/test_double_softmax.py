"""The formula that benchmarks/double_softmax.py draws, against autograd."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

DRAWN = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "double_softmax.py"))
EXAMPLE, LABEL, alike, ratios = (DRAWN[name] for name in ("EXAMPLE", "LABEL", "alike", "ratios"))


def by_autograd(p_K: np.ndarray, label: int) -> np.ndarray:
    gradients = []
    for double in (True, False):
        logits = torch.tensor(p_K, dtype=torch.float64).log().requires_grad_()
        scores = logits.softmax(0) if double else logits
        F.cross_entropy(scores[None], torch.tensor([label])).backward()
        gradients.append(logits.grad)
    return (gradients[0] / gradients[1]).numpy()


@pytest.mark.parametrize("label", range(5))
def test_any_probabilities(label):
    p_K = np.random.default_rng(label).dirichlet(np.ones(5))
    np.testing.assert_allclose(ratios(p_K, label), by_autograd(p_K, label), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("k", [3, 10, 100])
def test_the_curve_rises_with_the_probability_of_the_pseudo_label(k):
    curve = [ratios(alike(p, k), 0)[0] for p in (0.01, 0.1, 0.5, 0.9, 0.99)]
    np.testing.assert_allclose(curve, [by_autograd(alike(p, k), 0)[0] for p in (0.01, 0.1, 0.5, 0.9, 0.99)], rtol=1e-8)
    assert curve == sorted(curve) and curve[-1] < 1, "slower than a single softmax everywhere, slowest where the head doubts"


def test_the_example_says_what_the_paper_says():
    """App. A: but for the pseudo-label's own, a more probable cluster has the larger ratio."""
    found = ratios(np.array(EXAMPLE), LABEL)
    np.testing.assert_allclose(found, by_autograd(np.array(EXAMPLE), LABEL), rtol=1e-8, atol=1e-12)
    others = np.delete(found, LABEL)
    assert sum(EXAMPLE) == pytest.approx(1) and np.all(np.diff(others) > 0) and found[LABEL] > others[-2]
