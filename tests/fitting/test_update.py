"""Runs with pictures added: clusters keep who they are, planted kinds are proposed, and every verb reads what is written."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from coterie import fitting, load
from coterie.errors import InputError
from coterie.evaluate.protocol import evaluate
from coterie.export import export
from coterie.fitting.recut import recut
from coterie.fitting.update import update
from coterie.images.items import read_items
from coterie.report import page
from coterie.run import manifest
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_assignments, read_features, read_json, read_rows, read_trace

DEVICES = Devices("cpu", "fp32", 1)
KINDS, EACH, MORE = 5, 14, 12  # kinds of pictures, the last of them new; of each fitted, and new


def picture(kind, number):
    """24 x 24: one of some coarse patterns, and noise."""
    pattern = np.random.default_rng((7, kind)).integers(30, 200, (6, 6, 3)).repeat(4, 0).repeat(4, 1)
    return (pattern + np.random.default_rng((kind, number)).integers(0, 50, (24, 24, 3))).astype(np.uint8)


def write(folder, kinds, numbers):
    for kind in kinds:
        for number in numbers:
            path = folder / f"kind{kind}" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(kind, number)).save(path)
    return folder


def fitted(folder, source, clusters=KINDS - 1, **settings):
    images, plan = fitting.plan(
        source, "kmeans", clusters=clusters, preset="quick", settings={"restarts": 3, "image_size": 24, **settings}, cache=folder / "cache"
    )
    fitting.fit(images, plan, folder / "run", devices=DEVICES)
    return folder


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """`old` with four kinds and a `run` on it; `new` with five, of which two pictures stand in `old`, and one that is broken."""
    folder = tmp_path_factory.mktemp("house")
    write(folder / "old", range(KINDS - 1), range(EACH))
    write(folder / "new", range(KINDS), range(EACH, EACH + MORE))
    for kind in (0, 2):
        shutil.copy(folder / "old" / f"kind{kind}" / "00.png", folder / "new" / f"kind{kind}" / "again.png")
    (folder / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    fitted(folder, folder / "old")
    told = update(folder / "run", folder / "new", folder / "left", devices=DEVICES, cache=folder / "cache")
    (folder / "left.json").write_text(json.dumps(told))
    told = update(folder / "run", folder / "new", folder / "grown", new_kinds=True, devices=DEVICES, cache=folder / "cache")
    (folder / "grown.json").write_text(json.dumps(told))
    return folder


def labels(run):
    return read_assignments(run)["cluster"].to_numpy()


def paths(run):
    return read_assignments(run)["path"].to_pylist()


def kind_of(run):
    return np.array([int(path.split("kind")[1][0]) for path in paths(run)])


N, M = (KINDS - 1) * EACH, KINDS * MORE


def test_rows_of_the_run_stay_and_the_new_ones_follow(house):
    old, new = read_assignments(house / "run"), read_assignments(house / "left")
    assert new.slice(0, N).equals(old) and len(new) == N + M
    assert paths(house / "left")[N:] == [f"new/kind{k}/{i:02d}.png" for k in range(KINDS) for i in range(EACH, EACH + MORE)]
    assert np.array_equal(read_features(house / "left", N + M)[:N], read_features(house / "run", N))
    told = json.loads((house / "left.json").read_text())
    assert (told["n_added"], told["n_already"], told["n_set_aside"], told["moved"]) == (M, 2, 1, 0)
    assert told["n_clusters"] == told["n_clusters_before"] == 4
    assert (house / "left" / "model.safetensors").read_bytes() == (house / "run" / "model.safetensors").read_bytes()


def test_new_pictures_go_where_predict_puts_them_or_nowhere(house):
    images, z_MD, p_MK = fitting.predict(house / "run", house / "new", DEVICES, house / "cache")
    novel_M = fitting.novelty(house / "run", z_MD).novel_M.numpy()
    mine = [i for i, path in enumerate(images.paths) if "again" not in path]
    wanted = np.where(novel_M, -1, p_MK.argmax(1).numpy())[mine]
    assert (labels(house / "left")[N:] == wanted).all()
    np.testing.assert_allclose(probabilities(read_assignments(house / "left"))[N:], p_MK[mine], atol=1e-5)
    kinds_N, labels_N = kind_of(house / "left"), labels(house / "left")
    for kind in range(KINDS - 1):
        assert len({*labels_N[kinds_N == kind]} - {-1}) == 1
    assert (labels_N[kinds_N == KINDS - 1] == -1).all()


def test_a_kind_of_its_own_is_told_and_on_demand_a_cluster(house):
    told, grown = (json.loads((house / f"{name}.json").read_text()) for name in ("left", "grown"))
    (waiting,), (kind,) = told["kinds"], grown["kinds"]
    assert waiting["n"] == MORE and {i - N - 4 * MORE for i in waiting["ids"]} == {*range(MORE)} and "cluster" not in waiting
    assert kind["cluster"] == 4 and kind["size"] == MORE and kind["own"] > 0.9
    health = read_json(house / "left" / "environment.json")["health"]
    assert any("--new-kinds" in warning for warning in health)
    assert not any("--new-kinds" in warning for warning in read_json(house / "grown" / "environment.json")["health"])
    labels_N, before_N = labels(house / "grown"), labels(house / "left")
    assert (labels_N[kind_of(house / "grown") == 4] == 4).all() and (labels_N[:N] == before_N[:N]).all()
    assert read_json(house / "grown" / "config.json")["settings"]["n_clusters"] == 5


def test_the_grown_model_sorts_as_the_run_says(house):
    p_NK = probabilities(read_assignments(house / "grown"))
    np.testing.assert_allclose(p_NK.sum(1), 1, atol=1e-5)
    images, z_MD, p_MK = fitting.predict(house / "grown", house / "new", DEVICES, house / "cache")
    mine = [i for i, path in enumerate(images.paths) if "again" not in path]
    np.testing.assert_allclose(p_MK[mine], p_NK[N:], atol=1e-3)  # rows are kept in half precision
    assert not fitting.novelty(house / "grown", z_MD[[i for i in mine if "kind4" in images.paths[i]]]).novel_M.float().mean() > 0.4
    assert fitting.novelty(house / "left", z_MD[[i for i in mine if "kind4" in images.paths[i]]]).novel_M.all(), "not known yet"


def test_the_run_is_untouched_and_the_same_again_has_the_same_bits(house, tmp_path):
    before = {path.name: path.read_bytes() for path in (house / "run").iterdir() if path.is_file()}
    update(house / "run", house / "new", tmp_path / "grown", new_kinds=True, devices=DEVICES, cache=house / "cache")
    assert {path.name: path.read_bytes() for path in (house / "run").iterdir() if path.is_file()} == before
    for name in ("assignments.parquet", "items.parquet", "problems.csv", "history.jsonl", "hierarchy.json"):
        assert (tmp_path / "grown" / name).read_bytes() == (house / "grown" / name).read_bytes(), name
    assert [path.name for path in tmp_path.iterdir()] == ["grown"]


@pytest.mark.parametrize("name", ["left", "grown"])
def test_every_verb_reads_it(house, tmp_path, name):
    run, k = house / name, {"left": 4, "grown": 5}[name]
    manifest.check_run(run)
    text = page.write(run, tmp_path / "report.html").read_text()
    assert "pictures of new added" in text and str(house) not in text and text.count("data-image-id") >= 60
    assert fitting.show(run)["source"] == "old + new" and fitting.summary(run)["n_problems"] == 1
    scores = evaluate(run, "folders", ["clusters", "knn"])
    assert scores["n_images"] == N + M and scores["n_classes"] == KINDS and scores["baseline_acc"] > 0.9
    assert scores["acc"] > (0.8 if name == "left" else 0.99)
    done = export(run, "folders", tmp_path / "sorted")
    assert done.n_images == N + M and not done.aside
    assert sum(path.is_file() for path in (tmp_path / "sorted").rglob("*")) == N + M
    new = tmp_path / "sorted" / {"left": "unsure", "grown": "cluster_04"}[name]
    assert {path.read_bytes() for path in new.iterdir()} >= {path.read_bytes() for path in (house / "new" / "kind4").iterdir()}
    recut(run, tmp_path / "recut", k - 1)
    assert len(labels(tmp_path / "recut")) == N + M
    model = load(run)
    assert len(model.labels_) == N + M + 1 and model.predict(np.stack([picture(0, 99)]))[0] == labels(run)[0]


def test_what_is_kept_of_both(house):
    items = read_items(house / "left", N + M)
    assert len(items) == N + M + 1 and items["path"].to_pylist()[N:].count("new/broken.png") == 1
    reasons = {row["path"]: row["reason"] for row in read_rows(house / "left" / "problems.csv")}
    assert reasons["new/kind0/again.png"] == "read, but the run has it already, as kind0/00.png" and "new/broken.png" in reasons
    for found in read_trace(house / "left", N + M, "baseline-pixels").values():
        assert (found[..., N:] == -1).all() and (found[..., :N] >= 0).all()
    source = read_json(house / "left" / "config.json")["source"]
    assert [(part["prefix"], part["n_images"]) for part in source["parts"]] == [("", N), ("new", M)]
    assert "pictures of new added" in (house / "left" / "history.jsonl").read_text().splitlines()[-1]


def test_what_was_left_out_joins_what_comes_later(house, tmp_path):
    """Six of a kind are too few; with six more they are one."""
    some = write(tmp_path / "new", [4], range(40, 46))
    told = update(house / "run", some, tmp_path / "one", new_kinds=True, devices=DEVICES, cache=house / "cache")
    assert told["kinds"] == [] and told["n_novel"] == 6
    more = write(tmp_path / "more" / "new", [4], range(46, 52))
    told = update(tmp_path / "one", more, tmp_path / "two", new_kinds=True, devices=DEVICES, cache=house / "cache")
    (kind,) = told["kinds"]
    assert kind["n"] == 12 and kind["size"] == 12 and (labels(tmp_path / "two")[N:] == 4).all() and told["moved"] == 0
    assert paths(tmp_path / "two")[N:] == [f"new/kind4/{i}.png" for i in range(40, 46)] + [f"new-2/kind4/{i}.png" for i in range(46, 52)]
    assert export(tmp_path / "two", "folders", tmp_path / "sorted").n_images == N + 12
    shutil.move(tmp_path / "more", tmp_path / "moved")
    with pytest.raises(InputError, match="bring it back, or say with --source"):
        export(tmp_path / "two", "folders", tmp_path / "again")
    with pytest.raises(InputError, match="this run has 3 sources"):
        export(tmp_path / "two", "folders", tmp_path / "again", tmp_path / "moved" / "new")
    places = [house / "old", tmp_path / "new", tmp_path / "moved" / "new"]
    assert export(tmp_path / "two", "folders", tmp_path / "again", places).n_images == N + 12
    with pytest.raises(InputError, match="lies inside the pictures' own folder"):
        export(tmp_path / "two", "folders", tmp_path / "new" / "here", places)


def test_a_folder_that_grew_and_nothing_new(house, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(house / "old", folder)
    shutil.copytree(house / "run", tmp_path / "run")
    made = read_json(tmp_path / "run" / "config.json")
    made["source"]["path"] = str(folder)
    (tmp_path / "run" / "config.json").write_text(json.dumps(made))
    manifest.record(tmp_path / "run" / "config.json")
    told = update(tmp_path / "run", folder, tmp_path / "none", devices=DEVICES, cache=house / "cache")
    assert told["n_added"] == 0 and told["n_already"] == N and (labels(tmp_path / "none") == labels(house / "run")).all()
    page.write(tmp_path / "none")
    write(folder, [1], [60])
    Image.fromarray(picture(0, 61)).save(folder / "kind0" / "00.png")  # another picture in the place of one of the run
    told = update(tmp_path / "run", folder, tmp_path / "one", devices=DEVICES, cache=house / "cache")
    assert (told["n_added"], told["n_already"], told["n_set_aside"]) == (1, N - 1, 1)
    assert paths(tmp_path / "one")[N:] == ["kind1/60.png"]
    assert any("another picture of this name" in row["reason"] for row in read_rows(tmp_path / "one" / "problems.csv"))


def test_arrays(tmp_path):
    kinds = np.arange(4).repeat(15)
    np.save(tmp_path / "a.npy", np.stack([picture(kind, i) for i, kind in enumerate(kinds)]))
    np.save(tmp_path / "b.npy", np.stack([picture(kind, 100 + i) for i, kind in enumerate(kinds)]))
    fitted(tmp_path, tmp_path / "a.npy")
    update(tmp_path / "run", tmp_path / "b.npy", tmp_path / "new", devices=DEVICES)
    assert paths(tmp_path / "new")[60:62] == ["b.npy/#0", "b.npy/#1"]
    assert export(tmp_path / "new", "folders", tmp_path / "sorted").n_images == 120
    with pytest.raises(InputError, match=r"--labels folders"):
        evaluate(tmp_path / "new", "folders", ["clusters"])


def test_seeds_keep_how_alike_they_are(house, tmp_path):
    images, plan = fitting.plan(
        house / "old", "kmeans", clusters=4, preset="quick", settings={"restarts": 1, "image_size": 24}, seeds=2, cache=house / "cache"
    )
    fitting.fit(images, plan, tmp_path / "run", devices=DEVICES)
    update(tmp_path / "run", house / "new", tmp_path / "new", devices=DEVICES, cache=house / "cache")
    assert fitting.summary(tmp_path / "new")["seeds_alike"] == fitting.summary(tmp_path / "run")["seeds_alike"]


def test_refused(house, tmp_path):
    np.save(tmp_path / "a.npy", np.stack([picture(0, 0)] * 3))
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    images, plan = fitting.plan(rows, "kmeans", clusters=2, preset="quick", settings={"encoder": "precomputed"})
    fitting.fit(images, plan, tmp_path / "rows", devices=DEVICES)
    shutil.copytree(house / "run", tmp_path / "begun", ignore=shutil.ignore_patterns("manifest.json", "assignments.parquet"))
    for run, source, output, says in (
        (house / "nowhere", house / "new", tmp_path / "out", "there is no run folder"),
        (tmp_path / "begun", house / "new", tmp_path / "out", "not a finished run"),
        (tmp_path / "rows", house / "new", tmp_path / "out", "was fitted on features"),
        (house / "run", tmp_path / "a.npy", tmp_path / "out", r"another kind \(array\) than old \(folder\)"),
        (house / "run", house / "nothing", tmp_path / "out", "does not exist"),
        (house / "run", house / "new", house / "run", "is not empty"),
        (house / "run", house / "new", tmp_path / "a.npy", "is a file"),
    ):
        with pytest.raises(InputError, match=says) as error:
            update(run, source, output, devices=DEVICES, cache=house / "cache")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="--false-alarms 0"):
        update(house / "run", house / "new", tmp_path / "out", false_alarms=0.0, devices=DEVICES)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".coterie*"))
