"""DeepCluster-v2's loss against naive loops in float64. Shapes: V views, B batch, D feature, H heads, K clusters."""

import math

import pytest
import torch
import torch.nn.functional as F

from coterie.learning.losses import prototype_loss


def drawn(v=3, b=5, d=4, h=2, k=6):
    rng = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(v, b, d, generator=rng, dtype=torch.float64), dim=2)
    prototypes = F.normalize(torch.randn(h, k, d, generator=rng, dtype=torch.float64), dim=2)
    return z, prototypes, torch.randint(k, (h, b), generator=rng)


def naive(z, prototypes, labels, temperature):
    total = 0.0
    for head, label_B in zip(prototypes.tolist(), labels.tolist()):
        losses = []
        for view in z.tolist():
            for row, label in zip(view, label_B):
                scores = [sum(a * b for a, b in zip(row, one)) / temperature for one in head]
                if label >= 0:
                    losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[label])
        total += sum(losses) / max(1, len(losses))
    return total / len(labels)


def test_equals_naive_loops():
    z, prototypes, labels = drawn()
    labels[0, 2] = labels[1, 4] = labels[1, 0] = -1
    for temperature in (0.1, 0.5, 1.0):
        assert float(prototype_loss(z, prototypes, labels, temperature)) == pytest.approx(
            naive(z, prototypes, labels, temperature), rel=1e-12
        )


def test_an_image_that_is_left_out_gets_no_gradient():
    z, prototypes, labels = drawn()
    labels[:, 1] = -1
    z.requires_grad_()
    prototype_loss(z, prototypes, labels).backward()
    assert not z.grad[:, 1].any() and z.grad[:, [0, 2, 3, 4]].abs().sum(2).min() > 0
    nothing = prototype_loss(z, prototypes, torch.full_like(labels, -1))
    nothing.backward()
    assert float(nothing.detach()) == 0.0


def test_order_of_views_heads_and_prototypes_does_not_matter():
    z, prototypes, labels = drawn()
    want = prototype_loss(z, prototypes, labels)
    names = torch.tensor([3, 0, 5, 1, 4, 2])
    same = prototype_loss(z.flip(0), prototypes.flip(0)[:, names], names.argsort()[labels.flip(0)])
    torch.testing.assert_close(same, want)
