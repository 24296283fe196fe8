"""What a review may be asked, and what it answers. Everything lies below /TOKEN/:

    GET   /TOKEN/               the page of the report, with review.js
    GET   /TOKEN/state          the sorting as it is now (`_state`)
    GET   /TOKEN/questions      {questions: [{id, likeliest}]}: the pictures whose kind would tell most of the others (fitting/asking.py)
    GET   /TOKEN/original/ID    a picture as it lies in its source
    POST  /TOKEN/act            {seen, act}: an act (run/acts.py; a split has the `number` of its parts), and how many its author knew
                                -> 200 the new state; 400 {error, state} what cannot be; 409 {error, state} somebody else was faster

A page of another site must not reach it: the name it is asked under is the one it gave (a foreign name that leads to 127.0.0.1 is refused),
an act comes from its own page (Origin) as JSON, and whoever lacks the token is told nothing.
"""

import json
import mimetypes
from dataclasses import replace
from functools import cached_property
from hmac import compare_digest
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coterie.errors import InputError
from coterie.images import decode
from coterie.images.originals import Original, originals
from coterie.report import page
from coterie.report.data import read
from coterie.report.sheets import script_json
from coterie.run import edits
from coterie.run.acts import in_words
from coterie.run.edits import Conflict, Edited
from coterie.run.files import read_assignments, read_config

MOST_BYTES = 64 << 20  # of an act: five million ids
ASKED = 20  # questions at a time
HEADERS = {
    "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip


def application(run: Path, token: str, at: str) -> ASGIApp:
    """The review of a finished run. at: host and port that it is reached under. InputError when the run is not finished, or damaged."""
    review = Review(run)
    routes = [
        Route("/", review.page),
        Route("/state", review.state),
        Route("/questions", review.questions),
        Route("/original/{id:int}", review.original),
        Route("/act", review.act, methods=["POST"]),
        Route("/{name:path}", review.beside),
    ]
    return Guard(Starlette(routes=[Mount(f"/{token}", routes=routes)]), token, at)


class Guard:
    """Lets through who knows the token, asks under our name, and comes from our page or from nowhere."""

    def __init__(self, app: ASGIApp, token: str, at: str):
        self.app, self.start = app, f"/{token}/"
        self.hosts = {at, at.replace("127.0.0.1", "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        why = self.refused(scope["method"], scope["path"], Headers(scope=scope))

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self.app if why is None else JSONResponse({"error": why}, 403)
        await answer(scope, receive, sealed)

    def refused(self, method: str, path: str, headers: Headers) -> str | None:
        """Why a request is not answered, None when it is."""
        if headers.get("host") not in self.hosts:
            return "this is not the host that was asked for"
        if not compare_digest(path[: len(self.start)].encode(), self.start.encode()):
            return "the address lacks its token: open the one that `coterie review` printed"
        if method not in ("GET", "HEAD", "POST"):
            return "only GET and POST"
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins:
            return "another site may not ask"
        if method == "POST" and (origin is None or headers.get("content-type", "").split(";")[0] != "application/json"):
            return "an act comes from the page of the review, as JSON"
        return None


class Review:
    """A run as it is served. Its page is made once; what was corrected is read from the disk each time."""

    def __init__(self, run: Path):
        self.run, self.said = run, edits.said(run)
        edits.edited(self.said)  # what is wrong with it is said before a browser opens
        self.source = read_config(run)["source"]
        method = replace(read(run), given={})  # names come with the state
        self.files = page.files(method, beside="page", more=self._script())

    @cached_property
    def originals(self) -> list[Original]:
        paths = read_assignments(self.run)["path"].to_pylist()
        return originals(self.source, None, paths)

    def _script(self) -> str:
        here = self.source["kind"] in ("folder", "list", "zip", "parquet") and Path(self.source.get("path") or "-").exists()
        style, script = ((Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("review.css", "review.js"))
        return f'"use strict";\nconst ORIGINALS = {str(here).lower()}, STYLE = {script_json(style)};\n{script}'

    async def page(self, request: Request) -> Response:
        return Response(self.files[page.PAGE], media_type="text/html")

    async def beside(self, request: Request) -> Response:
        name = request.path_params["name"]
        known = name in self.files and name != page.PAGE
        return Response(self.files[name], media_type="text/javascript") if known else JSONResponse({"error": "not here"}, 404)

    async def state(self, request: Request) -> Response:
        return await run_in_threadpool(self._answer)

    async def questions(self, request: Request) -> Response:
        return await run_in_threadpool(self._questions)

    async def original(self, request: Request) -> Response:
        return await run_in_threadpool(self._original, request.path_params["id"])

    async def act(self, request: Request) -> Response:
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    return JSONResponse({"error": "that is too much for one act"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("act"), dict) or type(told.get("seen")) is not int:
            return await run_in_threadpool(self._answer, 400, "wanted {seen: a number, act: {...}}")
        return await run_in_threadpool(self._act, told["act"], told["seen"])

    def _act(self, act: dict[str, Any], seen: int) -> Response:
        from coterie.fitting.corrected import parts  # torch, which is long in coming

        try:
            if act.get("act") == "split" and "number" in act:
                cluster, number = act.get("cluster"), act["number"]
                if type(cluster) is not int or type(number) is not int:
                    raise InputError("split: wanted a cluster and the number of its parts")
                found = parts(self.run, edits.edited(self.said), cluster, number)
                act = {"act": "split", "cluster": cluster, "parts": found}
            return JSONResponse(_state(edits.append(self.said, act, seen)))
        except Conflict as error:
            return self._answer(409, str(error))
        except InputError as error:
            return self._answer(400, str(error))
        except OSError as error:
            return self._answer(507, f"nothing was written: {error.strerror}")

    def _questions(self) -> Response:
        from coterie.fitting.asking import ask

        try:
            return JSONResponse({"questions": [{"id": one["id"], "likeliest": one["likeliest"]} for one in ask(self.run, ASKED)]})
        except InputError as error:
            return self._answer(400, str(error))

    def _answer(self, status: int = 200, error: str = "") -> Response:
        try:
            state = _state(edits.edited(self.said))
        except InputError as damage:  # the run, or the file of acts, is no longer what it was when the review began
            return JSONResponse({"error": error or str(damage)}, status if error else 409)
        return JSONResponse({"error": error, "state": state} if error else state, status)

    def _original(self, id: int) -> Response:
        try:
            if not 0 <= id < len(self.originals):
                raise InputError(f"there is no picture {id}")
            one = self.originals[id]
            content = one.read()
        except (InputError, decode.Unreadable) as error:
            return JSONResponse({"error": str(error)}, 404)
        kind = mimetypes.guess_type(one.parts[-1])[0] or ""
        drawn = kind.startswith("image/") and "svg" not in kind
        return Response(content, media_type=kind if drawn else "application/octet-stream", headers={"Content-Security-Policy": "sandbox"})


def _state(now: Edited) -> dict[str, Any]:
    """A sorting for the page. labels: of each id; confirmed: ids; undo, redo: in words what they would do, null when there is nothing."""
    return {
        "n_acts": now.n_acts, "labels": now.cluster_N.tolist(), "names": {str(number): name for number, name in now.names.items()},
        "confirmed": now.confirmed_N.nonzero()[0].tolist(), "not_kinds": sorted(now.not_kinds), "clusters": list(now.clusters),
        "following": now.following, "undo": in_words(now.applied[-1]) if now.applied else None,
        "redo": in_words(now.undone[-1]) if now.undone else None, "remarks": list(now.remarks),
    }  # fmt: skip
