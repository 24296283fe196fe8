"""The command line: exit statuses, one-line errors, what goes to stdout and what to stderr."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie import __version__
from coterie.cli import app, door, verbs
from coterie.run.files import read_json, read_table

FAST = ["--preset", "quick", "--device", "cpu", "--precision", "fp32", "--threads", "1"]
SHORT = [*FAST, "--set", "image_size=16", "--set", "pretext_epochs=1", "--set", "cluster_epochs=1", "--set", "cluster_steps=2"]
SHORT += ["--set", "selflabel_epochs=0"]


class Done:
    def __init__(self, status: int, out: str, err: str):
        self.status, self.out, self.err = status, out, err

    @property
    def data(self) -> dict:
        assert self.status == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def coterie(monkeypatch, capsys, tmp_path):
    """(words) -> Done: the command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path / ".cache"))
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["coterie", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            verbs.main()
        out, err = capsys.readouterr()
        return Done(end.value.code or 0, out, err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def source(drawn, tmp_path_factory) -> Path:
    """Forty pictures in four folders by kind."""
    folder = tmp_path_factory.mktemp("source")
    for i, picture in enumerate(drawn(40)):
        path = folder / f"kind{i % 4}" / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


@pytest.fixture(scope="session")
def finished(source, tmp_path_factory) -> Path:
    """A finished run of k-means; tests copy it before they change it."""
    from coterie import fitting
    from coterie.run.devices import Devices

    folder = tmp_path_factory.mktemp("finished")
    images, plan = fitting.plan(source, "kmeans", clusters=4, preset="quick", settings={"restarts": 2}, cache=folder / "cache")
    fitting.fit(images, plan, folder / "run", devices=Devices("cpu", "fp32", 1))
    return folder / "run"


def refused(done: Done, *says: str) -> None:
    """Status 2, nothing on stdout, one line on stderr that names what is wrong and has no traceback."""
    assert done.status == 2, (done.status, done.err)
    said = [line for line in done.err.splitlines() if line.startswith("coterie: error: ")]
    assert len(said) == 1 and "Traceback" not in done.err and done.out == ""
    for word in says:
        assert word.lower() in said[0].lower(), said[0]


# ---- mistakes


def mistakes(source: str) -> dict[str, tuple[list[str], list[str]]]:
    fit = ["fit", source, "-o", "r"]
    return {
        "no such source": (["fit", "nowhere", "--clusters", "4", "-o", "r"], ["nowhere"]),
        "nothing in it": (["fit", "empty", "--clusters", "4", "-o", "r"], ["empty"]),
        "a range upside down": ([*fit, "--clusters", "9:3"], ["--clusters", "9:3", "a <= b"]),
        "a range from zero": ([*fit, "--clusters", "0:4"], ["--clusters", "0:4"]),
        "a range below zero": ([*fit, "--clusters", "-2:4"], ["--clusters", "-2:4"]),
        "a range beyond the pictures": ([*fit, "--clusters", "2:41"], ["--clusters", "2:41", "40"]),
        "half a range": ([*fit, "--clusters", "2:"], ["--clusters", "2:", "auto", "range"]),
        "too few to count": (["fit", f"{source}/kind1", "-o", "r"], ["kind1", "10 images", "--clusters k"]),
        "zero clusters": ([*fit, "--clusters", "0"], ["clusters", "0"]),
        "negative clusters": ([*fit, "--clusters", "-3"], ["clusters", "-3"]),
        "no number of clusters": ([*fit, "--clusters", "many"], ["clusters", "many", "auto"]),
        "clusters by --set": ([*fit, "--set", "n_clusters=0"], ["n_clusters"]),
        "too many clusters": ([*fit, "--clusters", "41"], ["41", "40"]),
        "method": ([*fit, "--clusters", "4", "--method", "scann"], ["scann", "scan", "kmeans"]),
        "preset": ([*fit, "--clusters", "4", "--preset", "nope"], ["nope", "quick"]),
        "encoder": ([*fit, "--clusters", "4", "--encoder", "resnet1800"], ["resnet1800"]),
        "weights": ([*fit, "--clusters", "4", *SHORT, "--weights", "absent.safetensors"], ["absent.safetensors"]),
        "field": ([*fit, "--clusters", "4", "--set", "no_such=1"], ["no_such"]),
        "near field": ([*fit, "--clusters", "4", "--set", "pretext_epoch=1"], ["pretext_epochs"]),
        "no field": ([*fit, "--clusters", "4", "--set", "pretext_epochs"], ["field=value"]),
        "value": ([*fit, "--clusters", "4", "--set", "pretext_epochs=few"], ["pretext_epochs", "few"]),
        "zero batch": ([*fit, "--clusters", "4", "--set", "pretext_batch=0"], ["pretext_batch", "at least 1"]),
        "negative rate": ([*fit, "--clusters", "4", "--set", "pretext_rate=-1"], ["pretext_rate"]),
        "zero temperature": ([*fit, "--clusters", "4", "--set", "pretext_temperature=0"], ["pretext_temperature"]),
        "augment": ([*fit, "--clusters", "4", *SHORT, "--set", "augment=none"], ["augment", "glyphs"]),
        "pretext": ([*fit, "--clusters", "4", "--set", "pretext=mocco"], ["mocco", "simclr"]),
        "device": ([*fit, "--clusters", "4", "--device", "tpu"], ["tpu", "cpu"]),
        "absent device": ([*fit, "--clusters", "4", "--device", "mps"], ["mps"]),
        "precision": ([*fit, "--clusters", "4", "--precision", "fp8"], ["fp8", "bf16"]),
        "threads": ([*fit, "--clusters", "4", "--threads", "0"], ["threads"]),
        "time budget": ([*fit, "--clusters", "4", "--time-budget", "soon"], ["soon", "20m"]),
        "no time": ([*fit, "--clusters", "4", "--time-budget", "0s"], ["0s"]),
        "config": ([*fit, "--clusters", "4", "--config", "absent.json"], ["absent.json"]),
        "no config": ([*fit, "--clusters", "4", "--config", "other.json"], ["other.json"]),
        "unknown option": ([*fit, "--colour", "red"], ["--colour"]),
        "no output": (["fit", source, "--clusters", "4"], ["output"]),
        "unknown verb": (["sort", source], ["sort"]),
        "output is a file": (["fit", source, "--clusters", "4", "-o", "file.txt"], ["file.txt"]),
        "output is in a file": (["fit", source, "--clusters", "4", "-o", "file.txt/run"], ["file.txt"]),
        "output holds other things": (["fit", source, "--clusters", "4", "-o", "full"], ["full", "another folder"]),
        "shape": (["fit", "bad.npy", "--clusters", "2", "-o", "r"], ["bad.npy", "shape"]),
        "not finite": (["fit", "nan.npy", "--clusters", "2", "-o", "r"], ["nan.npy"]),
        "predict without a run": (["predict", "norun", source, "-o", "x.csv"], ["norun"]),
        "predict to nowhere": (["predict", "norun", source, "-o", "x.txt"], ["x.txt", ".parquet"]),
        "evaluate without a run": (["evaluate", "norun"], ["norun"]),
        "report without a run": (["report", "norun"], ["norun"]),
        "export without a run": (["export", "norun", "--to", "csv", "x.csv"], ["norun"]),
        "show without a run": (["show", "norun"], ["norun"]),
    }


@pytest.mark.parametrize("name", mistakes(""))
def test_mistakes_are_named_in_one_line(coterie, source, tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "other.json").write_text('{"a": 1}')
    np.save(tmp_path / "bad.npy", np.zeros((5, 4)))
    np.save(tmp_path / "nan.npy", np.full((40, 8, 8), np.nan))
    words, says = mistakes(str(source))[name]
    refused(coterie(*words), *says)
    assert not (tmp_path / "r" / "assignments.parquet").exists() and (tmp_path / "file.txt").read_text() == "x"


def test_a_message_is_one_printable_line(coterie, tmp_path):
    done = coterie("fit", "bad\x1b[31m\nname [red]x[/red]", "--clusters", 2, "-o", "r")
    refused(done, "[red]x[/red]")
    assert "\x1b" not in done.err


def test_a_defect_of_ours_is_no_user_error(coterie, monkeypatch, finished):
    monkeypatch.setattr("coterie.fitting.show", lambda folder: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["coterie", "show", str(finished)])
    with pytest.raises(ZeroDivisionError):
        verbs.main()


@pytest.mark.parametrize("what, status, word", [(KeyboardInterrupt(), 130, "interrupted"), (door.Terminated(), 143, "terminated")])
def test_an_interruption_has_its_status_and_no_traceback(coterie, monkeypatch, source, tmp_path, what, status, word):
    from coterie.run import Run

    log, count = Run.log, [0]

    def stop(self, **scalars):
        log(self, **scalars)
        count[0] += 1
        if count[0] == 2:
            raise what

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", stop)
        done = coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT)
    assert done.status == status and word in done.err and "Traceback" not in done.err and done.out == ""
    assert "unfinished" in coterie("show", "r", "--json").data["state"]
    assert coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT, "--json").data["n_images"] == 40


