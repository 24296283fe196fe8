import math

import numpy as np
import pytest
import torch

from coterie.errors import InputError
from coterie.evaluate import knn as module
from coterie.evaluate.knn import weighted_knn


def data(n: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=generator)
    return torch.eye(4, 8, dtype=torch.float64)[labels] + 0.6 * torch.randn(n, 8, generator=generator, dtype=torch.float64), labels


def naive(train, labels, test, k, temperature):
    """Loops in float64; test None: leave one out."""
    found = []
    for i, row in enumerate(train if test is None else test):
        similar = []
        for j, other in enumerate(train):
            if test is not None or j != i:
                similar.append((float(torch.nn.functional.cosine_similarity(row.double(), other.double(), dim=0)), int(labels[j])))
        votes = {}
        for cosine, label in sorted(similar, reverse=True)[:k]:
            votes[label] = votes.get(label, 0) + math.exp(cosine / temperature)
        found.append(max(sorted(votes), key=votes.get))
    return torch.tensor(found)


@pytest.mark.parametrize("k, temperature", [(1, 0.1), (7, 0.07), (50, 0.5)])
def test_equals_naive_loops(monkeypatch, k, temperature):
    monkeypatch.setattr(module, "ROWS", 11)
    (train, labels), (test, _) = data(60), data(25, seed=1)
    for asked in (test, None):
        got = weighted_knn(train, labels, asked, k, temperature)
        assert got.dtype == torch.int64 and torch.equal(got, naive(train, labels, asked, k, temperature))


def test_any_integers_and_any_container():
    (train, labels), (test, _) = data(60), data(25, seed=1)
    names = torch.tensor([70, -3, 5, 1000])
    want = names[weighted_knn(train, labels, test)]
    for given in (names[labels], names[labels].tolist(), names[labels].numpy().astype(np.int32)):
        assert torch.equal(weighted_knn(train, given, test), want)


def test_order_of_the_training_rows_does_not_matter():
    (train, labels), (test, _) = data(200), data(50, seed=1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    assert torch.equal(weighted_knn(train[order], labels[order], test, 20), weighted_knn(train, labels, test, 20))


def test_neighbours_are_capped_and_low_temperatures_do_not_overflow():
    train, labels = data(30)
    assert torch.equal(weighted_knn(train, labels, train, 1000), weighted_knn(train, labels, train, 30))
    assert torch.equal(weighted_knn(train, labels, None, 1000), weighted_knn(train, labels, None, 29))
    assert torch.equal(weighted_knn(train, labels, train, 30, temperature=1e-3), labels), "the row itself outweighs all others"


def test_refusals():
    train, labels = data(30)
    with pytest.raises(InputError, match="30 training rows"):
        weighted_knn(train, labels[:29], train)
    with pytest.raises(InputError, match="temperature = 0"):
        weighted_knn(train, labels, train, temperature=0)
    with pytest.raises(InputError, match="k = 0"):
        weighted_knn(train[:1], labels[:1])
