"""The losses of IIC, CC and PICA against loops over images and clusters in float64."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from coterie.learning.losses import cluster_contrast, information_loss, partition_uncertainty


def shares(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2).softmax(-1)


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_information_is_the_sum_over_pairs_of_clusters(weight):
    p, q = shares(2, 9, 4), shares(2, 9, 4, seed=1)
    got = information_loss(p, q, weight)
    for h in range(2):
        joint = np.zeros((4, 4))
        for b in range(9):
            for c in range(4):
                for d in range(4):
                    joint[c, d] += float(p[h, b, c] * q[h, b, d]) / 9
        joint = (joint + joint.T) / 2
        total = 0.0
        for c in range(4):
            for d in range(4):
                total -= joint[c, d] * (math.log(joint[c, d]) - weight * math.log(joint[c].sum()) - weight * math.log(joint[:, d].sum()))
        assert float(got[h]) == pytest.approx(total, rel=1e-9)


def test_information_of_sure_pairs_is_the_entropy_of_their_shares():
    sure = torch.eye(4, dtype=torch.float64)[torch.arange(8) % 4]
    assert float(information_loss(sure, sure)) == pytest.approx(-math.log(4), abs=1e-5)
    assert float(information_loss(sure, sure.roll(1, 0))) > -math.log(4) + 0.5, "pairs that lie in two clusters tell less"
    one = torch.eye(4, dtype=torch.float64)[torch.zeros(8, dtype=torch.int64)]
    assert float(information_loss(one, one)) == pytest.approx(0, abs=1e-5), "one cluster for all tells nothing"
    swapped = torch.eye(4, dtype=torch.float64)[(torch.arange(8) + 1) % 4]
    assert float(information_loss(swapped, swapped)) == pytest.approx(-math.log(4), abs=1e-5), "whatever the clusters are called"


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_columns_are_contrasted_as_a_loop_does_it(temperature):
    p, q = shares(7, 3), shares(7, 3, seed=1)
    columns = [p[:, k].numpy() for k in range(3)] + [q[:, k].numpy() for k in range(3)]
    columns = [column / math.sqrt(sum(x * x for x in column)) for column in columns]
    total = 0.0
    for i in range(6):
        other = [math.exp(float(np.dot(columns[i], columns[j])) / temperature) for j in range(6) if j != i]
        total -= math.log(math.exp(float(np.dot(columns[i], columns[(i + 3) % 6])) / temperature) / sum(other)) / 6
    for view in (p, q):
        for k in range(3):
            mean = sum(float(view[b, k]) for b in range(7)) / 7
            total += mean * math.log(mean)
    assert float(cluster_contrast(p, q, temperature)) == pytest.approx(total, rel=1e-9)


def test_columns_that_agree_and_are_even_cost_least():
    sure = (20 * torch.eye(3, dtype=torch.float64)[torch.arange(9) % 3]).softmax(-1)
    least = cluster_contrast(sure, sure)
    assert least < cluster_contrast(sure, sure.roll(1, 0)), "the views differ"
    uneven = (20 * torch.eye(3, dtype=torch.float64)[torch.tensor([0] * 7 + [1, 2])]).softmax(-1)
    assert least < cluster_contrast(uneven, uneven), "the clusters do"
    assert torch.equal(least, cluster_contrast(sure[:, [2, 0, 1]], sure[:, [2, 0, 1]])), "whatever they are called"


def test_gradients_and_extremes():
    start = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    other = shares(5, 3, seed=3)
    assert gradcheck(lambda x: information_loss(x.softmax(-1), other), (start,))
    assert gradcheck(lambda x: cluster_contrast(x.softmax(-1), other), (start,))
    for loss in (information_loss, cluster_contrast):
        sure = (1e4 * torch.eye(3)[[0, 0, 0, 0]]).requires_grad_()
        loss(sure.softmax(-1), (-sure).softmax(-1)).backward()
        assert sure.grad is not None and torch.isfinite(sure.grad).all(), loss.__name__


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_a_column_finds_its_own_as_a_loop_does_it(weight):
    p, q = shares(7, 3), shares(7, 3, seed=1)
    total = 0.0
    for i in range(3):
        cosines = []
        for j in range(3):
            one, other = p[:, i].numpy(), q[:, j].numpy()
            cosines.append(sum(one * other) / math.sqrt(sum(one * one) * sum(other * other)))
        total -= math.log(math.exp(cosines[i]) / sum(math.exp(c) for c in cosines)) / 3
    means = [sum(float(p[b, k]) for b in range(7)) / 7 for k in range(3)]
    total += weight * (math.log(3) + sum(mean * math.log(mean) for mean in means))
    assert float(partition_uncertainty(p, q, weight)) == pytest.approx(total, rel=1e-9)


def test_sure_and_unlike_clusters_are_the_least_uncertain():
    sure = torch.eye(3, dtype=torch.float64)[torch.arange(9) % 3]
    least = math.log(1 + 2 / math.e)
    assert float(partition_uncertainty(sure, sure)) == pytest.approx(least, rel=1e-6)
    assert float(partition_uncertainty(shares(9, 3), shares(9, 3))) > least
    one = torch.eye(3, dtype=torch.float64)[torch.zeros(9, dtype=torch.int64)]
    assert float(partition_uncertainty(one, one)) > least + 2 * math.log(3) - 0.1, "one cluster for all is as uneven as can be"
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda logits: partition_uncertainty(logits.softmax(1), shares(5, 3)), logits)
