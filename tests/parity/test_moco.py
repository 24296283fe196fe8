"""A whole step of MoCo, and its learning rate, against what the reference implementations computed."""

from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coterie.images import Batch
from coterie.learning.schedule import cosine
from coterie.methods.pretext import PretextConfig, moco
from coterie.run import Run
from coterie.run.devices import Devices


def close(got, want, rtol=1e-6, atol=1e-6):
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", ["fb", "spice"])
def test_moco_step(golden, monkeypatch, case):
    """`moco.train` itself, of which only the views and the epochs around its loss are replaced.

    Their queue is (D, M), ours (M, D). This small network has no batch norm, so the one difference that we chose does not show: our keys
    come from a copy in eval mode, which also averages its batch-norm statistics; theirs from one in training mode on a shuffled batch.
    """
    z = golden("moco_step")
    given = {name.removeprefix(f"{case}_"): torch.tensor(z[name]) for name in z if name.startswith(f"{case}_")}
    given |= {name: value.double() for name, value in given.items() if value.is_floating_point()}
    views, caught = iter([given["im_q"], given["im_k"]]), {}
    monkeypatch.setattr(moco.augment, "pretext", lambda name, size: lambda pixels, rng: next(views))
    monkeypatch.setattr(moco, "descend", lambda loss, images, config, run, trained, kept: caught.update(loss=loss, **trained, **kept))

    encoder = nn.Sequential(nn.Linear(12, 16), nn.ReLU())
    encoder.n_features = 16
    config = PretextConfig(pretext_temperature=float(z["T"]), momentum=float(z["m"]), queue=int(z["K"]), projection=8)
    moco.train(encoder, range(100), config, Run(devices=Devices("cpu", "fp32", 1)))
    student, teacher, queue = nn.Sequential(encoder, caught["projector"]).double(), caught["teacher"].double(), caught["queue"]
    ours = ["0.0.weight", "0.0.bias", "1.layers.0.weight", "1.layers.0.bias", "1.layers.2.weight", "1.layers.2.bias"]
    theirs = ["body.weight", "body.bias", "fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"]
    student.load_state_dict({mine: given[f"q_{name}"] for mine, name in zip(ours, theirs)})
    teacher.load_state_dict({mine: given[f"kbefore_{name}"] for mine, name in zip(ours, theirs)})
    queue.rows_MD.copy_(given["queue_before"].T)

    with mock.patch.object(F, "cross_entropy", wraps=F.cross_entropy) as asked:
        loss = caught["loss"](Batch(torch.arange(len(given["im_q"])), given["im_q"]), None)
    loss.backward()

    logits, labels = asked.call_args.args
    close(logits, given["logits"])
    assert torch.equal(labels, given["labels"])
    close(loss, given["loss"])
    close(student(given["im_q"]), given["q"])
    close(teacher(given["im_k"]), given["k"])
    for mine, name in zip(ours, theirs):
        close(teacher.state_dict()[mine], given[f"kafter_{name}"])
    close(queue.rows_MD.T, given["queue_after"])
    assert int(queue.next) == int(given["ptr_after"])
    close(caught["projector"].layers[2].weight.grad, given["grad_fc2"])
    close(encoder[0].weight.grad, given["grad_body"])


def test_moco_lr(golden):
    """SPICE's MoCo: a rate an epoch, on half a cosine to zero. Our pretexts warm up first; from the peak on `one_cycle` is this curve."""
    rates = [cosine(epoch / 1000, 0.015) for epoch in range(1000)]
    np.testing.assert_allclose(rates, golden("moco_lr")["spice_cos_lr0_015_1000ep"], rtol=1e-12, atol=1e-12)
