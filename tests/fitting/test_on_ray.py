"""Parts made by the workers of a cluster on this machine: the rows of one process, also when a worker is killed."""

import os
import signal
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coterie import fitting
from coterie.errors import InputError
from coterie.fitting import on_ray, streaming
from coterie.fitting.streaming import Recipe, Wish
from coterie.run.devices import Devices

pytestmark = pytest.mark.slow
N = 400


@pytest.fixture(scope="module")
def ray():
    found = pytest.importorskip("ray", reason="ray is not installed: pip install coterie[ray]")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")  # a busy machine
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory, drawn):
    home = tmp_path_factory.mktemp("ray")
    images, plan = fitting.plan(drawn(60, 16), "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 1})
    fitting.fit(images, plan, home / "run", devices=Devices("cpu", "fp32", 1), cache=home / "cache")
    (home / "pictures").mkdir()
    for i, picture in enumerate(drawn(N, 20, seed=1)):
        Image.fromarray(picture).save(home / "pictures" / f"{i:03d}.png")
    (home / "pictures" / "031.png").write_text("no picture")
    return home


@pytest.fixture
def recipe(home):
    given = {"folder": home / "run", "source": str(home / "pictures"), "part_size": 10}
    return Recipe("predict", given, "cpu", "fp32")


def workers() -> list[int]:
    """The processes of ray that make parts."""
    found = []
    for place in os.listdir("/proc"):
        try:
            with open(f"/proc/{place}/cmdline", "rb") as file:
                found += [int(place)] * file.read().startswith(b"ray::Worker")
        except (OSError, ValueError):
            continue
    return found


def test_two_workers_one_of_which_is_killed(ray, home, recipe, tmp_path, monkeypatch):
    streaming.work("predict", Wish(tmp_path / "one"), recipe.work())
    began, killed, over = ray.init, [], threading.Event()
    monkeypatch.setattr(ray, "init", lambda address, **more: began(address, num_cpus=2, **more))

    def kill() -> None:
        """One of the workers, when some parts are there and some are not."""
        while not (killed or over.is_set()):
            there = len(list((tmp_path / "two").glob("part-*")))
            if 2 <= there < 38 and (found := workers()):
                os.kill(found[0], signal.SIGKILL)
                killed.append(there)
            time.sleep(0.002)

    hand = threading.Thread(target=kill, daemon=True)
    hand.start()
    try:
        told = on_ray.work("local", Wish(tmp_path / "two"), recipe)
    finally:
        over.set()
        hand.join()
    assert killed, "no worker was seen while parts were made"
    assert told["n_images"] == N - 1 and told["n_problems"] == 1 and told["parts_left"] == 0
    one, two = pq.read_table(tmp_path / "one"), pq.read_table(tmp_path / "two")
    assert two["id"].to_pylist() == one["id"].to_pylist() and two["cluster"] == one["cluster"] and two["novel"] == one["novel"]
    np.testing.assert_allclose(np.stack(two["p"].to_numpy()), np.stack(one["p"].to_numpy()), atol=1e-6)
    assert on_ray.work("local", Wish(tmp_path / "two"), recipe)["parts_made"] == 0, "nothing is started when all is there"


@pytest.mark.parametrize("address", ["here", "http://host:1", ""])
def test_an_address_is_one_of_ray(ray, recipe, tmp_path, address):
    with pytest.raises(InputError, match="local, or the address"):
        on_ray.work(address, Wish(tmp_path / "out"), recipe)
    assert not (tmp_path / "out").exists()
