"""-o FOLDER/: parts from the command line."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from coterie import fitting
from coterie.run.devices import Devices


@pytest.fixture
def home(tmp_path, drawn):
    images, plan = fitting.plan(drawn(40, 16), "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 1})
    fitting.fit(images, plan, tmp_path / "run", devices=Devices("cpu", "fp32", 1), cache=tmp_path / "cache")
    np.save(tmp_path / "new.npy", drawn(30, 16, seed=1))
    return tmp_path


def test_parts_and_shards(coterie, home):
    words = ["predict", "run", "new.npy", "-o", "out/", "--part-size", 8, "--threads", 1]
    status, out, _ = coterie(*words, "--shard", "1/2", "--json")
    told = json.loads(out)
    assert status == 0 and told["items"] == [16, 30] and told["n_images"] == 14 and told["parts_left"] == 2
    status, out, _ = coterie(*words, "--shard", "0/2")
    assert status == 0 and "items 0 to 15 of 30" in out and "left" not in out
    status, out, _ = coterie(*words)
    assert status == 0 and "4 parts, 0 of them made now" in out
    assert coterie("predict", "run", "new.npy", "-o", "one.parquet", "--threads", 1)[0] == 0
    assert pq.read_table("out")["cluster"] == pq.read_table("one.parquet")["cluster"]
    assert coterie("features", "new.npy", "--encoder", "pixels", "-o", "z/", "--threads", 1)[0] == 0
    assert pq.read_table("z").num_rows == 30


@pytest.mark.parametrize(
    "more, said",
    [
        (["-o", "x.csv", "--shard", "0/2"], "-o x/"),
        (["-o", "x.parquet", "--part-size", 5], "-o x/"),
        (["-o", "x/", "--shard", "2/2"], "I/N"),
        (["-o", "x/", "--part-size", 0], "--part-size 0"),
        (["-o", "new.npy/"], "a file"),
        (["-o", "x"], ".parquet or .csv"),
        (["-o", "x/", "--false-alarms", "2"], "--false-alarms"),
    ],
)
def test_what_makes_no_sense_is_one_line(coterie, home, more, said):
    status, _, err = coterie("predict", "run", "new.npy", *more)
    assert status == 2 and said in err and len(err.strip().splitlines()) == 1 and not Path("x").exists()
