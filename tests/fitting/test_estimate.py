from types import SimpleNamespace

import pytest
import torch

from coterie import fitting
from coterie.fitting.estimate import Probe, estimate
from coterie.images import open_images
from coterie.run.devices import Devices

DEVICES = Devices("cpu", "fp32", 1)


def test_a_stage_is_told_in_full(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("coterie.fitting.estimate.time", SimpleNamespace(monotonic=lambda: clock[0]))
    run = Probe(DEVICES, 0, None)
    for epoch in run.epochs("first", 50):
        clock[0] += 10.0 if epoch == 0 else 0.5  # the first one warms up
    for _ in run.epochs("single", 1):
        clock[0] += 3.0
    for _ in run.epochs("ends", 9):
        clock[0] += 1.0
        run.end("ends")
        break
    assert run.told == {"first": 25.0, "single": 3.0, "ends": 9.0}

    def slow(x):
        clock[0] += 7
        return x

    assert run.once("whole", slow, 4) == 4 and run.told["whole"] == 7
    run.close()


@pytest.mark.parametrize("method", ["scan", "spice", "deepcluster", "pcp", "is", "kmeans"])
def test_every_method_can_be_told(method, drawn):
    images, plan = fitting.plan(drawn(24, 16), method, clusters=3, preset="quick", settings={"image_size": 16})
    before = torch.random.get_rng_state()
    told = estimate(images, plan, DEVICES)
    assert told.seconds > 1 and told.memory > 5e8 and told.disk > 0 and set(told.stages) > {"closing"}
    assert torch.equal(before, torch.random.get_rng_state())


def test_stages_on_pictures_grow_with_their_number(drawn, monkeypatch):
    """A sample of six out of twenty-four: what looks at pictures counts four times."""
    pictures = drawn(24, 16)
    monkeypatch.setattr("coterie.fitting.estimate.SAMPLE", 6)
    monkeypatch.setattr("coterie.fitting.estimate._tried", lambda images, plan, devices, cache: ({"pretext": float(len(images))}, 8))
    _, plan = fitting.plan(pictures, "scan", clusters=3, preset="quick", settings={"image_size": 16})
    assert estimate(open_images(pictures, size=16), plan, DEVICES).stages["pretext"] == pytest.approx(24.0)
