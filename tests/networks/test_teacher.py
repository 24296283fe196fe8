"""The teacher follows weights and statistics, and is touched by nothing else."""

import torch
from torch import nn

from coterie.networks.teacher import follow, teacher_of


def student():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()


def test_a_teacher_starts_equal_and_stays_behind():
    network = student()
    teacher = teacher_of(network)
    start = {name: value.clone() for name, value in teacher.state_dict().items()}
    network(torch.randn(8, 3, dtype=torch.float64))  # moves the running statistics of the student alone
    with torch.no_grad():
        network[0].weight.add_(1)
    assert all(torch.equal(value, start[name]) for name, value in teacher.state_dict().items())
    assert not teacher.training and not any(weight.requires_grad for weight in teacher.parameters())
    follow(teacher, network, decay=0.75)
    for name, value in teacher.state_dict().items():
        now = network.state_dict()[name]
        wanted = 0.75 * start[name] + 0.25 * now if value.dtype.is_floating_point else now
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)


def test_decay_one_never_moves_and_zero_copies():
    network = student()
    teacher, copy = teacher_of(network), teacher_of(network)
    with torch.no_grad():
        network[0].weight.mul_(2)
    follow(teacher, network, decay=1.0)
    assert torch.equal(teacher[0].weight, copy[0].weight)
    follow(teacher, network, decay=0.0)
    assert torch.equal(teacher[0].weight, network[0].weight)