def test_a_full_disk_is_the_users_to_mend(coterie, monkeypatch, source):
    import os

    def full(handle):
        raise OSError(28, "No space left on device", "/somewhere")

    decoded = coterie("fit", source, "--clusters", 4, "-o", "other", *FAST, "--set", "image_size=16", "--method", "kmeans")
    assert decoded.status == 0
    monkeypatch.setattr(os, "fsync", full)
    refused(coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT), "no space", "free some space")


# ---- fit


def test_fit_from_end_to_end(coterie, source, tmp_path):
    done = coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT, "--json")
    got = done.data
    assert {"run", "method", "n_images", "n_clusters", "sizes", "n_problems", "seconds", "device", "health"} <= set(got)
    assert got["n_images"] == 40 == sum(got["sizes"]) and len(got["sizes"]) == 4 and got["method"] == "scan"
    assert got["health"] and "only 40 images" in " ".join(got["health"])
    files = {path.name for path in (tmp_path / "r").iterdir()}
    wanted = "config.json assignments.parquet features.safetensors model.safetensors history.jsonl trace.safetensors"
    assert files == {
        *wanted.split(),
        "pictures.safetensors",
        "problems.csv",
        "environment.json",
        "items.parquet",
        "hierarchy.json",
        "manifest.json",
    } | (files & {"map.parquet"})
    table = read_table(tmp_path / "r" / "assignments.parquet")
    assert table.column_names == ["id", "path", "cluster", "confidence", "p"]
    assert table["id"].to_pylist() == list(range(40)) and table["path"].to_pylist() == sorted(table["path"].to_pylist())
    again = coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT)
    assert again.status == 0 and "40 images in 4 clusters" in again.out and "coterie report r" in again.out
    refused(coterie("fit", source, "--clusters", 3, "-o", "r", *SHORT), "n_clusters: 4, now 3")
    refused(coterie("fit", source, "--clusters", 4, "-o", "r", *SHORT, "--seed", 1), "seed: 0, now 1")


