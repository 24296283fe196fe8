"""The running average of a network against SCAN's."""

import numpy as np
import torch
from torch import nn

from coterie.networks.teacher import follow, teacher_of

from .conftest import double


def test_scan_ema(golden):
    """The weights follow as theirs do. The batch-norm statistics do not, on purpose.

    Their average knows parameters only, and keeps the buffers of the day it was made. After every step it is loaded back into the live
    network, whose batch-norm statistics are thereby rolled back to that day (`running_mean_after_apply`, all zeros) and never learn.
    Ours is a side copy that leaves the live network alone, and averages its statistics as it averages its weights.
    """
    z = golden("scan_ema")
    decay, running_mean = float(z["alpha"]), double(z["running_mean_before_apply"])
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    student[0].weight.data.copy_(torch.tensor(z["w0"]))
    teacher = teacher_of(student)
    student[0].weight.data.copy_(torch.tensor(z["w_after_step"]))
    student[1].running_mean.copy_(running_mean)
    follow(teacher, student, decay)

    np.testing.assert_allclose(teacher[0].weight, z["w_after_ema"], rtol=0, atol=1e-7)
    assert not z["running_mean_after_apply"].any(), "theirs: as at the start"
    torch.testing.assert_close(teacher[1].running_mean, (1 - decay) * running_mean)
    assert torch.equal(student[1].running_mean, running_mean)
