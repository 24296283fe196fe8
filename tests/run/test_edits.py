"""edits.jsonl: what was acknowledged is there after a kill, two writers lose nothing, what is damaged or about another run is said."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from coterie.errors import InputError
from coterie.run import edits, manifest
from coterie.run.edits import Conflict, append, edited, replay, said
from report.fake_run import blobs, drawings, fake_run

from . import naive_edits

N, K = 300, 6


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    labels_N = np.random.default_rng(3).integers(0, K, N)
    features_ND, p_NK = blobs(labels_N, K)
    paths = [f"{i:03d}.png" for i in range(N)]
    return fake_run(tmp_path_factory.mktemp("made") / "run", paths, drawings(labels_N, 8), labels_N, p_NK, features_ND)


@pytest.fixture
def run(made):
    for name in manifest.FITTED:
        (made / name).touch()
    yield made
    for path in made.glob("edits*"):
        path.unlink()


def same(found, model):
    return (
        found.cluster_N.tolist() == model["cluster"]
        and found.names == model["names"]
        and found.confirmed_N.tolist() == model["sure"]
        and set(found.not_kinds) == model["no"]
        and set(found.clusters) == model["clusters"]
        and found.following == model["next"]
        and len(found.applied) == len(model["past"])
        and len(found.undone) == len(model["future"])
    )


WRITER = """
import json, os, signal, sys
from pathlib import Path
from coterie.run import edits
known = edits.said(Path(sys.argv[1]))
while line := sys.stdin.readline():
    if not (child := os.fork()):
        while True:
            told = json.loads(line)
            if "half" in told:  # killed in the middle of a line: what is written is not whole
                write = os.write
                def half(handle, content):
                    write(handle, bytes(content)[: 1 + int(told["half"] * (len(content) - 1))])
                    os.kill(os.getpid(), signal.SIGKILL)
                edits.os.write = half
            print(edits.append(known, told["act"]).n_acts, flush=True)
            line = sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_a_thousand_acts_and_a_kill_after_each_tenth(run):
    """The writer is killed a hundred times, at some point of the eleventh line. What was acknowledged is what a naive model has."""
    rng = np.random.default_rng(0)
    state, n_acts, kinds = naive_edits.start(said(run).cluster_N, K), 0, set()
    last = lambda: json.loads((run / edits.FILE).read_bytes().splitlines()[-1])  # noqa: E731
    with subprocess.Popen([sys.executable, "-c", WRITER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:

        def tell(**told):
            writer.stdin.write(json.dumps(told) + "\n")
            writer.stdin.flush()
            return int(writer.stdout.readline())

        for _ in range(100):
            for _ in range(10):
                act = naive_edits.drawn(rng, state)
                kinds.add(act["act"])
                n_acts += 1
                assert tell(act=act) == n_acts
                state = naive_edits.after(state, last())
            assert tell(act=naive_edits.drawn(rng, state), half=float(rng.random())) == -signal.SIGKILL
            found = edited(run)
            assert found.n_acts == n_acts and "by half" in found.remarks[0]
            assert same(found, state)
        writer.stdin.close()
    assert kinds == {"rename", "merge", "split", "move", "not_a_kind", "confirm", "undo", "redo"} and n_acts == 1000
    append(run, naive_edits.drawn(rng, state))
    lines = [json.loads(line) for line in (run / edits.FILE).read_bytes().splitlines()]
    assert [line["n"] for line in lines] == list(range(1002))


def test_the_fits_files_are_not_touched(run):
    manifest.seal(run)
    append(run, {"act": "rename", "cluster": 1, "name": "seals"})
    manifest.check_run(run)
    np.testing.assert_array_equal(said(run).cluster_N, replay(said(run).cluster_N, []).cluster_N)
    assert edited(run).names == {1: "seals"} and edited(run).n_acts == 1


def test_two_writers_lose_nothing(run):
    code = (
        "import sys; from pathlib import Path; from coterie.run import edits; known = edits.said(Path(sys.argv[1]))\n"
        "for i in range(50): edits.append(known, {'act': 'move', 'ids': [int(sys.argv[2]) + i], 'cluster': -1})"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(run), str(first)]) for first in (0, 100)]
    assert [one.wait() for one in both] == [0, 0]
    found = edited(run)
    assert found.n_acts == 100
    assert (found.cluster_N == -1).nonzero()[0].tolist() == [*range(50), *range(100, 150)]