def test_device_and_threads_are_no_settings(coterie, source):
    words = ["fit", source, "--clusters", 4, "-o", "r", "--method", "kmeans", "--preset", "quick", "--precision", "fp32"]
    one = coterie(*words, "--threads", 1, "--device", "cpu", "--json").data
    assert coterie(*words, "--time-budget", "1h", "--cache", "elsewhere", "--json").data == one


def test_plan_says_and_does_nothing(coterie, source, tmp_path):
    plan = coterie("fit", source, "--clusters", 4, "-o", "r", "--plan", "--json", "--seed", 5, "--set", "pretext_epochs=3").data
    assert not (tmp_path / "r").exists()
    assert plan["seed"] == 5 and plan["method"] == "scan" and plan["preset"] == "photos"
    assert plan["settings"]["pretext_epochs"] == 3 and plan["settings"]["n_clusters"] == 4 and plan["source"]["n_images"] == 40
    told = coterie("fit", source, "--clusters", 4, "-o", "r", "--plan").out
    assert "40 pictures" in told and "encoder: " in told and "method: scan" in told and "about" in told and "GB of memory" in told


def test_kinds_are_counted_where_nobody_says_how_many(coterie, source, tmp_path):
    done = coterie("fit", source, "-o", "r", *FAST, "--method", "kmeans")
    assert done.status == 0 and "K = " in done.err and "as many clusters as it finds" in done.err
    got = coterie("fit", source, "-o", "r", *FAST, "--method", "kmeans", "--clusters", "auto", "--json").data
    assert got["clusters_low"] <= got["n_clusters"] <= got["clusters_high"] and len(got["sizes"]) == got["n_clusters"]
    assert coterie("show", "r", "--json").data["n_clusters"] == got["n_clusters"]
    refused(coterie("fit", source, "-o", "r", *FAST, "--method", "kmeans", "--clusters", "2:9"), "clusters: auto, now 2:9")
    told = coterie("fit", source, "-o", "other", *FAST, "--clusters", "3:6", "--plan")
    assert "3 to 6 clusters" in told.out
    plan = coterie("fit", source, "-o", "other", *FAST, "--clusters", "3:6", "--plan", "--json").data
    assert plan["clusters"] == {"asked": "3:6"} and 3 <= plan["settings"]["n_clusters"] <= 6


