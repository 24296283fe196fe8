import copy

import pytest
import torch
from torch import nn

from coterie.images import open_images
from coterie.networks import encoder as module
from coterie.networks.encoder import EncoderSpec, build, features
from coterie.networks.folding import folded
from coterie.run import Run
from coterie.run.devices import Devices


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "densenet121", "resnetv2_50", "convnext_atto"])
def test_folding_changes_nothing(name):
    net = build(EncoderSpec(name, 32)).double()
    generator = torch.Generator().manual_seed(0)
    for part in net.modules():  # statistics as after a training, so that a normalisation does something
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
    before = copy.deepcopy(net.state_dict())
    x = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(net)(x), net.eval()(x), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the network itself was changed"


def test_fewer_normalisations_are_left():
    net = build(EncoderSpec("resnet18", 32))
    count = [sum(isinstance(part, nn.BatchNorm2d) for part in one.modules()) for one in (net, folded(net))]
    assert count == [20, 0]


def test_a_network_that_folding_would_change_is_left_as_it_is(monkeypatch):
    encoder, images = build(EncoderSpec("resnet18", 32)), open_images(torch.randint(0, 255, (3, 32, 32, 3), dtype=torch.uint8).numpy())
    run = Run(devices=Devices("cpu", "fp32", 1))
    wanted = features(encoder, images, run)
    monkeypatch.setattr(module, "folded", lambda net: nn.Sequential(net, nn.Softmax(1)))
    torch.testing.assert_close(features(encoder, images, run), wanted, rtol=1e-3, atol=1e-4)
