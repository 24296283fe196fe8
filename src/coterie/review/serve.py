"""The server of a review: on this machine alone, under an address that nobody can guess, until it is interrupted."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from coterie.errors import InputError
from coterie.review.application import application

HOST = "127.0.0.1"
GRACE = 2  # seconds that an answer under way has when the server ends


def serve(run: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serves the review of a finished run; `ready` is called with its address as soon as it answers. port: 0 takes a free one.

    InputError for a run that is not finished or is damaged, and for a port that is taken. Ends by SIGINT or SIGTERM.
    """
    with _listening(port) as place:
        token = secrets.token_urlsafe(24)
        at = f"{HOST}:{place.getsockname()[1]}"
        app = application(run, token, at)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE, server_header=False
        )
        ready(f"http://{at}/{token}/")
        uvicorn.Server(config).run(sockets=[place])


def _listening(port: int) -> socket.socket:
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((HOST, port))
        place.listen()
    except OSError as error:
        place.close()
        raise InputError(f"--port {port}: {error.strerror}; choose another, or leave it out") from None
    return place