def test_flags_before_set_before_config_before_preset(coterie, source, tmp_path):
    def settings(*more):
        return coterie("fit", source, "-o", "r", "--plan", "--json", *more).data["settings"]

    config = coterie("fit", source, "-o", "r", "--plan", "--json", "--clusters", 4, "--preset", "quick", "--set", "pretext_epochs=7").data
    (tmp_path / "c.json").write_text(json.dumps(config))
    assert settings("--config", "c.json") == config["settings"]
    assert settings("--config", "c.json", "--preset", "photos")["pretext_epochs"] == 7
    assert settings("--config", "c.json", "--set", "pretext_epochs=9")["pretext_epochs"] == 9
    assert settings("--config", "c.json", "--set", "n_clusters=5")["n_clusters"] == 5
    assert settings("--config", "c.json", "--set", "n_clusters=5", "--clusters", 6)["n_clusters"] == 6
    assert settings("--config", "c.json", "--set", "encoder=small-32", "--encoder", "small")["encoder"] == "small"
    assert settings("--clusters", 4, "--preset", "quick")["pretext_epochs"] not in (7, 9)


def test_a_named_set_brings_its_classes_and_its_preset(coterie):
    plan = coterie("fit", "digits", "-o", "r", "--plan", "--json").data
    assert plan["preset"] == "digits" and plan["settings"]["n_clusters"] == 10 and plan["source"]["kind"] == "named"
    assert coterie("fit", "digits", "-o", "r", "--plan", "--json", "--clusters", 12).data["settings"]["n_clusters"] == 12


