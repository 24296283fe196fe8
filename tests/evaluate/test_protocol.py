"""The kNN protocol: who votes on whom."""

import numpy as np
import pytest
import torch

from coterie.evaluate.labels import Labels
from coterie.evaluate.protocol import _knn

PAIRS = torch.tensor([[1, 0.1, 0], [1, -0.1, 0], [0, 1, 0.1], [0, 1, -0.1], [0, 0, 1.0]])  # each row's other is its nearest


def test_an_image_does_not_vote_on_itself():
    mixed, alike = (Labels(np.array(values), ["a", "b"]) for values in ([0, 1, 0, 1, -1], [0, 0, 1, 1, -1]))
    assert _knn(mixed, PAIRS, None) == 0.0 and _knn(alike, PAIRS, None) == 1.0, "what has no label neither votes nor counts"


def test_others_are_judged_by_the_fitted_ones_and_by_the_names_of_classes():
    fitted = Labels(np.array([0, 0, 1, 1, -1]), ["a", "b"])
    new = Labels(np.array([1, 0, 2, -1]), ["b", "a", "c"])  # numbered otherwise; nobody fitted is a c
    found = _knn(fitted, PAIRS, (new, PAIRS[[0, 2, 2, 4]]))
    assert found == pytest.approx(2 / 3)
