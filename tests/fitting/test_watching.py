"""Pictures that arrive: each gets one row, what `predict` says of it, whenever the process ended."""

import csv

import numpy as np
import pytest
from PIL import Image

from coterie import fitting
from coterie.errors import InputError
from coterie.fitting import watching
from coterie.fitting.watching import Watch
from coterie.run.devices import Devices

DEVICES = Devices("cpu", "fp32", 1)
NAMES = ["b.png", "a.png", "below/=c.png", "d,é.png", "'e.png"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, drawn):
    images, plan = fitting.plan(drawn(60, 16), "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 1})
    folder = tmp_path_factory.mktemp("watch") / "run"
    fitting.fit(images, plan, folder, devices=DEVICES)
    return folder


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def arrive(place, drawn, names=NAMES):
    for name, picture in zip(names, drawn(len(names), 20, seed=1)):
        (place / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(place / name)


def begun(run, place) -> Watch:
    return Watch(run, str(place), place.parent / "out.csv", devices=DEVICES)


def looks(watch, times=2) -> list[str]:
    return [path for _ in range(times) for rows, _ in watch.look() for path in rows["path"].to_pylist()]


def written(place) -> list[dict]:
    with (place.parent / "out.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_each_picture_gets_one_row_and_what_predict_says(run, place, drawn):
    watch = begun(run, place)
    assert looks(watch) == [] and not (place.parent / "out.csv").exists()
    arrive(place, drawn)
    assert looks(watch, 1) == [], "a file that was not there before may still be written"
    assert sorted(looks(watch)) == sorted(NAMES) and looks(watch) == []
    images, z_ND, p_NK = fitting.predict(run, place, DEVICES)
    known = dict(zip(images.paths, zip(p_NK.argmax(1).tolist(), fitting.novelty(run, z_ND).novel_M.tolist())))
    rows = written(place)
    assert [row["id"] for row in rows] == list("01234")
    assert {watching.path_of(row["path"]): (int(row["cluster"]), row["novel"] == "true") for row in rows} == known


def test_it_goes_on_after_an_end_in_the_middle_of_a_row(run, place, drawn):
    arrive(place, drawn)
    assert len(looks(begun(run, place))) == 5
    whole = (place.parent / "out.csv").read_bytes()
    for cut, count in ((whole[:-9], 4), (whole[:7], 0), (b"", 0)):
        (place.parent / "out.csv").write_bytes(cut)
        again = begun(run, place)
        assert again.count == count and len(looks(again)) == 5 - count
        assert (place.parent / "out.csv").read_bytes() == whole


def test_a_file_still_being_written_waits_and_one_that_cannot_be_read_is_told_once(run, place, drawn):
    watch = begun(run, place)
    arrive(place, drawn, ["a.png"])
    content = (place / "a.png").read_bytes()
    (place / "a.png").write_bytes(content[:60])
    assert looks(watch, 1) == []
    (place / "a.png").write_bytes(content[:90])
    assert looks(watch, 1) == [], "it grew"
    told = [problems for _ in range(3) for _, problems in watch.look()]
    assert len(told) == 1 and told[0][0].path == "a.png"
    (place / "a.png").write_bytes(content)
    assert looks(watch) == ["a.png"]


def test_blocks_are_bounded(run, place, drawn, monkeypatch):
    monkeypatch.setattr(watching, "block_of", lambda size: 2)
    arrive(place, drawn)
    watch = begun(run, place)
    assert [len(rows) for _ in range(2) for rows, _ in watch.look()] == [2, 2, 1]
    assert [row["id"] for row in written(place)] == list("01234")


def test_bad_input(run, place, tmp_path):
    for folder, name, said in ((tmp_path / "none", "out.csv", "no folder"), (place, "out.parquet", ".csv")):
        with pytest.raises(InputError, match=said):
            Watch(run, str(folder), tmp_path / name, devices=DEVICES)
    for text in ("id,path\n0,a.png\n", "a\nlist", "no line"):
        (tmp_path / "other.csv").write_text(text)
        with pytest.raises(InputError, match="no predictions of this run"):
            Watch(run, str(place), tmp_path / "other.csv", devices=DEVICES)
        assert (tmp_path / "other.csv").read_text() == text, "nothing of it is lost"
    images, plan = fitting.plan(np.eye(30, 4, dtype=np.float32), "kmeans", clusters=2, settings={"encoder": "precomputed"})
    fitting.fit(images, plan, tmp_path / "rows", devices=DEVICES)
    with pytest.raises(InputError, match="fitted on features"):
        Watch(tmp_path / "rows", str(place), tmp_path / "out.csv", devices=DEVICES)
