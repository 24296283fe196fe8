import json
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"  # lies beside the repository, is no part of it


def absent(what: str) -> None:
    pytest.skip(f"NOT CHECKED against the reference implementations: {what} is not in ../shared/golden beside the repository")


@pytest.fixture
def golden():
    """name -> the reference implementations' arrays (or json) of that name."""

    def load(name: str):
        if (GOLDEN / f"{name}.json").exists():
            return json.loads((GOLDEN / f"{name}.json").read_text())
        if not (GOLDEN / f"{name}.npz").exists():
            absent(name)
        return np.load(GOLDEN / f"{name}.npz", allow_pickle=False)

    return load
