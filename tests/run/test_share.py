"""Ranks share a batch: an update is of as many images however many there are."""

import pytest

from coterie.run.devices import Devices


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch, n", [(256, 10_000), (256, 100), (2, 3)])
def test_the_ranks_of_an_update_see_the_batch_together(world, batch, n):
    devices = Devices("cpu", "fp32", 1)
    devices.world = world
    mine, whole = devices.share(batch, n), min(batch, n)
    assert mine == max(1, whole // world) and (whole - world < mine * world <= max(whole, world))
    assert mine <= n // world or mine == 1, "no rank runs out of images before another"
