"""IDFD's second loss against a loop in float64."""

import numpy as np
import pytest
import torch

from coterie.learning.instance_losses import decorrelation
from coterie.run.seeding import generator

Z = torch.nn.functional.normalize(torch.randn(7, 5, generator=generator(0, "z"), dtype=torch.float64), dim=1)


def test_as_a_loop():
    z = Z.numpy()
    columns = [z[:, j] / np.linalg.norm(z[:, j]) for j in range(5)]
    total = 0.0
    for one in columns:
        scores = [np.exp(one @ other / 2) for other in columns]
        total -= np.log(np.exp(one @ one / 2) / sum(scores)) / 5
    assert float(decorrelation(Z)) == pytest.approx(total, rel=1e-6)


def test_least_where_columns_are_at_right_angles_and_most_where_they_are_alike():
    apart, alike = torch.eye(5).repeat(2, 1), Z[:, :1].float().expand(-1, 5)
    assert float(decorrelation(apart)) < float(decorrelation(Z)) < float(decorrelation(alike))
    assert float(decorrelation(alike)) == pytest.approx(np.log(5), rel=1e-5)


def test_does_not_mind_the_order_of_images_columns_nor_their_signs():
    rows, columns = torch.tensor([4, 2, 0, 6, 1, 3, 5]), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(decorrelation(Z[rows][:, columns]), decorrelation(Z))
    torch.testing.assert_close(decorrelation(-Z), decorrelation(Z))
