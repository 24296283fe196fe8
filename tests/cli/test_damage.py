"""A finished run with a damaged file: each verb gives what it gave before, or one line that names the file. Never a traceback, never
another result."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from coterie import fitting, load
from coterie.errors import InputError
from coterie.evaluate.protocol import evaluate
from coterie.export import export
from coterie.fitting import assignments
from coterie.fitting.recut import recut as make_again
from coterie.report import page
from coterie.run import manifest
from coterie.run.devices import Devices

DEVICES = {"device": "cpu", "precision": "fp32", "threads": 1}
FILES = (*manifest.FITTED, "map.parquet", "metrics.json", "hierarchy.json", manifest.NAME)
MAY_BE_MISSING = {manifest.NAME, "metrics.json", "hierarchy.json"}
FLIPS = 25


@pytest.fixture(scope="module")
def made(drawn, tmp_path_factory):
    """A folder with `pictures`, `cache` and a finished, evaluated and reported `run`."""
    root = tmp_path_factory.mktemp("made")
    for i, picture in enumerate(drawn(24, 16)):
        path = root / "pictures" / f"kind{i % 4}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    fit(root)
    assignments.write_scores(root / "run", "metrics.json", evaluate(root / "run", "folders", ["clusters"]))
    page.write(root / "run")
    assert {path.name for path in (root / "run").iterdir()} == {*FILES, "report.html"}
    return root


def fit(root, run="run", seed=0):
    quick = {"settings": {"image_size": 16, "restarts": 1}, "preset": "quick", "cache": root / "cache", "seed": seed}
    images, plan = fitting.plan(root / "pictures", "kmeans", clusters=4, **quick)
    return fitting.fit(images, plan, root / run, devices=Devices(**DEVICES))


def exported(root):
    (root / "out.csv").unlink(missing_ok=True)
    export(root / "run", "csv", root / "out.csv")
    return (root / "out.csv").read_text()


def predicted(root):
    _, z_ND, p_NK = fitting.predict(root / "run", root / "pictures", Devices(**DEVICES), root / "cache")
    return z_ND.tolist(), p_NK.tolist(), fitting.novelty(root / "run", z_ND).novel_M.tolist()


def recut(root):
    shutil.rmtree(root / "new", ignore_errors=True)
    done = make_again(root / "run", root / "new", 3)
    manifest.check_run(root / "new")
    made = [(root / "new" / name).read_bytes() for name in ("assignments.parquet", "hierarchy.json")]
    return {name: value for name, value in done.items() if name not in ("run", "of")}, made


def loaded(root):
    model = load(root / "run")
    model.set_params(**DEVICES)
    return model.labels_.tolist(), model.probabilities_.tolist(), model.history_, model.health_, model.features_.tolist()


VERBS = {
    "fit": fit,
    "show": lambda root: fitting.show(root / "run"),
    "evaluate": lambda root: evaluate(root / "run", "folders", ["clusters", "knn"]),
    "report": lambda root: page.page(page.read(root / "run")),
    "export": exported,
    "predict": predicted,
    "load": loaded,
    "recut": recut,
}
READS = {  # what each verb must notice; map.parquet, and by recut hierarchy.json, are made again without a word
    "fit": {*manifest.FITTED, manifest.NAME},
    "show": {*manifest.FITTED, manifest.NAME},
    "evaluate": {"config.json", "assignments.parquet", "features.safetensors", "trace.safetensors", manifest.NAME},
    "report": {*FILES} - {"model.safetensors", "map.parquet", "items.parquet"},
    "export": {"assignments.parquet", manifest.NAME},
    "predict": {"config.json", "model.safetensors", "features.safetensors", manifest.NAME},
    "load": {*manifest.FITTED, manifest.NAME} - {"model.safetensors", "trace.safetensors", "pictures.safetensors"},
    "recut": {*manifest.FITTED, manifest.NAME},  # a damaged hierarchy.json is made again
}


@pytest.fixture(scope="module")
def before(made):
    return {verb: call(made) for verb, call in VERBS.items()}


@pytest.fixture
def root(made, tmp_path):
    """A copy that a test may damage; pictures and cache are shared, as paths stand in the files."""
    for name in ("pictures", "cache"):
        (tmp_path / name).symlink_to(made / name)
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path


def flipped(path: Path, whole: bytes, rng: np.random.Generator) -> None:
    damaged = bytearray(whole)
    damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)


def refused(call, root, name) -> bool:
    """Whether it is refused, in one line that names the file and says what to do; anything else that is raised is a failure."""
    try:
        call(root)
    except InputError as error:
        assert "\n" not in str(error) and (name in str(error) or manifest.NAME in str(error)) and ";" in str(error), error
        return True
    return False


@pytest.mark.parametrize("verb", VERBS)
def test_every_flipped_bit_is_noticed(root, before, verb):
    rng = np.random.default_rng(0)
    where = {"run": str(root / "run")}
    for name in FILES:
        path, whole = root / "run" / name, (root / "run" / name).read_bytes()
        must = name in READS[verb]
        for _ in range(FLIPS if must else 1):
            flipped(path, whole, rng)
            try:
                got = VERBS[verb](root)
            except InputError as error:
                assert must, f"{verb} does not read {name}, but says: {error}"
                assert str(root / "run") in str(error) and (name in str(error)) and "\n" not in str(error) and ";" in str(error), error
            else:
                blank = name == manifest.NAME and json.loads(path.read_text()) == json.loads(whole)  # another white space between words
                assert (not must or blank) and same(got, before[verb], where), f"{verb} took {name} for whole"
        path.write_bytes(whole)


def same(one, other, where) -> bool:
    return (one | where) == (other | where) if isinstance(one, dict) and "run" in one else one == other


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_file_is_named(root, verb):
    for name in sorted(READS[verb] - MAY_BE_MISSING):
        kept = (root / "run" / name).read_bytes()
        (root / "run" / name).unlink()
        with pytest.raises(InputError, match=rf"{name} is missing; restore it from a copy, or fit again into a new folder"):
            VERBS[verb](root)
        (root / "run" / name).write_bytes(kept)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(root, verb, sealed):
    if not sealed:
        (root / "run" / manifest.NAME).unlink()
    names = READS[verb] - {"metrics.json", "hierarchy.json"} - ({manifest.NAME} if not sealed else set())
    for name in sorted(names):
        kept = root / "run" / name
        kept.rename(root / "kept")
        os.mkfifo(kept)
        with pytest.raises(InputError, match=rf"{name}.* not a regular file|{name}.* pipe|damaged: .*{name}"):
            VERBS[verb](root)
        kept.unlink()
        (root / "kept").rename(kept)


def test_a_lost_hierarchy_is_no_shorter_page(root, before):
    (root / "run" / "hierarchy.json").unlink()
    with pytest.raises(InputError, match="hierarchy.json is missing; any `coterie recut` of the run makes it again"):
        VERBS["report"](root)
    VERBS["recut"](root)
    assert VERBS["report"](root) == before["report"]


def test_fit_names_all_that_is_damaged(root):
    (root / "run" / "features.safetensors").unlink()
    (root / "run" / "problems.csv").write_text("path,reason\nx,y\n")
    with pytest.raises(InputError, match="features.safetensors, problems.csv are missing or not as they were written; restore"):
        fit(root)


def test_a_damaged_map_is_made_again_and_entered(root, before):
    path = root / "run" / "map.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert VERBS["report"](root) == before["report"] and path.read_bytes() == whole
    manifest.check(path)


def test_damaged_scores_are_measured_again(root):
    (root / "run" / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match="metrics.json is damaged: .*; run `coterie evaluate` again"):
        VERBS["report"](root)
    assignments.write_scores(root / "run", "metrics.json", evaluate(root / "run", "folders", ["clusters"]))
    VERBS["report"](root)


def test_a_run_without_a_manifest_is_read_and_says_so(root, before):
    (root / "run" / manifest.NAME).unlink()
    shown = VERBS["show"](root)
    assert "not compared" in shown["files"] and "as they were written" in before["show"]["files"]
    for verb in ("evaluate", "report", "export", "predict", "load"):
        assert VERBS[verb](root) == before[verb]


@pytest.mark.parametrize("name", [name for name in FILES if name != manifest.NAME])
def test_without_a_manifest_no_flipped_bit_ends_in_a_traceback(root, name):
    (root / "run" / manifest.NAME).unlink()
    rng = np.random.default_rng(1)
    path, whole = root / "run" / name, (root / "run" / name).read_bytes()
    for flip in range(FLIPS):
        flipped(path, whole, rng)
        for verb, names in READS.items():
            if verb == "recut" and flip >= 5:  # it takes longer
                continue
            if name in names - {"model.safetensors"} and verb != "fit":  # of a model, its own checksum is tested elsewhere
                try:  # without checksums a changed setting may be another setting, whose error then speaks of itself
                    VERBS[verb](root)
                except InputError as error:
                    assert "\n" not in str(error) and len(str(error)) > 20, error


def column(name, values):
    def damage(run):
        table = pq.read_table(run / "assignments.parquet")
        kind = values.type if isinstance(values, pa.Array) else table.schema.field(name).type
        new = table[name].to_pylist()
        new[3] = None if isinstance(values, pa.Array) else values
        new = pa.array(new, kind) if not isinstance(values, pa.Array) else values
        pq.write_table(table.set_column(table.column_names.index(name), name, new), run / "assignments.parquet")

    return damage


def tensors(file, change):
    def damage(run):
        found = load_file(run / file)
        change(found)
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in found.items()}, run / file)

    return damage


def entry(file, *keys, value):
    def damage(run):
        told = json.loads((run / file).read_text())
        inner = told
        for key in keys[:-1]:
            inner = inner[key]
        if value is None:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        (run / file).write_text(json.dumps(told))

    return damage


OUTSIDE = {
    "a cluster far above": ("assignments.parquet", column("cluster", 999_999)),
    "a cluster below": ("assignments.parquet", column("cluster", -7)),
    "an id twice": ("assignments.parquet", column("id", 2)),
    "no path": ("assignments.parquet", column("path", None)),
    "confidence": ("assignments.parquet", column("confidence", 1.5)),
    "no number": ("assignments.parquet", column("confidence", float("nan"))),
    "a probability": ("assignments.parquet", column("p", [0.5, -3.0, 0.5, 0.5])),
    "an infinite probability": ("assignments.parquet", column("p", [0.5, float("inf"), 0.5, 0.5])),
    "a short row": ("assignments.parquet", column("p", [1.0])),
    "clusters as text": ("assignments.parquet", column("cluster", pa.array(["0"] * 24))),
    "probabilities as numbers": ("assignments.parquet", column("p", pa.array([0.5] * 24))),
    "a row less of features": ("features.safetensors", tensors("features.safetensors", lambda t: t.update(features=t["features"][1:]))),
    "flat features": ("features.safetensors", tensors("features.safetensors", lambda t: t.update(features=t["features"][:, 0]))),
    "features that are not finite": ("features.safetensors", tensors("features.safetensors", lambda t: t["features"].fill(np.nan))),
    "whole features": ("features.safetensors", tensors("features.safetensors", lambda t: t.update(features=np.zeros((24, 2), int)))),
    "another number of traced": ("trace.safetensors", tensors("trace.safetensors", lambda t: t.update({"x-00000": np.zeros((1, 9), int)}))),
    "a traced cluster": ("trace.safetensors", tensors("trace.safetensors", lambda t: t["baseline-pixels"].fill(1 << 40))),
    "no baseline": ("trace.safetensors", tensors("trace.safetensors", lambda t: t.pop("baseline-pixels") is t.update(x=np.zeros(24, int)))),
    "no settings": ("config.json", entry("config.json", "settings", value=None)),
    "settings in a list": ("config.json", entry("config.json", "settings", value=[1])),
    "no number of clusters": ("config.json", entry("config.json", "settings", "n_clusters", value="four")),
    "nothing asked": ("config.json", entry("config.json", "clusters", value={"k": 4})),
    "kinds in words": ("config.json", entry("config.json", "clusters", value={"asked": "auto", "k": "four"})),
    "no source": ("config.json", entry("config.json", "source", "name", value=None)),
    "no health": ("environment.json", entry("environment.json", "health", value=None)),
    "health as text": ("environment.json", entry("environment.json", "health", value="well")),
    "history of no stage": ("history.jsonl", lambda run: (run / "history.jsonl").write_text("{}\n")),
    "history of no number": ("history.jsonl", lambda run: (run / "history.jsonl").write_text('{"stage": "a", "epoch": "x", "total": 1}\n')),
    "history in lists": ("history.jsonl", lambda run: (run / "history.jsonl").write_text("[]\n")),
    "nested without end": ("config.json", lambda run: (run / "config.json").write_text("[" * 100_000)),
}  # fmt: skip


@pytest.mark.parametrize("what", OUTSIDE)
def test_what_cannot_be_is_refused_without_a_manifest_too(root, what):
    name, damage = OUTSIDE[what]
    (root / "run" / manifest.NAME).unlink()
    damage(root / "run")
    readers = [verb for verb, names in READS.items() if name in names and verb != "fit" and (verb != "show" or name in SHOWN)]
    noticed = {verb: refused(VERBS[verb], root, name) for verb in readers}
    assert noticed and (all(noticed.values()) or (what == "no baseline" and noticed["evaluate"])), noticed


SHOWN = ("assignments.parquet", "config.json")  # what show reads where there are no checksums to compare


def test_a_method_of_another_version_is_named(root):
    (root / "run" / manifest.NAME).unlink()
    entry("config.json", "method", value="kmeens")(root / "run")
    with pytest.raises(InputError, match="'kmeens', which this version of coterie does not know; "):
        load(root / "run")


def test_the_manifest_is_written_last_and_alone_makes_a_run_finished(root, monkeypatch):
    (root / "run" / "work").mkdir()
    assert fitting.is_finished(root / "run") and fit(root)["n_images"] == 24 and not (root / "run" / "work").exists()

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(root, "other", seed=1)
    assert not fitting.is_finished(root / "other") and "unfinished" in fitting.show(root / "other")["state"]
    fit(root, "other", seed=1)
    assert fitting.show(root / "other")["state"] == "finished"


def test_what_verbs_added_to_another_fit_does_not_outlive_it(root):
    for name in (manifest.NAME, "assignments.parquet"):
        (root / "run" / name).unlink()
    fit(root, seed=1)
    assert not (root / "run" / "metrics.json").exists() and not (root / "run" / "map.parquet").exists()
    manifest.check_run(root / "run")