@pytest.mark.parametrize("text, seconds", [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5m", 90), ("45", 45), ("5 s", 5)])
def test_time_budget(text, seconds):
    assert app.seconds(text, "--time-budget") == seconds and app.seconds(None, "--time-budget") is None


# ---- what comes after


def test_predict(coterie, finished, source):
    got = coterie("predict", finished, source, "-o", "out.csv", "--json").data
    rows = list(csv.DictReader(Path("out.csv").read_text(encoding="utf-8").splitlines()))
    fitted = read_table(finished / "assignments.parquet")
    assert got["n_images"] == len(rows) == 40 and [row["path"] for row in rows] == fitted["path"].to_pylist()
    assert [int(row["cluster"]) for row in rows] == fitted["cluster"].to_pylist()
    assert coterie("predict", finished, source, "-o", "new/out.parquet").status == 0
    assert read_table(Path("new/out.parquet")).column_names == [*fitted.column_names, "novel", "novelty"]


def test_predict_marks_what_fits_nowhere(coterie, finished, source, tmp_path):
    shutil.copytree(source, tmp_path / "pictures")
    for i in range(10):
        stripes = np.zeros((24, 24, 3), np.uint8)
        stripes[:, i % 5 :: 5] = (250, 250, 20 * i)
        Image.fromarray(stripes).save(tmp_path / "pictures" / f"stripes{i}.png")
    got = coterie("predict", finished, "pictures", "-o", "out.csv", "--json").data
    rows = list(csv.DictReader(Path("out.csv").read_text(encoding="utf-8").splitlines()))
    table = ["id", "path", "cluster", "confidence", *(f"p_{i}" for i in range(4)), "novel", "novelty"]
    assert list(rows[0]) == table and {row["novel"] for row in rows} == {"true", "false"}
    novel = {row["path"] for row in rows if row["novel"] == "true"}
    assert got["n_novel"] == len(novel) and {f"stripes{i}.png" for i in range(10)} <= novel and len(novel) <= 12
    assert got["false_alarms"] == 0.05
    assert min(float(row["novelty"]) for row in rows if row["novel"] == "true") > max(
        float(row["novelty"]) for row in rows if row["novel"] == "false"
    )
    done = coterie("predict", finished, "pictures", "-o", "out.parquet", "--false-alarms", "0.001")
    assert f"{sum(read_table(Path('out.parquet'))['novel'].to_pylist())} fit nowhere" in done.out
    assert "2.44 % of pictures of known kinds" in done.out, "one of 41 is the lowest that forty pictures can tell"
    assert str(read_table(Path("out.parquet"))["novel"].type) == "bool" and str(read_table(Path("out.parquet"))["novelty"].type) == "float"


def test_several_seeds(coterie, source):
    words = ["fit", source, "-o", "r", "--clusters", 4, "--method", "kmeans", *FAST, "--set", "restarts=1", "--seeds", 2]
    assert coterie(*words, "--plan", "--json").data["seeds"] == 2 and "2 seeds" in coterie(*words, "--plan").out
    done = coterie(*words)
    assert done.status == 0 and "2 seeds are" in done.out and "seed 1, 2 of 2" in done.err
    assert coterie(*words, "--json").data["seeds"] == 2
    assert coterie("predict", "r", source, "-o", "out.csv", "--json").data["n_images"] == 40
    assert coterie("report", "r").status == 0 and "fits under different seeds are" in Path("r/report.html").read_text()
    assert coterie("export", "r", "--to", "csv", "r.csv").status == 0 and "stability" in Path("r.csv").read_text()
    refused(coterie(*words[:-1], 0), "--seeds 0", "1 to 100")


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "5", "nan", "inf"])
def test_no_rate_of_false_alarms(coterie, finished, source, share):
    refused(coterie("predict", finished, source, "-o", "x.csv", "--false-alarms", share), "--false-alarms", "0.05")
    assert not Path("x.csv").exists()


def test_predict_tells_which_pictures_it_cannot_read(coterie, finished, source, tmp_path):
    shutil.copytree(source, tmp_path / "pictures")
    (tmp_path / "pictures" / "bad.png").write_text("no picture")
    done = coterie("predict", finished, "pictures", "-o", "out.csv", "--json")
    assert done.data["n_problems"] == 1 and "bad.png" in done.err and done.data["n_images"] == 40


@pytest.mark.parametrize("damage", ["model.safetensors", "config.json"])
def test_a_damaged_run_is_named(coterie, finished, source, tmp_path, damage):
    shutil.copytree(finished, tmp_path / "r")
    for content in (b"{", (finished / damage).read_bytes()[:-40], b"", b"{}", b"[]"):
        (tmp_path / "r" / damage).write_bytes(content)
        refused(coterie("predict", "r", source, "-o", "x.csv"), damage)


