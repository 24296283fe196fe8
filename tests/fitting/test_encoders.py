"""What `--encoder auto` takes, and what a fit keeps of it."""

import numpy as np
import pytest
import torch

from coterie import fitting
from coterie.errors import InputError
from coterie.fitting import encoders
from coterie.fitting.encoders import as_published, choose
from coterie.networks import published
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Heads
from coterie.networks.model import Model

PICTURES = np.random.default_rng(0).integers(0, 255, (12, 24, 24, 3), dtype=np.uint8)


@pytest.fixture
def here(monkeypatch):
    """Which encoders lie on this machine: a set the test fills."""
    names: set[str] = set()
    monkeypatch.setattr(encoders, "is_here", lambda name: name in names)
    return names


def test_the_extra_comes_before_the_hubs_cache(here):
    here |= {"dinov2-small", "lite0"}
    chosen = choose("scan", gpu=False)
    lite0 = {"encoder": "lite0", "pretrained": True, "image_size": 192, "pretext": "frozen"}
    assert chosen.settings == lite0 | {"selflabel_epochs": 0, "cluster_rate": 2e-3}
    assert "with its labels" in chosen.reason and "package" in chosen.reason
    here -= {"lite0"}
    assert choose("spice", gpu=False).settings["encoder"] == "dinov2-small" and "without labels" in choose("spice", gpu=False).reason


@pytest.mark.parametrize("gpu, method, encoder", [(False, "scan", "small"), (True, "scan", "resnet18-stl"), (False, "kmeans", "pixels")])
def test_without_any_it_says_what_to_install(here, gpu, method, encoder):
    chosen = choose(method, gpu)
    assert chosen.settings == {"encoder": encoder} and "pip install 'coterie[photos]'" in chosen.reason


def test_methods_that_train_and_drawn_signs_start_from_scratch(here):
    here |= {"lite0"}
    assert choose("pcp", gpu=False).settings == {"encoder": "small"}
    assert choose("scan", gpu=False, small_and_grey=True).settings == {"encoder": "small"}


def test_weights_of_a_run_tell_their_network(here, tmp_path):
    Model(build(EncoderSpec("small-32", 16)), Heads(256, 3), 16, 256, 3).save(tmp_path / "model.safetensors")
    assert choose("scan", False, str(tmp_path)).settings == {"encoder": "small-32", "image_size": 16}
    with pytest.raises(InputError, match="--encoder"):
        choose("scan", False, str(tmp_path / "other.safetensors"))


def test_a_short_name_implies_its_weights():
    assert as_published("lite0+dinov2-small", "kmeans") == {"pretrained": True, "image_size": 224, "pretext": "frozen"}
    assert as_published("dinov2-small", "pcp") == {"pretrained": True, "image_size": 224}
    assert as_published("small", "scan") == as_published("lite0+small", "scan") == as_published("resnet18", "scan") == {}


def plan(source=PICTURES, **more):
    return fitting.plan(source, more.pop("method", "scan"), clusters=2, **more)[1]


def test_a_plan_says_the_choice_and_what_was_said_comes_last(here):
    here |= {"lite0"}
    auto = plan()
    assert (
        auto.config.encoder == "lite0"
        and auto.config.image_size == 192
        and auto.to_json()["encoder"].startswith("lite0, pretrained on ImageNet-1k, with its labels")
    )
    changed = plan(settings={"image_size": 96, "selflabel_epochs": 3})
    assert (changed.config.encoder, changed.config.image_size, changed.config.selflabel_epochs) == ("lite0", 96, 3)
    named = plan(settings={"encoder": "small"})
    assert named.config.encoder == "small" and not named.config.pretrained and "encoder" not in named.to_json()
    assert plan(settings={"encoder": "lite0"}).encoder == auto.encoder
    again = plan(base=auto.to_json())
    assert again.to_json() == auto.to_json()
    assert plan(source=np.zeros((12, 8, 8), np.uint8)).config.encoder == "small"
    assert plan(preset="quick").config.encoder == "small"


def test_only_what_this_command_names_may_use_the_network(here):
    here |= {"lite0"}
    assert not plan().network
    named = plan(settings={"encoder": "resnet18", "pretrained": "true"})
    assert named.network and not plan(base=named.to_json()).network


def test_features_are_found_again_by_another_method(here, tmp_path, monkeypatch):
    """One frozen encoder, two methods: the second fit computes no feature."""
    from coterie.methods import pretext
    from coterie.networks import encoder as networks
    from coterie.run.devices import Devices

    monkeypatch.setitem(published.PUBLISHED, "lite0", published.Published("resnet10t", 512, 32, 1, "drawn at random", False, "none"))
    monkeypatch.setattr(pretext, "load_pretrained", lambda encoder: torch.nn.init.constant_(next(encoder.parameters()), 0.1))
    here |= {"lite0"}
    calls, compute = [], networks.features
    monkeypatch.setattr(networks, "features", lambda *given: calls.append(1) or compute(*given))
    for method in ("scan", "kmeans"):
        quick = {"cluster_epochs": 1, "cluster_steps": 1, "n_heads": 2} if method == "scan" else {}
        images, planned = fitting.plan(PICTURES, method, clusters=2, settings=quick)
        assert planned.config.encoder == "lite0"
        fitting.fit(images, planned, tmp_path / method, devices=Devices("cpu", "fp32", 1), cache=tmp_path / "cache")
    assert len(calls) == 1
