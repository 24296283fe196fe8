"""Every method on two processes (gloo, CPU): as good as on one, and continued by any number when one of them dies.

What trains an encoder ends elsewhere on two ranks: these share a batch, so their batch normalisations see other statistics, and sums round
elsewhere. That is another draw, as another seed is; what it is worth may differ by `TOLERANCE`. On features that are given nothing of this
happens: there the clusters are the same but for a row in twenty.
"""

import numpy as np
import pytest

from coterie.evaluate import metrics
from coterie.methods import METHODS
from coterie.run.files import read_features, read_json, read_table

pytestmark = [pytest.mark.multi, pytest.mark.systems]
N = 120
TOLERANCE = 0.2  # of ACC, on N pictures of four kinds
HEADS = ("scan", "spice", "temi", "turtle", "kmeans")  # what takes features as they are


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("pictures") / "pictures.npy"
    np.save(path, drawn(N, 16))
    return path


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Features of four kinds that do not touch."""
    path, rng = tmp_path_factory.mktemp("rows") / "rows.npy", np.random.default_rng(0)
    np.save(path, (rng.normal(size=(4, 12))[np.arange(N) % 4] * 2 + rng.normal(size=(N, 12)) * 0.3).astype(np.float32))
    return path


def clusters(run) -> np.ndarray:
    return read_table(run / "assignments.parquet")["cluster"].to_numpy()


@pytest.mark.parametrize("name", HEADS)
def test_two_ranks_find_in_features_what_one_finds(name, rows, tmp_path, all_end_well):
    for world in (1, 2):
        all_end_well("method.py", world, rows, tmp_path / str(world), name)
    one, two = (clusters(tmp_path / world) for world in "12")
    assert metrics.ari(one, two) >= 0.9 and read_json(tmp_path / "2" / "environment.json")["ranks"] == 2
    np.testing.assert_allclose(read_features(tmp_path / "1", N), read_features(tmp_path / "2", N), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("temi", "turtle", "kmeans", "iic")])
def test_two_ranks_learn_pictures_as_well_as_one(name, pictures, tmp_path, all_end_well):
    for world in (1, 2):
        all_end_well("method.py", world, pictures, tmp_path / str(world), name)
    one, two = (metrics.accuracy(np.arange(N) % 4, clusters(tmp_path / world)) for world in "12")
    assert two >= one - TOLERANCE, f"ACC {one:.3f} on one rank, {two:.3f} on two"


@pytest.mark.parametrize("name, dies_at, then", [("scan", 2, 3), ("scan", 6, 1), ("deepcluster", 2, 1), ("pcp", 5, 2), ("spice", 6, 1)])
def test_when_a_rank_dies_the_others_say_so_and_any_number_continues(name, dies_at, then, pictures, tmp_path, ranks, all_end_well):
    children = ranks("method.py", 2, pictures, tmp_path / "run", name, dies_at)
    (out, _), _ = (child.communicate(timeout=300) for child in children)
    assert children[1].returncode < 0 and children[0].returncode == 2, out
    lines = [line for line in out.splitlines() if line.startswith("coterie: error")]
    assert len(lines) == 1 and "another process" in lines[0] and "Traceback" not in out
    assert not (tmp_path / "run" / "assignments.parquet").exists()
    all_end_well("method.py", then, pictures, tmp_path / "run", name)
    assert len(clusters(tmp_path / "run")) == N
