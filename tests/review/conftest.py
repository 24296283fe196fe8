import http.client
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from report.fake_run import blobs, drawings, fake_run

N, K = 60, 4


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """60 small pictures in 4 clusters."""
    labels_N = np.arange(N) % K
    features_ND, p_NK = blobs(labels_N, K)
    paths = [f"kind/{i:03d}.png" for i in range(N)]
    return fake_run(tmp_path_factory.mktemp("review") / "run", paths, drawings(labels_N, 24), labels_N, p_NK, features_ND)


@pytest.fixture
def run(made):
    yield made
    for path in made.glob("edits*"):
        path.unlink()


class Served:
    """A review under way: where it is, and what it answers."""

    def __init__(self, url):
        self.url = url
        self.at, self.token = url.removeprefix("http://").rstrip("/").split("/")

    def ask(self, method, path, body=None, **headers):
        """(status, what came back, headers); `path` below the token unless it starts with /. A header of None is left out."""
        place = http.client.HTTPConnection("127.0.0.1", int(self.at.split(":")[1]), timeout=60)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        known = {"Host": self.at}
        if method == "POST":
            known |= {"Origin": f"http://{self.at}", "Content-Type": "application/json", "Content-Length": str(len(content or b""))}
        known |= {name.replace("_", "-"): value for name, value in headers.items()}
        place.putrequest(method, path if path.startswith("/") else f"/{self.token}/{path}", skip_host=True, skip_accept_encoding=True)
        for name, value in known.items():
            if value is not None:
                place.putheader(name, value)
        place.endheaders(content)
        answer = place.getresponse()
        told = answer.read()
        place.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, json.loads(told) if kind == "application/json" else told, answer.headers

    def act(self, seen, **act):
        return self.ask("POST", "act", {"seen": seen, "act": act})[:2]


@pytest.fixture
def served(run, server):
    """The review of `run`, which knows of no act yet."""
    return server


@pytest.fixture(scope="session")
def server(made):
    with serving(made) as under_way:
        yield under_way


@contextmanager
def serving(run):
    """A review of `run`, in a thread of this process."""
    pytest.importorskip("starlette", reason="NO REVIEW: the extra is not installed")
    uvicorn = pytest.importorskip("uvicorn", reason="NO REVIEW: the extra is not installed")
    from coterie.review import serve

    servers, urls, there = [], [], threading.Event()
    kept = uvicorn.Server.run

    def remember(self, **more):
        servers.append(self)
        kept(self, **more)

    uvicorn.Server.run = remember
    thread = threading.Thread(target=serve.serve, args=(run, 0, lambda url: (urls.append(url), there.set())), daemon=True)
    thread.start()
    try:
        while not (there.is_set() and servers and servers[0].started):  # one that has not begun could not be told to end
            assert thread.is_alive(), "it ended before it answered"
            time.sleep(0.01)
        yield Served(urls[0])
    finally:
        uvicorn.Server.run = kept
        for server in servers:
            server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()
