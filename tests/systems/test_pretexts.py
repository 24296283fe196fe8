"""Each pretext task learns on tiny pictures, gives the same bits twice, and continues after a kill."""

from typing import get_args

import pytest
import torch

from coterie import fitting
from coterie.methods import pretext
from coterie.methods.pretext import Pretext, PretextConfig, moco
from coterie.networks.encoder import features
from coterie.run import Run
from coterie.run.devices import Devices

pytestmark = pytest.mark.systems
SETTINGS = {"image_size": 16, "pretext_epochs": 6, "pretext_batch": 32, "pretext_rate": 2e-3, "queue": 64, "momentum": 0.9}
MUON = {"pretext_optimizer": "muon", "pretext_rate": 0.02}


def trained(images, folder, name, stop_after=None, **more):
    run = Run(folder, seed=0, devices=Devices("cpu", "fp32", 1))
    if stop_after is not None:
        log = run.log

        def interrupted(**scalars):
            log(**scalars)
            if len(run.history) > stop_after:
                raise KeyboardInterrupt

        run.log = interrupted
    encoder = pretext.train(images, PretextConfig(pretext=name, **SETTINGS | more), run)
    return features(encoder, images, run), [row["loss"] for row in run.history]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 60, (96, 16, 16, 3), generator=generator, dtype=torch.uint8)
    for i in range(96):
        noise[i, 4 * (i % 4) : 4 * (i % 4) + 4, :, i % 3] += 150
    return fitting.plan(noise.numpy(), "kmeans", clusters=4, settings={"image_size": 16})[0]


@pytest.mark.parametrize("name, more", [*((name, {}) for name in get_args(Pretext)[:-1]), ("simclr", MUON)])
def test_loss_falls_bits_repeat_and_a_kill_changes_nothing(images, name, more, tmp_path):
    z, losses = trained(images, tmp_path / "whole", name, **more)
    first = losses[1] if name == "moco" else losses[0]  # MoCo's queue holds random directions, easily told apart, for an epoch
    assert losses[-1] < first and z.isfinite().all() and z.std(0).max() > 1e-3
    with pytest.raises(KeyboardInterrupt):
        trained(images, tmp_path / "cut", name, 1, **more)
    again, _ = trained(images, tmp_path / "cut", name, **more)
    assert torch.equal(z, again)


def test_no_query_of_moco_is_told_from_a_key_of_its_own_image(images, monkeypatch):
    """However small the set: with a queue as long as it, most images have a key of an epoch before there."""
    asked, info_nce, queues = [], moco.info_nce, []
    make = moco.Queue
    monkeypatch.setattr(moco, "Queue", lambda *args: queues.append(make(*args)) or queues[-1])
    monkeypatch.setattr(moco, "info_nce", lambda *args: asked.append(args[-1]) or info_nce(*args))
    drawn, gather = [], Run.gather

    def seen(run, rows):
        if rows.dtype == torch.int64:
            drawn.append((rows.clone(), queues[0].ids_M.clone()))
        return gather(run, rows)

    monkeypatch.setattr(Run, "gather", seen)
    settings = SETTINGS | {"pretext_epochs": 3, "queue": 96}
    moco.train(fitting_encoder(images, settings), images, PretextConfig(pretext="moco", **settings), Run(devices=Devices("cpu", "fp32")))
    own = [ids_M == index_B[:, None] for index_B, ids_M in drawn]
    assert len(asked) == 9 and all(torch.equal(got, want) for got, want in zip(asked, own, strict=True))
    assert not any(mask.any() for mask in own[:3]) and sum(int(mask.sum()) for mask in own[3:]) > 96


def fitting_encoder(images, settings):
    """An encoder as it starts."""
    return pretext.train(images, PretextConfig(**settings | {"pretext_epochs": 0}), Run(devices=Devices("cpu", "fp32")))
