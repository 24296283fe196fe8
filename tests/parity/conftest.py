import json
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"  # lies beside the repository, is no part of it


def absent(what: str) -> None:
    pytest.skip(f"NOT CHECKED against the reference implementations: {what} is not in ../shared/golden beside the repository")


def double(array, **options) -> torch.Tensor:
    """What the reference implementations were given, in float64: what comes out here does not hang on this CPU's float32 kernels. Bounds
    are those of their own float32."""
    return torch.tensor(array, dtype=torch.float64, **options)


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
