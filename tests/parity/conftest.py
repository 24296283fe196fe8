from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"  # lies beside the repository, is no part of it


@pytest.fixture
def golden():
    """name -> the reference implementations' arrays of that name."""

    def load(name: str):
        path = GOLDEN / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"NOT CHECKED against the reference implementations: {name}.npz is not in ../shared/golden beside the repository")
        return np.load(path, allow_pickle=False)

    return load