def test_evaluate_by_folders_and_by_csv(coterie, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    got = coterie("evaluate", "r", "--json").data
    assert {"acc", "nmi", "ari", "n_images", "n_classes", "n_clusters", "baseline_acc", "features_kmeans_acc"} <= set(got)
    assert got["n_images"] == 40 and got["n_classes"] == 4 and 0.25 <= got["acc"] <= 1
    assert read_json(tmp_path / "r" / "metrics.json")["acc"] == got["acc"]
    paths = read_table(finished / "assignments.parquet")["path"].to_pylist()
    with open("labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([path, path.split("/")[0]] for path in paths)])
    assert coterie("evaluate", "r", "--labels", "labels.csv", "--json").data["acc"] == got["acc"]
    with open("half.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([path, path.split("/")[0]] for path in paths[:20])])
    assert coterie("evaluate", "r", "--labels", "half.csv", "--json").data["n_images"] == 20
    shown = coterie("evaluate", "r", "--protocol", "clusters,knn").out
    assert re.search(r"ACC +\d\.\d{3}", shown) and "weighted kNN" in shown


@pytest.mark.parametrize(
    "words, says",
    [
        (["--labels", "builtin"], ["builtin", "csv"]),
        (["--labels", "absent.csv"], ["absent.csv", "path,label"]),
        (["--labels", "wrong.csv"], ["wrong.csv", "path,label"]),
        (["--labels", "strange.csv"], ["strange.csv", "none of its paths"]),
        (["--protocol", "magic"], ["magic", "clusters"]),
    ],
    ids=lambda one: " ".join(one),
)
def test_evaluate_refuses(coterie, finished, tmp_path, words, says):
    shutil.copytree(finished, tmp_path / "r")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "strange.csv").write_text("path,label\nx.png,cat\n")
    refused(coterie("evaluate", "r", *words), *says)
    assert not (tmp_path / "r" / "metrics.json").exists()


def test_evaluate_on_other_images(coterie, finished, source, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    got = coterie("evaluate", "r", "--on", source, "--labels", "folders", "--protocol", "clusters,knn", "--json").data
    own = coterie("evaluate", "r", "--json").data
    assert got["acc"] == own["acc"] and got["on"] and got["knn_acc"] > 0.25
    assert (tmp_path / "r" / "metrics-on.json").exists()


def test_report_export_show(coterie, finished, source, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    assert coterie("report", "r", "--json").data["report"] and (tmp_path / "r" / "report.html").exists()
    assert coterie("report", "r", "-o", "x.html").status == 0 and "data-image-id" in (tmp_path / "x.html").read_text()
    before = {path: path.read_bytes() for path in source.rglob("*.png")}
    assert coterie("export", "r", "--to", "folders", "sorted", "--json").data["n_images"] == 40
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 40
    assert {path: path.read_bytes() for path in source.rglob("*.png")} == before
    for kind in ("csv", "parquet"):
        assert coterie("export", "r", "--to", kind, f"t.{kind}").status == 0 and (tmp_path / f"t.{kind}").exists()
    refused(coterie("export", "r", "--to", "word", "t.doc"), "word")
    shown = coterie("show", "r", "--json").data
    assert shown["state"] == "finished" and shown["n_images"] == 40 and sum(shown["sizes"]) == 40
    assert "finished" in coterie("show", "r").out


@pytest.mark.parametrize("verb, has", [("methods", "scan"), ("presets", "quick")])
def test_what_there_is(coterie, verb, has):
    from coterie import methods
    from coterie.fitting import presets, recipes

    listed = {"methods": methods.METHODS, "presets": {**presets.KINDS, **recipes.RECIPES}}[verb]
    assert set(coterie(verb, "--json").data) == set(listed) and has in listed
    assert [line.split()[0] for line in coterie(verb).out.splitlines()] == list(listed)


def test_cache_is_shown_and_cleared(coterie, source, tmp_path):
    assert coterie("cache", "--json").data["entries"] == [] and "nothing in" in coterie("cache").out
    coterie("fit", source, "--clusters", 4, "-o", "r", *FAST, "--method", "kmeans")
    (entry,) = coterie("cache", "--json").data["entries"]
    assert entry["n_images"] == 40 and entry["bytes"] > 0
    assert coterie("cache", "--clear", "--json").data["freed"] == entry["bytes"]
    assert coterie("cache", "--json").data["entries"] == [] and (tmp_path / "r" / "assignments.parquet").exists()
    assert len(list(source.rglob("*.png"))) == 40


def test_help_names_every_verb_and_nothing_is_help_too(coterie):
    verbs = ["fit", "predict", "evaluate", "report", "export", "show", "methods", "presets", "cache"]
    for words in (["--help"], ["-h"], []):
        done = coterie(*words)
        assert done.status == 0 and all(verb in done.out for verb in verbs)
    for verb in verbs:
        assert coterie(verb, "--help").status == 0


def test_json_is_all_there_is_on_stdout(coterie, finished, source, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    for words in (
        ["fit", source, "--clusters", 4, "-o", "new", *FAST, "--method", "kmeans"],
        ["predict", "r", source, "-o", "x.csv"],
        ["evaluate", "r"],
        ["report", "r"],
        ["export", "r", "--to", "csv", "t.csv"],
        ["show", "r"],
        ["methods"],
        ["presets"],
        ["cache"],
    ):
        done = coterie(*words, "--json")
        assert done.status == 0, done.err
        assert isinstance(json.loads(done.out), dict) and done.out.count("\n") == 1, words


def test_python_m_coterie_is_the_command():
    done = subprocess.run([sys.executable, "-m", "coterie", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == __version__, done.stderr
