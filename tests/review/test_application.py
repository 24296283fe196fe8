"""What the server of a review answers, and whom it answers at all."""

import json
import os
import re
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

from coterie.errors import InputError
from coterie.fitting.asking import ask
from coterie.report import page
from coterie.run import edits, manifest

from .conftest import K, N, serving

pytest.importorskip("starlette", reason="NO REVIEW: the extra is not installed")
from coterie.review.application import Review  # noqa: E402


def test_the_page_and_its_state(served):
    status, html, headers = served.ask("GET", "")
    assert status == 200 and headers["content-type"].startswith("text/html") and b"const ORIGINALS = false" in html
    assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer" and headers["x-frame-options"] == "DENY"
    status, state, _ = served.ask("GET", "state")
    assert status == 200 and state["n_acts"] == 0 and len(state["labels"]) == N and state["undo"] is None and state["following"] == 4


def test_acts_are_written_before_they_are_answered(served, run):
    status, state = served.act(0, act="rename", cluster=1, name="seals")
    assert status == 200 and state["names"] == {"1": "seals"} and state["undo"] == "cluster 1 is called seals"
    assert edits.edited(run).names == {1: "seals"}
    status, state = served.act(1, act="move", ids=[0, 4], cluster=state["following"])
    assert status == 200 and state["labels"][0] == 4 and state["confirmed"] == [0, 4] and state["clusters"] == [0, 1, 2, 3, 4]
    status, state = served.act(2, act="undo")
    assert status == 200 and state["labels"][0] == 0 and state["redo"] == "2 pictures into cluster 4"
    np.testing.assert_array_equal(edits.edited(run).cluster_N, state["labels"])


def test_a_split_is_made_here(served, run):
    status, state = served.act(0, act="split", cluster=2, number=3)
    assert status == 200 and state["clusters"] == [0, 1, 2, 3, 4, 5]
    assert edits.read(run).acts[0]["parts"] and sorted(set(state["labels"])) == [0, 1, 2, 3, 4, 5]
    for number in (1, 99, "2", None, 2.0):
        assert served.act(1, act="split", cluster=0, number=number)[0] == 400
    assert served.act(1, act="split", cluster=77, number=2)[0] == 400


def test_two_tabs(served, run):
    assert served.act(0, act="rename", cluster=1, name="seals")[0] == 200
    status, told = served.act(0, act="rename", cluster=1, name="cats")
    assert status == 409 and "was faster" in told["error"] and told["state"]["names"] == {"1": "seals"}
    assert served.act(told["state"]["n_acts"], act="rename", cluster=1, name="cats")[0] == 200