def test_who_did_not_see_all_acts_is_told(run):
    append(run, {"act": "rename", "cluster": 1, "name": "seals"}, seen=0)
    before = (run / edits.FILE).read_bytes()
    with pytest.raises(Conflict, match="1 acts are written, 0 were seen"):
        append(run, {"act": "rename", "cluster": 1, "name": "cats"}, seen=0)
    assert (run / edits.FILE).read_bytes() == before
    assert append(run, {"act": "rename", "cluster": 1, "name": "cats"}, seen=1).names == {1: "cats"}


def test_what_cannot_be_is_not_written(run):
    append(run, {"act": "rename", "cluster": 1, "name": "seals"})
    before = (run / edits.FILE).read_bytes()
    for act in ({"act": "paint"}, {"act": "move", "ids": [N], "cluster": 0}, {"act": "redo"}):
        with pytest.raises(InputError):
            append(run, act)
    assert (run / edits.FILE).read_bytes() == before


def test_half_a_line_is_cut_away_and_said(run):
    for i in range(3):
        append(run, {"act": "move", "ids": [i], "cluster": -1})
    whole = (run / edits.FILE).read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in (last + 1, len(whole) - 1):
        (run / edits.FILE).write_bytes(whole[:cut])
        assert edited(run).n_acts == 2 and "by half" in edited(run).remarks[0]
        after = append(run, {"act": "undo"})
        assert after.n_acts == 3 and after.remarks
        assert not edited(run).remarks and edited(run).n_acts == 3
    for cut in (0, 10):  # the first line too
        (run / edits.FILE).write_bytes(whole[:cut])
        assert edited(run).n_acts == 0
        assert append(run, {"act": "move", "ids": [2], "cluster": -1}).n_acts == 1
        assert edited(run).n_acts == 1


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_a_damaged_line_is_one_error_and_can_be_set_aside(run, line):
    for i in range(3):
        append(run, {"act": "move", "ids": [i], "cluster": -1})
    lines = (run / edits.FILE).read_bytes().splitlines(keepends=True)
    for bad in (lines[line].replace(b'"n": ', b'"n": 1'), b"\x00\n", b"[]\n", b"[" * 9999 + b"\n", b""):
        if not bad and line == 3:
            continue  # nothing is wrong where the last is not there
        damaged = b"".join([*lines[:line], bad, *lines[line + 1 :]])
        (run / edits.FILE).write_bytes(damaged)
        for call in (lambda: edited(run), lambda: append(run, {"act": "undo"})):
            with pytest.raises(InputError, match=rf"edits.jsonl is damaged: line {line + 1} .*--set-aside"):
                call()
        assert (run / edits.FILE).read_bytes() == damaged
        aside, left = edits.set_aside(run)
        assert aside.read_bytes() == damaged and left == max(0, line - 1) == edited(run).n_acts
        assert append(run, {"act": "move", "ids": [9], "cluster": -1}).n_acts == left + 1


def test_a_run_that_was_made_anew(run):
    append(run, {"act": "rename", "cluster": 1, "name": "seals"})
    known, table = said(run), (run / manifest.TABLE).read_bytes()
    entries = (run / manifest.NAME).read_bytes() if (run / manifest.NAME).exists() else None
    kept = (run / edits.FILE).read_bytes()
    import pyarrow.parquet as pq

    try:
        pq.write_table(pq.read_table(run / manifest.TABLE), run / "new", compression="none")
        os.replace(run / "new", run / manifest.TABLE)
        if entries:
            manifest.record(run / manifest.TABLE)
        with pytest.raises(Conflict, match="made anew"):
            append(known, {"act": "undo"})
        for call in (lambda: edited(run), lambda: append(run, {"act": "undo"})):
            with pytest.raises(InputError, match=r"another assignments.parquet.*--set-aside"):
                call()
        assert (run / edits.FILE).read_bytes() == kept, "nothing is lost"
        aside, left = edits.set_aside(run)
        assert aside.read_bytes() == kept and left == 0 and edited(run).n_acts == 0
        assert edits.set_aside(run) == (None, 0)
    finally:
        (run / manifest.TABLE).write_bytes(table)
        if entries:
            (run / manifest.NAME).write_bytes(entries)


def test_a_full_disk_leaves_what_was_there(run, monkeypatch):
    append(run, {"act": "rename", "cluster": 1, "name": "seals"})
    before, write = (run / edits.FILE).read_bytes(), os.write

    def full(handle, content):
        write(handle, bytes(content)[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edits.os, "write", full)
    with pytest.raises(OSError):
        append(run, {"act": "undo"})
    assert (run / edits.FILE).read_bytes() == before


def test_no_pipe_is_waited_for(run):
    os.mkfifo(run / edits.FILE)
    for call in (lambda: edited(run), lambda: append(run, {"act": "undo"})):
        with pytest.raises(InputError, match="not a regular file"):
            call()
