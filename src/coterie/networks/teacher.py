"""A teacher: a copy of a network that follows it slowly, weights and batch-norm statistics alike, and learns nothing itself.

It runs in eval mode, on its own statistics, so no image sees another of its batch through it. That is EMAN (Cai et al. 2021), and it
stands in for MoCo's shuffled batch norm, which needs several devices.
"""

import copy

import torch
from torch import nn

from coterie.run.devices import unwrap


def teacher_of(student: nn.Module) -> nn.Module:
    """A frozen copy in eval mode, as the student is now."""
    parts = [unwrap(part) for part in student] if isinstance(student, nn.Sequential) else unwrap(student)
    return copy.deepcopy(nn.Sequential(*parts) if isinstance(parts, list) else parts).requires_grad_(False).eval()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The teacher moves towards the student by 1 - decay; counters are copied."""
    for mine, theirs in zip(teacher.state_dict().values(), student.state_dict().values()):
        if mine.dtype.is_floating_point:
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)