def test_many_at_once_lose_nothing(served, run):
    done = []

    def move(i):
        seen = 0
        while True:
            status, told = served.act(seen, act="move", ids=[i], cluster=-1)
            if status == 200:
                done.append(i)
                return
            assert status == 409
            seen = told["state"]["n_acts"]

    threads = [threading.Thread(target=move, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = edits.edited(run)
    assert sorted(done) == list(range(6)) and found.n_acts == 6 and (found.cluster_N[:6] == -1).all()


ACT = {"seen": 0, "act": {"act": "rename", "cluster": 1, "name": "x"}}


@pytest.mark.parametrize(
    "method, path, body, headers",
    [
        ("GET", "", None, {"Host": "evil.example"}),
        ("GET", "", None, {"Host": "evil.example:{port}"}),
        ("GET", "", None, {"Host": "127.0.0.1"}),
        ("GET", "", None, {"Host": None}),
        ("GET", "", None, {"Host": "127.0.0.1:{port}.evil.example"}),
        ("GET", "state", None, {"Origin": "http://evil.example"}),
        ("GET", "state", None, {"Origin": "null"}),
        ("GET", "/", None, {}),
        ("GET", "/state", None, {}),
        ("GET", "/wrong/state", None, {}),
        ("GET", "/{token}", None, {}),
        ("GET", "/{token}x/state", None, {}),
        ("GET", "//{token}/state", None, {}),
        ("POST", "act", ACT, {"Host": "evil.example"}),
        ("POST", "act", ACT, {"Origin": "http://evil.example"}),
        ("POST", "act", ACT, {"Origin": "https://{at}"}),
        ("POST", "act", ACT, {"Origin": "http://127.0.0.1:1"}),
        ("POST", "act", ACT, {"Origin": None}),
        ("POST", "act", ACT, {"Content_Type": "text/plain"}),
        ("POST", "act", ACT, {"Content_Type": None}),
        ("POST", "/act", ACT, {}),
        ("PUT", "act", ACT, {"Origin": "http://{at}"}),
        ("OPTIONS", "act", None, {"Origin": "http://{at}"}),
    ],
)
def test_strangers_are_refused(served, run, method, path, body, headers):
    def fill(text):
        return text and text.format(at=served.at, port=served.at.split(":")[1], token=served.token)

    status, told, answered = served.ask(method, fill(path), body, **{name: fill(value) for name, value in headers.items()})
    assert status in (400, 403, 404, 405) and not (run / edits.FILE).exists()
    assert "access-control-allow-origin" not in answered
    assert served.token.encode() not in (told if isinstance(told, bytes) else str(told).encode())


def test_localhost_is_this_machine_too(served):
    name = served.at.replace("127.0.0.1", "localhost")
    assert served.ask("GET", "state", Host=name)[0] == 200
    assert served.ask("POST", "act", ACT, Host=name, Origin=f"http://{name}")[0] == 200


NO_ACTS = rb"""
{
null
[]
"\xff"
{"seen": 0}
{"act": {"act": "undo"}}
{"seen": "0", "act": {"act": "undo"}}
{"seen": true, "act": {"act": "undo"}}
{"seen": 0, "act": "undo"}
{"seen": 0, "act": {}}
{"seen": 0, "act": {"act": {}}}
{"seen": 0, "act": {"act": "split"}}
{"seen": 0, "act": {"act": "undo", "n": 7}}
{"seen": 0, "act": {"act": "move", "ids": [1e400], "cluster": 0}}
{"seen": 0, "act": {"act": "move", "ids": [99999999999999999999999], "cluster": 0}}
{"seen": 0, "act": {"act": "move", "ids": [[0], 1], "cluster": 0}}
{"seen": 0, "act": {"act": "rename", "cluster": 1, "name": "\ud800"}}
{"seen": 0, "act": {"act": "merge", "clusters": [[0], 1]}}
{"seen": 0, "act": {"act": "merge", "clusters": {"0": 1}}}
{"seen": 0, "act": {"act": "split", "cluster": 0, "parts": [[0], [[4]]]}}
{"seen": 0, "act": {"act": "split", "cluster": 0, "parts": [0, 4]}}
""".split(b"\n")


def test_the_most_telling_pictures(served, run):
    status, told, _ = served.ask("GET", "questions")
    assert status == 200 and [one["id"] for one in told["questions"]] == [one["id"] for one in ask(run, 20)]
    assert {one["likeliest"] for one in told["questions"]} <= set(range(K))
    served.act(0, act="merge", clusters=[0, 1, 2, 3])
    status, told, _ = served.ask("GET", "questions")
    assert status == 400 and "one kind" in told["error"] and told["state"]["n_acts"] == 1


@pytest.mark.parametrize("body", [*NO_ACTS, b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_act_is_said(served, run, body):
    status, told, _ = served.ask("POST", "act", body)
    assert status == 400 and told["error"] and told["state"]["n_acts"] == 0
    assert not edits.read(run).acts


def test_too_much_is_not_read(served):
    from coterie.review import application

    application.MOST_BYTES, kept = 1000, application.MOST_BYTES
    try:
        assert served.ask("POST", "act", b'{"x": "' + b"a" * 2000 + b'"}')[0] == 413
    finally:
        application.MOST_BYTES = kept


def test_nothing_else_is_served(served):
    for path in ("config.json", "../config.json", "%2e%2e/config.json", "page", "review.js", "original/0", "original/99999", "original/-1"):
        assert served.ask("GET", path)[0] == 404


def test_a_run_that_was_made_anew_meanwhile(made, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    review = Review(folder)
    assert review._act({"act": "rename", "cluster": 1, "name": "seals"}, 0).status_code == 200
    kept = (folder / edits.FILE).read_bytes()
    shutil.copy(folder / manifest.TABLE, folder / "new")
    os.replace(folder / "new", folder / manifest.TABLE)
    answer = review._act({"act": "undo"}, 1)
    assert answer.status_code == 409 and b"made anew" in answer.body and (folder / edits.FILE).read_bytes() == kept
    assert review._answer().status_code == 409


def test_many_pictures_lie_beside_the_page(run, monkeypatch):
    monkeypatch.setattr(page, "MOST_IN_ONE", 10)
    with serving(run) as served:
        html = served.ask("GET", "")[1].decode()
        names = re.findall(r"page/[a-z]+-[0-9a-f-]+\.js", html)
        assert len(set(names)) == 2 and "connect-src 'self'" in html
        for name in names:
            status, script, headers = served.ask("GET", name)
            assert status == 200 and script.startswith(b"coterie.") and headers["content-type"].startswith("text/javascript")


def test_originals(made, tmp_path):
    """As they lie in their source, and nothing outside of it."""
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    for path in (f"kind/{i:03d}.png" for i in range(N)):
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "photos" / path)
    config = json.loads((folder / "config.json").read_text())
    config["source"] |= {"kind": "folder", "path": str(tmp_path / "photos")}
    (folder / "config.json").write_text(json.dumps(config))
    review = Review(folder)
    answer = review._original(3)
    assert answer.media_type == "image/png" and answer.body == (tmp_path / "photos" / "kind/003.png").read_bytes()
    assert answer.headers["content-security-policy"] == "sandbox"
    assert review._original(N).status_code == 404 and "ORIGINALS = true" in review.files["page"]


def test_a_port_that_is_taken(run, served):
    from coterie.review import serve

    with pytest.raises(InputError, match="choose another"):
        serve.serve(run, int(served.at.split(":")[1]), lambda url: None)
