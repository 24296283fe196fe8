"""`coterie bench`: a row a fit, a page of the rows; killed anywhere, it continues, and the rows are the same but for time and memory."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coterie.bench import TABLES, Asked, make, table
from coterie.errors import InputError
from coterie.run.devices import Devices

pytestmark = pytest.mark.systems
BUT = {"date", "commit", "seconds", "stages", "images_per_second", "peak_mb"}  # what two runs may differ in
WORDS = ("bench", "overview", "--preset", "quick", "--sets", "digits:60", "--methods", "kmeans,scan", "--seeds", "2", "--threads", "1")


def coterie(*words: object) -> list[str]:
    return [sys.executable, "-m", "coterie", *map(str, words)]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "overview.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name not in BUT} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The table made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(coterie(*WORDS, "-o", folder, "--json"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == json.loads(done.stdout)["new"] == 4
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("done", [0, 1, 3])
def test_killed_and_continued_the_same_rows(whole, tmp_path, done):
    """Killed, as nothing can answer, while it makes the row after so many."""
    process = subprocess.Popen(coterie(*WORDS, "-o", tmp_path), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and not _begun(tmp_path, done):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    subprocess.run(coterie(*WORDS, "-o", tmp_path), check=True, capture_output=True)
    assert rows(tmp_path) == rows(whole)


def _begun(folder: Path, done: int) -> bool:
    """Whether the fit after so many rows has begun."""
    return len(list((folder / "runs").glob("*-digits-60-*/config.json"))) > done


def test_what_is_done_is_not_done_again(whole):
    before = (whole / "overview.csv").read_bytes()
    done = subprocess.run(coterie(*WORDS, "-o", whole, "--json"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["new"] == 0 and (whole / "overview.csv").read_bytes() == before


def test_the_page_is_that_of_the_rows(whole):
    from coterie.bench.rows import Rows

    page = (whole / "overview.md").read_text()
    assert page.startswith(table("overview").text(Rows(whole / "overview.csv").all, Rows(whole / "overview_pairs.csv").all))
    found = [row for row in rows(whole) if row["method"] == "scan"]
    mean = sum(float(row["acc"]) for row in found) / 2
    assert f"| scan | 2 | {mean:.3f} | {min(float(row['acc']) for row in found):.3f} |" in page
    assert "±" not in page.split("##", 1)[1], "below three seeds no deviation"
    assert "Seeds 100, 101" in page and "single" not in page.split("##", 1)[1]


def test_columns_say_what_was_done_and_on_what(whole):
    with (whole / "overview.csv").open(newline="") as file:
        row = [row for row in csv.DictReader(file) if row["method"] == "scan"][0]
    assert float(row["seconds"]) > 0 and json.loads(row["stages"]) and int(row["images_per_second"]) > 0
    assert row["device"] and row["cores"] and row["torch"] and row["threads"] == "1" and row["protocol"] == "whole"
    assert float(row["oracle"]) >= 0.1 and row["images"] == "60" and row["clusters"] == "10"
    if sys.platform == "linux":
        assert int(row["peak_mb"]) > 100


def test_lines_are_compared_with_the_best_one(whole):
    """The difference in the row of the pair is that of the rows of the two."""
    with (whole / "overview_pairs.csv").open(newline="") as file:
        (pair,) = csv.DictReader(file)
    mean = {name: sum(float(row["acc"]) for row in rows(whole) if row["method"] == name) / 2 for name in ("kmeans", "scan")}
    best, other = sorted(mean, key=lambda name: -mean[name])
    assert (pair["best_method"], pair["method"], pair["seeds"]) == (best, other, "100 101")
    assert float(pair["difference"]) == pytest.approx(mean[best] - mean[other], abs=2e-4)
    assert float(pair["low"]) <= float(pair["difference"]) <= float(pair["high"])
    assert f"| {other} | {float(pair['difference']):.3f} | {float(pair['low']):.3f} |" in (whole / "overview.md").read_text()


def asked(folder: Path, **more) -> Asked:
    return Asked(folder, folder, folder / "runs", devices=Devices("cpu", "fp32", 1), preset="quick", say=lambda text: None, **more)


def test_last_steps_start_from_the_methods_encoder(tmp_path):
    made = make("last-step", asked(tmp_path, methods=("ir",), sets=("digits:60",)))
    assert made["rows"] == 4
    page = (tmp_path / "last-step.md").read_text()
    for line in ("`ir`, its own end", "`ir`, k-means", "`ir`, diffusion", "`ir`, heads"):
        assert f"| {line} | 1, single |" in page
    runs = [json.loads((run / "config.json").read_text()) for run in (tmp_path / "runs").glob("kmeans-*")]
    assert len(runs) == 3 and all(run["settings"]["pretext"] == "frozen" and run["settings"]["encoder"] == "small" for run in runs)


def test_a_missing_set_is_left_out_and_said_unless_it_was_named(tmp_path, monkeypatch):
    monkeypatch.delenv("COTERIE_BENCH_DATA", raising=False)
    monkeypatch.delenv("COTERIE_DATA", raising=False)
    said: list[str] = []
    monkeypatch.setattr("coterie.bench.overview.QUICK", ("digits:40", "fashion_mnist:2000"))
    one = Asked(
        tmp_path, tmp_path, tmp_path / "runs", devices=Devices("cpu", "fp32", 1), preset="quick", methods=("kmeans",), say=said.append
    )
    assert make("overview", one)["rows"] == 1
    assert [text for text in said if text.startswith("left out: no fashion_mnist.npz")]
    with pytest.raises(InputError, match="no fashion_mnist.npz"):
        make("overview", asked(tmp_path, sets=("fashion_mnist:2000",)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("nothing",), "no table is called 'nothing'; there are overview, last-step"),
        (("overview", "--sets", "x"), "no set is called 'x'"),
        (("overview", "--methods", "x"), "no method is called 'x'"),
        (("overview", "--seeds", "0"), "--seeds 0"),
        (("overview", "--budget", "soon"), "--budget soon: wanted a time like"),
        (("overview", "--preset", "x", "--sets", "digits:40"), "no preset is called 'x'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, more, said):
    environment = {name: value for name, value in os.environ.items() if name != "COTERIE_BENCH_DATA"}
    done = subprocess.run(coterie("bench", *more, "-o", tmp_path / "t"), capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr


def test_every_table_says_what_it_is():
    assert all(table(name).name == name and table(name).title for name in TABLES)
