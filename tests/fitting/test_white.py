"""The white of deep pictures is a setting, is said, and stays with the run: new pictures are seen as the fitted ones were."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from coterie import InputError, KMeans, load, open_images
from coterie.cli.verbs import app
from coterie.fitting import plan, predict
from coterie.run.devices import Devices

typer_testing = pytest.importorskip("typer.testing")


def deep(folder, tops, seed=0):
    """A 16-bit PNG a top: noise from 0 to it."""
    folder.mkdir()
    for i, top in enumerate(tops):
        values = np.random.default_rng(seed + i).integers(0, top + 1, (16, 16)).astype(np.uint16)
        values[0, 0] = top
        Image.fromarray(values).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COTERIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, cache):
    source, run = deep(tmp_path_factory.mktemp("white") / "p", [4095, 1000] * 6), tmp_path_factory.mktemp("white") / "run"
    return source, run, KMeans(2, settings={"image_size": 16, "encoder": "pixels"}, run=str(run)).fit(source)


def test_the_note_and_the_levels_stay_with_the_run(fitted):
    _, run, model = fitted
    notes = [row["text"] for row in model.history_ if row["stage"] == "note"]
    assert len(notes) == 1 and "4095 as white" in notes[0]
    made = json.loads((run / "config.json").read_text())
    assert made["source"]["levels"] == {"integer16": [0.0, 4095.0]} and made["settings"]["white"] == 0.0
    assert not any("8 bits" in worry for worry in model.health_)


def test_new_pictures_have_the_white_of_the_fitted_ones(fitted, tmp_path):
    _, run, model = fitted
    dark = deep(tmp_path / "dark", [1000] * 4, seed=50)  # alone, they would be as light as the light ones are
    images, _, _ = predict(run, dark, Devices("cpu"))
    assert images.levels == {"integer16": (0.0, 4095.0)} and int(images.pixels.max()) == round(1000 / 4095 * 255)
    assert set(model.predict(dark)) == {model.labels_[1]} != {model.labels_[0]}
    assert (load(run).predict(dark) == model.predict(dark)).all()


def test_white_is_a_setting(fitted, tmp_path):
    source, _, _ = fitted
    images, planned = plan(source, "kmeans", clusters=2, settings={"white": "8190", "image_size": 16, "encoder": "pixels"})
    assert planned.config.white == 8190.0 and images.levels == {"integer16": (0.0, 8190.0)} and int(images.pixels.max()) == 128


def test_pictures_opened_with_another_white_are_another_fit(fitted):
    source, run, _ = fitted
    with pytest.raises(InputError, match="black and white of its pictures.*4095.*8190"):
        KMeans(2, settings={"image_size": 16, "encoder": "pixels"}, run=str(run)).fit(open_images(source, 16, white=8190.0))


def test_the_terminal_says_it_and_so_does_predict(fitted, tmp_path):
    source, run, _ = fitted
    made = typer_testing.CliRunner().invoke(app, ["predict", str(run), str(source), "-o", str(tmp_path / "o.csv")])
    assert made.exit_code == 0 and "4095 as white (as in the fitted set)" in made.stderr
    again = ["fit", str(source), "-o", str(tmp_path / "run2"), "--method", "kmeans", "--clusters", "2", "--set", "white=20000"]
    made = typer_testing.CliRunner().invoke(app, again)
    assert made.exit_code == 0 and "20000 as white (as --set white says)" in made.stderr


def test_problems_csv_says_what_was_wrong_and_what_was_skipped(tmp_path):
    source = deep(tmp_path / "p", [9, 99])
    (source / "a.dcm").write_bytes(bytes(128) + b"DICM")
    for name in ("a.mp4", "b.nef", "c.nef"):
        (source / name).write_bytes(b"x")
    KMeans(2, settings={"image_size": 16, "encoder": "pixels"}, run=str(tmp_path / "run")).fit(source)
    with open(tmp_path / "run" / "problems.csv", newline="") as file:
        _, problem, *skipped = csv.reader(file)
    assert problem[0] == "a.dcm" and "DICOM" in problem[1] and "export it" in problem[1]
    assert ["(1 files)", "skipped: video; export frames of them as JPEG"] in skipped and len(skipped) == 2
    assert ["(2 files)", "skipped: raw; develop them to JPEG or TIFF"] in skipped
