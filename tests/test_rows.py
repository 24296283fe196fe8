"""Rows never shift: whatever is passed, a fit and a prediction have one row per item of it, those that cannot be read too."""

import csv
import json
import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from torchvision import datasets

from coterie import KMeans, load, open_images
from coterie.cli import main
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.images.items import FILE, read_items

BAD = (2, 5)  # the items that cannot be read
N = 12


def make(n_clusters=3, **more):
    return KMeans(n_clusters, settings={"image_size": 16, "restarts": 1}, device="cpu", precision="fp32", threads=1, **more)


@pytest.fixture
def files(tmp_path, drawn, monkeypatch):
    """A folder of two kinds with twelve pictures, two of them broken: one cut short, one no picture."""
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path / "cache"))
    found = []
    for i, picture in enumerate(drawn(N)):
        found.append(tmp_path / "photos" / "ab"[i >= 6] / f"{i:02}.png")
        found[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(found[-1])
    found[2].write_bytes(found[2].read_bytes()[:60])
    found[5].write_text("no picture")
    return found


class Pictures:
    """A dataset that opens its files lazily, as torch's and Hugging Face's do."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        with Image.open(self.files[i]) as image:
            return {"image": image.convert("RGB"), "label": 0}


def with_none(files, drawn):
    return [None if i in BAD else picture for i, picture in enumerate(drawn(N))]


SOURCES = {
    "paths": lambda files, drawn: list(files),
    "texts": lambda files, drawn: tuple(map(str, files)),
    "None among paths": lambda files, drawn: [None if i in BAD else file for i, file in enumerate(files)],
    "folder": lambda files, drawn: files[0].parent.parent,
    "torch ImageFolder": lambda files, drawn: datasets.ImageFolder(str(files[0].parent.parent)),
    "lazy dicts": lambda files, drawn: Pictures(files),
    "subset": lambda files, drawn: Subset(Pictures(files), range(N)),
    "encoded": lambda files, drawn: [{"image": {"bytes": file.read_bytes(), "path": None}} for file in files],
    "arrays and None": with_none,
    "PIL and NaN": lambda files, drawn: [np.full((8, 8), np.nan) if i in BAD else Image.fromarray(p) for i, p in enumerate(drawn(N))],
    "tensors and wrong shapes": lambda files, drawn: [torch.zeros(7) if i in BAD else torch.from_numpy(p) for i, p in enumerate(drawn(N))],
    "all sorts": lambda files, drawn: [str(file) if i % 2 else Pictures(files).files[i] for i, file in enumerate(files)],
    "paths and pictures": lambda files, drawn: [file if i % 2 or i in BAD else drawn(N)[i] for i, file in enumerate(files)],
}


@pytest.mark.parametrize("kind", list(SOURCES))
def test_one_row_per_item(kind, files, drawn):
    source = SOURCES[kind](files, drawn)
    model = make().fit(source)
    good = [i for i in range(N) if i not in BAD]
    pictures = [Image.fromarray(drawn(N)[i]) for i in good]
    alone = make().fit(pictures)

    assert model.labels_.shape == model.ids_.shape == (N,) and len(model.paths_) == N == len(model.probabilities_) == len(model.features_)
    assert np.flatnonzero(model.labels_ == -1).tolist() == list(BAD) and model.ids_[good].tolist() == list(range(len(good)))
    assert np.array_equal(model.labels_[good], alone.labels_) and model.labels_.dtype == np.int64
    assert np.isnan(model.probabilities_[list(BAD)]).all() and np.isfinite(model.probabilities_[good]).all()
    assert np.isnan(model.features_[list(BAD)]).all() and model.n_images_ == len(good)
    assert len(model.problems_) == 2 and all(problem.reason for problem in model.problems_)
    assert [problem.path for problem in model.problems_] == [model.paths_[i] for i in BAD]
    assert "2 of 12 pictures could not be read" in " ".join(model.health_)

    with pytest.warns(UserWarning, match="2 of 12 items could not be read; the first"):
        found = model.predict(source)
    assert np.array_equal(found, model.labels_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.flatnonzero(np.isnan(model.novelty(source))).tolist() == list(BAD)
        assert np.isnan(model.predict_proba(source)[list(BAD)]).all() and np.isnan(model.transform(source)[list(BAD)]).all()
        np.testing.assert_allclose(model.predict_proba(source)[good], alone.predict_proba(pictures), atol=1e-5)
        truth = np.arange(N) % 4
        assert model.score(source, truth) == metrics.accuracy(truth[good], model.labels_[good])


def test_rows_stay_through_saving_and_copies(files, tmp_path):
    model = make(run=str(tmp_path / "run")).fit(files)
    for other in (load(tmp_path / "run"), pickle.loads(pickle.dumps(model)), make(run=str(tmp_path / "run")).fit(files)):
        assert np.array_equal(other.labels_, model.labels_) and other.paths_ == model.paths_ == list(map(str, files))
        assert np.array_equal(other.ids_, model.ids_) and other.problems_ == model.problems_
        assert np.array_equal(other.probabilities_, model.probabilities_, equal_nan=True)
    items = read_items(tmp_path / "run", N - 2)
    assert items["id"].to_pylist() == model.ids_.tolist() and [len(one) for one in items["digest"].to_pylist()][:2] == [32, 32]
    (tmp_path / "run" / FILE).unlink()
    (tmp_path / "run" / "manifest.json").unlink(missing_ok=True)
    assert len(load(tmp_path / "run").labels_) == N - 2, "a run of an older version has the rows of its table"


def test_images_opened_before_are_their_own_items(files):
    """Who holds Images zips with images.paths, which lists those that were read."""
    images = open_images(files, 16)
    model = make().fit(images)
    assert model.paths_ == images.paths and len(model.labels_) == len(images) == N - 2 and (model.labels_ >= 0).all()
    assert len(model.problems_) == 2 and "2 of 12" in " ".join(model.health_)
    assert np.array_equal(model.predict(images), model.labels_)
    some = make().fit(images[[3, 1, 7, 0]])
    assert some.paths_ == [images.paths[i] for i in (3, 1, 7, 0)] and (some.labels_ >= 0).all()


def test_videos_in_a_list_are_rows_too(files, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"x")
    model = make().fit([files[0], tmp_path / "film.mp4", *files[6:]])
    assert model.labels_[1] == -1 and len(model.labels_) == 8


def test_whole_sources_have_nothing_to_say(drawn):
    model = make().fit(drawn(N))
    assert model.ids_.tolist() == list(range(N)) and model.problems_ == [] and not any("read" in one for one in model.health_)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(drawn(N))


def test_sources_of_nothing_but_problems():
    for source in ([None, None], [3, 4], ["nowhere.png", None], [{"x": 1}], np.array([None, None], object)):
        with pytest.raises(InputError, match="none of its"):
            open_images(source, 8)


def test_numbers_out_of_range_are_about_all_pictures(drawn):
    with pytest.raises(InputError, match=r"scale floats to \[0, 1\]"):
        make().fit([drawn(N)[0].astype(float), drawn(N)[1].astype(float)])


def test_the_command_line_says_it_too(files, tmp_path, capsys, monkeypatch):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["coterie", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        out, err = capsys.readouterr()
        return json.loads(out), err

    how = ["--method", "kmeans", "--clusters", 2, "--set", "image_size=16", "--device", "cpu", "--threads", 1]
    done, _ = run("fit", tmp_path / "photos", "-o", tmp_path / "run", *how)
    assert done["n_problems"] == 2 and done["n_images"] == 10 and "2 of 12" in " ".join(done["health"])
    done, said = run("predict", tmp_path / "run", tmp_path / "photos", "-o", tmp_path / "out.csv", "--device", "cpu")
    assert done["n_problems"] == 2 and "a/02.png" in said and "a/05.png" in said
    with open(tmp_path / "out.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(i) for i in range(10)]


# ---- parameters of any type


@pytest.mark.parametrize("n_clusters", [3, 3.0, np.int64(3), np.uint8(3), np.float32(3.0), torch.tensor(3), np.array(3)], ids=repr)
def test_whole_numbers_of_any_type(n_clusters, drawn):
    assert make(n_clusters).fit(drawn(N)).n_clusters_ == 3


@pytest.mark.parametrize(
    "change", [{"n_clusters": one} for one in ("3", 2.5, None, [3], float("nan"))] + [{"random_state": one} for one in ("0", 0.5, [1])]
)
def test_what_is_no_whole_number(change, drawn):
    name, value = next(iter(change.items()))
    with pytest.raises(InputError, match=f"{name}=.*wanted a whole number"):
        make().set_params(**change).fit(drawn(N))


def test_random_states(drawn, tmp_path):
    def seed(random_state):
        make(random_state=random_state, run=str(tmp_path / "run")).fit(drawn(N))
        found = json.loads((tmp_path / "run" / "config.json").read_text())["seed"]
        for file in (tmp_path / "run").iterdir():
            file.unlink()
        return found

    assert seed(None) == seed(0) == 0 and seed(np.int64(7)) == 7
    assert seed(np.random.RandomState(1)) == seed(np.random.RandomState(1)) != seed(np.random.RandomState(2))
    assert seed(np.random.default_rng(1)) == seed(np.random.default_rng(1)) != seed(np.random.default_rng(2))
    one = np.random.RandomState(1)
    assert seed(one) != seed(one), "as in scikit-learn: a generator moves on"


def test_read_only_arrays(drawn):
    pictures, features = drawn(N), np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    pictures.flags.writeable = features.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = make().fit(pictures)
        model.predict(pictures), model.score(pictures, np.arange(N) % 3)
        make(encoder="precomputed").fit(features).predict(features)


def test_tensors_of_features():
    rows = torch.randn(N, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for kind in (torch.bfloat16, torch.float16, torch.float64):
        assert len(make(encoder="precomputed").fit(rows.to(kind)).predict(rows.to(kind))) == N
    with pytest.raises(InputError, match="features.*dense"):
        make(encoder="precomputed").fit(rows.detach().to_sparse())
