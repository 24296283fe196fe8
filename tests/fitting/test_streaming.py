"""Parts of a folder: the same rows as one table, whoever makes them and however often they are stopped."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coterie import fitting
from coterie.errors import InputError
from coterie.fitting import assignments, features, parts, streaming
from coterie.fitting.parts import Layout
from coterie.fitting.streaming import Wish
from coterie.images import stream
from coterie.run.devices import Devices

DEVICES = {"device": "cpu", "precision": "fp32", "threads": 1}
N = 150


@pytest.fixture(scope="module")
def home(tmp_path_factory, drawn):
    """A run, and a folder of pictures in which two are none."""
    home = tmp_path_factory.mktemp("stream")
    images, plan = fitting.plan(drawn(60, 16), "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 1})
    fitting.fit(images, plan, home / "run", devices=Devices(**DEVICES), cache=home / "cache")
    (home / "pictures").mkdir()
    for i, picture in enumerate(drawn(N, 20, seed=1)):
        Image.fromarray(picture).save(home / "pictures" / f"{i:03d}.png")
    (home / "pictures" / "031.png").write_text("no picture")
    (home / "pictures" / "149.png").write_text("nor this")
    return home


def sorted_into(home, folder, part_size=20, shard=(0, 1), **more) -> dict:
    todo = streaming.predict(home / "run", str(home / "pictures"), 0.05, Devices(**DEVICES), home / "cache", part_size)
    return streaming.work("predict", Wish(folder, shard), todo, **more)


@pytest.fixture(scope="module")
def whole(home):
    """The folder as one process makes it."""
    sorted_into(home, home / "whole")
    return pq.read_table(home / "whole")


def test_rows_are_those_of_one_table(home, whole):
    images, z_ND, p_NK = fitting.predict(home / "run", home / "pictures", Devices(**DEVICES), home / "cache")
    found = fitting.novelty(home / "run", z_ND)
    one = assignments.table(images.paths, p_NK, novel=found.novel_M, novelty=found.scores_M)
    assert whole.schema.names == one.schema.names and whole.schema.types == one.schema.types
    for name in ("path", "cluster", "novel"):
        assert whole[name].to_pylist() == one[name].to_pylist()
    for name in ("confidence", "novelty"):
        np.testing.assert_allclose(whole[name], one[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.stack(whole["p"].to_numpy()), np.stack(one["p"].to_numpy()), atol=1e-6)
    assert whole["id"].to_pylist() == [i for i in range(N) if i not in (31, 149)], "the place in the source"


def test_what_was_set_aside_lies_beside_the_part(home, whole):
    aside = sorted(path.name for path in (home / "whole").glob("_problems-*"))
    assert aside == ["_problems-00001.csv", "_problems-00007.csv"]
    told = (home / "whole" / aside[0]).read_text()
    assert "031.png" in told and "not a picture" in told


def test_shards_together_are_the_whole(home, whole, tmp_path):
    told = [sorted_into(home, tmp_path / "out", shard=(i, 3)) for i in (2, 0, 1)]
    assert pq.read_table(tmp_path / "out") == whole
    assert sorted(one["items"] for one in told) == [[0, 40], [40, 100], [100, 150]] and [one["parts_left"] for one in told] == [5, 3, 0]
    assert sum(one["n_images"] for one in told) == len(whole) and sum(one["n_problems"] for one in told) == 2
    apart = [pq.read_table(tmp_path / "out" / f"part-{i:05d}.parquet")["id"].to_pylist() for i in range(8)]
    assert sum(apart, []) == whole["id"].to_pylist()


@pytest.mark.parametrize("count, items, n", [(1, 1, 1), (10, 3, 7), (100, 7, 4), (5, 10, 3), (4096, 4096, 2)])
def test_every_item_is_in_one_shard(count, items, n):
    plan = Layout(count, items)
    made = [part for i in range(n) for part in plan.share((i, n))]
    assert made == list(plan.parts) and [item for part in made for item in plan.of(part)] == list(range(count))
    sizes = [len(plan.share((i, n))) for i in range(n)]
    assert max(sizes) - min(sizes) <= 1


def test_stopped_anywhere_ten_times(home, tmp_path, monkeypatch):
    """After a part was written, or before it, what was set aside or what the parts are of takes its name."""
    sorted_into(home, tmp_path / "whole", part_size=4)
    rng, out = random.Random(0), tmp_path / "out"
    write, replace = pq.write_table, parts.disk.os.replace
    stopped = 0

    def stop():
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    for _ in range(10):
        left = rng.randint(1, 4)
        what = rng.choice(["rename", "write"])
        with monkeypatch.context() as patch:
            if what == "rename":
                patch.setattr(parts.disk.os, "replace", lambda *given: (stop(), replace(*given)))
            else:
                patch.setattr(pq, "write_table", lambda *given: (write(*given), stop()))
            try:
                sorted_into(home, out, part_size=4)
            except KeyboardInterrupt:
                stopped += 1
    assert sorted_into(home, out, part_size=4)["parts_made"] > 0
    assert stopped == 10 and pq.read_table(out) == pq.read_table(tmp_path / "whole")


@pytest.mark.slow
def test_killed_ten_times(home, whole, tmp_path):
    """SIGKILL, at a random moment after a part was made."""
    out, rng = tmp_path / "out", random.Random(1)
    words = ["predict", home / "run", home / "pictures", "-o", f"{out}/", "--part-size", 3, "--threads", 1, "--precision", "fp32"]
    command = [sys.executable, "-m", "coterie", *map(str, words), "--device", "cpu"]
    killed = 0
    for _ in range(10):
        there = len(list(out.glob("part-*")))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list(out.glob("part-*"))) <= there + rng.randint(0, 3):
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert killed >= 5 and done.returncode == 0, done.stderr
    told, found = json.loads(done.stdout), pq.read_table(out)
    assert told["parts"] == 50 and told["parts_left"] == 0 and told["n_images"] == len(whole)
    for name in ("id", "path", "cluster", "novel"):
        assert found[name].to_pylist() == whole[name].to_pylist()
    np.testing.assert_allclose(np.stack(found["p"].to_numpy()), np.stack(whole["p"].to_numpy()), atol=1e-6)


def test_a_part_that_is_not_whole_is_made_again(home, whole, tmp_path):
    out = tmp_path / "out"
    sorted_into(home, out)
    part = out / "part-00002.parquet"
    for damaged in (part.read_bytes()[:-100], b"", (out / "part-00003.parquet").read_bytes()):
        part.write_bytes(damaged)
        assert sorted_into(home, out)["parts_made"] == 1 and pq.read_table(out) == whole
    assert sorted_into(home, out)["parts_made"] == 0


def test_parts_of_something_else_are_refused(home, tmp_path):
    out = tmp_path / "out"
    sorted_into(home, out, part_size=50)
    with pytest.raises(InputError, match="part-size: 50, now 20"):
        sorted_into(home, out, part_size=20)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="no folder of parts"):
        sorted_into(home, tmp_path / "full")
    (out / parts.ABOUT).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        sorted_into(home, out, part_size=50)
    with pytest.raises(InputError, match="at least 1"):
        sorted_into(home, tmp_path / "new", part_size=0)
    with pytest.raises(InputError, match="a file"):
        sorted_into(home, home / "pictures" / "000.png")


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "0/0", "1/2/3", ""])
def test_a_shard_is_one_of_n(text):
    with pytest.raises(InputError, match="I/N"):
        parts.read_shard(text)


def test_features_are_those_of_one_table(home, tmp_path):
    source, weights = str(home / "pictures"), home / "run"
    for encoder, given in (("pixels", None), ("auto", weights)):
        devices = Devices(**DEVICES)
        one = features.features(source, encoder, given, 16, devices, home / "cache")
        todo = streaming.of_encoder(source, encoder, given, 16, devices, home / "cache", part_size=40)
        streaming.work("features", Wish(tmp_path / encoder), todo)
        table = pq.read_table(tmp_path / encoder)
        assert table["path"].to_pylist() == one.paths and table.column_names == ["id", "path", "features"]
        np.testing.assert_allclose(np.stack(table["features"].to_numpy()), one.features_ND, rtol=1e-4, atol=1e-5)


def test_arrays_are_streams_too(home, drawn, tmp_path):
    np.save(tmp_path / "many.npy", drawn(50, 16, seed=3))
    todo = streaming.predict(home / "run", str(tmp_path / "many.npy"), 0.05, Devices(**DEVICES), None, 7)
    assert streaming.work("predict", Wish(tmp_path / "out"), todo)["n_images"] == 50
    assert pq.read_table(tmp_path / "out")["path"].to_pylist() == [f"#{i}" for i in range(50)]


def test_a_stream_keeps_no_pictures(home, tmp_path):
    todo = streaming.predict(home / "run", str(home / "pictures"), 0.05, Devices(**DEVICES), tmp_path / "cache", 20)
    streaming.work("predict", Wish(tmp_path / "out"), todo)
    assert not (tmp_path / "cache").exists()


def test_blocks_bound_the_memory(home, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 7 * 16 * 16 * 3)
    sizes = []
    todo = streaming.predict(home / "run", str(home / "pictures"), 0.05, Devices(**DEVICES), None, 20)
    make = todo.make
    object.__setattr__(todo, "make", lambda images: sizes.append(len(images)) or make(images))
    streaming.work("predict", Wish(tmp_path / "out"), todo)
    assert max(sizes) == 7 and sum(sizes) == len(whole)
    assert pq.read_table(tmp_path / "out")["cluster"].to_pylist() == whole["cluster"].to_pylist()


def test_deep_pictures_by_the_levels_of_the_run(tmp_path):
    """16 bits: as the run saw such ones; set aside where it saw none, since white is a matter of the whole set."""
    grey = np.linspace(0, 4000, 256, dtype=np.uint16).reshape(16, 16)
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        Image.fromarray(grey).save(tmp_path / "pictures" / f"{i}.png")
        Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(tmp_path / "pictures" / f"flat{i}.png")
    known = stream.open_stream(str(tmp_path / "pictures"), 16, levels={"integer16": (0.0, 4000.0)})
    (images,) = known.blocks([range(6)])
    assert images.paths == ["0.png", "1.png", "2.png", "flat0.png", "flat1.png", "flat2.png"] and not images.problems
    np.testing.assert_allclose(images.pixels[0, :, :, 0], grey / 4000 * 255, atol=1)
    assert (images.pixels[3:] == 9).all()
    (images,) = stream.open_stream(str(tmp_path / "pictures"), 16).blocks([range(6)])
    assert len(images) == len(images.problems) == 3 and "-o FILE.parquet" in images.problems[0].reason and (images.pixels == 9).all()
