"""Several processes as torchrun starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ranks() -> Callable[..., list[subprocess.Popen]]:
    """(script, world, *words) -> the processes of a world of ranks, on one machine; their output is in their stdout."""

    def start(script: str, world: int, *words: object) -> list[subprocess.Popen]:
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            port = door.getsockname()[1]
        children = []
        for rank in range(world):
            place = {"WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            env = {**os.environ, "OMP_NUM_THREADS": "1", **{key: str(value) for key, value in place.items()}}
            command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, words)]
            children.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return children

    return start


@pytest.fixture(scope="session")
def all_end_well(ranks) -> Callable[..., None]:
    """As `ranks`, and waits: every process ends with status 0."""

    def run(script: str, world: int, *words: object, timeout: float = 300) -> None:
        children = ranks(script, world, *words)
        try:
            for child in children:
                out, _ = child.communicate(timeout=timeout)
                assert child.returncode == 0, f"a rank of {world} ended with {child.returncode}:\n{out[-3000:]}"
        except subprocess.TimeoutExpired:
            pytest.fail(f"the {world} ranks wait for each other")
        finally:
            for child in children:
                child.kill()

    return run
