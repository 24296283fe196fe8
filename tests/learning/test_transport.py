"""Sinkhorn's turns against a loop in float64, and what they promise."""

import itertools

import numpy as np
import pytest
import torch

from coterie.learning.transport import even_labels, even_shares
from coterie.run.seeding import generator

LOGITS = torch.randn(12, 4, generator=generator(0, "logits")) * 3


def test_as_a_loop():
    share = np.exp(LOGITS.double().numpy())
    for _ in range(3):
        for j in range(4):
            share[:, j] /= share[:, j].sum() * 4
        for i in range(12):
            share[i] /= share[i].sum() * 12
    np.testing.assert_allclose(even_shares(LOGITS, 3).numpy(), share * 12, rtol=1e-4)


def test_images_sum_to_one_and_clusters_become_even():
    torch.testing.assert_close(even_shares(LOGITS, 1).sum(1), torch.ones(12))
    away = [float((even_shares(LOGITS, turns).mean(0) - 0.25).abs().max()) for turns in (1, 5, 200)]
    assert away[0] > away[1] > away[2] and away[2] < 1e-3


def test_does_not_mind_the_order_nor_what_is_added_to_an_image():
    rows, columns = torch.randperm(12, generator=generator(1, "r")), torch.randperm(4, generator=generator(1, "c"))
    torch.testing.assert_close(even_shares(LOGITS)[rows][:, columns], even_shares(LOGITS[rows][:, columns]))
    torch.testing.assert_close(even_shares(LOGITS + torch.arange(12.0)[:, None], 200), even_shares(LOGITS, 200), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_finite_where_logits_are_alike_or_far_apart(scale):
    assert torch.isfinite(even_shares(LOGITS * scale)).all()


def test_labels_are_even_and_as_likely_as_can_be():
    """Against all labellings of six images in three clusters of two."""
    log_p = torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).log_softmax(1)
    even = [labels for labels in itertools.product(range(3), repeat=6) if all(labels.count(k) == 2 for k in range(3))]
    best = max(even, key=lambda labels: sum(float(log_p[i, k]) for i, k in enumerate(labels)))
    assert even_labels(log_p, strength=200.0, turns=2000).tolist() == list(best)


def test_labels_of_many_images_keep_every_cluster():
    log_p = torch.randn(3000, 10, generator=torch.Generator().manual_seed(0)).log_softmax(1) + torch.linspace(0, 4, 10)
    assert log_p.argmax(1).bincount(minlength=10).min() < 100, "else nothing is evened"
    sizes = even_labels(log_p).bincount(minlength=10)
    assert sizes.min() >= 270 and sizes.max() <= 330
