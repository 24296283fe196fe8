"""Work of the workers of a cluster on this machine: the rows of one process, also when a worker is killed."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.systems.runs import TINY, bits, outcome

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


@pytest.fixture(scope="module")
def two(ray):
    """Whatever the machine has, the cluster is of two cores; and one for all tests, for to start one takes a while."""
    began, ended, patch = ray.init, ray.shutdown, pytest.MonkeyPatch()
    patch.setattr(ray, "init", lambda address, **more: ray.is_initialized() or began(address, num_cpus=2, **more))
    patch.setattr(ray, "shutdown", lambda: None)
    yield
    patch.undo()
    ended()


def workers() -> list[int]:
    """The processes of ray that work for us."""
    found = []
    for place in os.listdir("/proc"):
        try:
            with open(f"/proc/{place}/cmdline", "rb") as file:
                found += [int(place)] * file.read().startswith(b"ray::Worker")
        except (OSError, ValueError):
            continue
    return found


@contextmanager
def one_killed(is_time):
    """Within it a worker is killed, once, as soon as it is time."""
    killed, over = [], threading.Event()

    def kill() -> None:
        while not (killed or over.is_set()):
            if is_time() and (found := workers()):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
            time.sleep(0.002)

    hand = threading.Thread(target=kill, daemon=True)
    hand.start()
    try:
        yield
    finally:
        over.set()
        hand.join()
    assert killed, "no worker was seen while there was work"


def test_two_workers_one_of_which_is_killed(two, home, recipe, tmp_path):
    streaming.work("predict", Wish(tmp_path / "one"), recipe.work())
    with one_killed(lambda: 2 <= len(list((tmp_path / "two").glob("part-*"))) < 38):
        told = on_ray.work("local", Wish(tmp_path / "two"), recipe)
    assert told["n_images"] == N - 1 and told["n_problems"] == 1 and told["parts_left"] == 0
    one, two = pq.read_table(tmp_path / "one"), pq.read_table(tmp_path / "two")
    assert two["id"].to_pylist() == one["id"].to_pylist() and two["cluster"] == one["cluster"] and two["novel"] == one["novel"]
    np.testing.assert_allclose(np.stack(two["p"].to_numpy()), np.stack(one["p"].to_numpy()), atol=1e-6)
    assert on_ray.work("local", Wish(tmp_path / "two"), recipe)["parts_made"] == 0, "nothing is started when all is there"


def test_a_fit_on_two_workers_one_of_which_is_killed(two, home, tmp_path):
    """k-means finds what one process finds; an encoder, trained while a worker is killed, ends in the same bits as on two left alone."""

    def fit(method: str, folder: Path) -> dict:
        given = {"source": str(home / "pictures"), "method": method, "clusters": 4, "preset": "quick", "settings": TINY[method]}
        return on_ray.fit("local", on_ray.Fit(folder, given, "cpu", "fp32", cache=home / "cache"))

    told = fit("kmeans", tmp_path / "two")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0", "nothing leaves the machine"
    images, plan = fitting.plan(home / "pictures", "kmeans", clusters=4, preset="quick", settings=TINY["kmeans"], cache=home / "cache")
    assert fitting.fit(images, plan, tmp_path / "one", devices=Devices("cpu", "fp32", 1))["sizes"] == told["sizes"]
    for one, other in zip(outcome(tmp_path / "one"), outcome(tmp_path / "two"), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    history = tmp_path / "killed" / "history.jsonl"
    fit("scan", tmp_path / "left alone")
    with one_killed(lambda: history.exists() and history.read_text().count("\n") >= 3):
        fit("scan", tmp_path / "killed")
    assert bits(tmp_path / "killed") == bits(tmp_path / "left alone")


def test_the_history_of_a_fit_that_goes_on_is_read_up_to_its_last_whole_line(tmp_path):
    history = tmp_path / "history.jsonl"
    assert on_ray._epochs(history) == []
    history.write_text('{"stage": "note", "text": "a"}\n{"stage": "pretext", "epoch": 0}\n{"stage": "pretext", "ep')
    assert on_ray._epochs(history) == [{"stage": "pretext", "epoch": 0}]


def test_what_is_wrong_with_a_fit_is_said_as_ever(two, home, tmp_path):
    given = {"source": str(home / "pictures"), "method": "kmeans", "settings": {"restart": 3}}
    with pytest.raises(InputError, match="restarts"):
        on_ray.fit("local", on_ray.Fit(tmp_path / "run", given, "cpu", "fp32"))


def test_a_rank_starts_no_cluster(ray, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="without torchrun"):
        on_ray.fit("local", on_ray.Fit(tmp_path / "run", {"source": "digits"}))


@pytest.mark.parametrize("address", ["here", "http://host:1", ""])
def test_an_address_is_one_of_ray(ray, recipe, tmp_path, address):
    with pytest.raises(InputError, match="local, or the address"):
        on_ray.work(address, Wish(tmp_path / "out"), recipe)
    assert not (tmp_path / "out").exists()
