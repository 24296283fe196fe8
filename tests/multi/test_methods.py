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
from multi import method

pytestmark = [pytest.mark.multi, pytest.mark.systems]
N = 120
TOLERANCE = 0.2  # of ACC, on N pictures of four kinds
TWINS = ("idfd", "dec", "spectral", "agglomerative")  # whose fit is that of another one here
ENCODERS = [name for name in METHODS if name not in ("temi", "turtle", "kmeans", "iic", *TWINS)]
HEADS = ("scan", "spice", "temi", "turtle", "kmeans", "scan*2")  # what takes features as they are


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


@pytest.fixture
def on_one_and_two(tmp_path, all_end_well):
    """(rows, names) -> for each method its name and its runs on one rank and on two. Two ranks fit all of them, for to begin costs more."""

    def fitted(rows, names):
        method.main(str(rows), str(tmp_path / "1"), ",".join(names))
        all_end_well("method.py", 2, rows, tmp_path / "2", ",".join(names))
        return [(name, tmp_path / "1" / name, tmp_path / "2" / name) for name in names]

    return fitted


def test_two_ranks_find_in_features_what_one_finds(rows, on_one_and_two):
    for name, one, two in on_one_and_two(rows, HEADS):
        assert metrics.ari(clusters(one), clusters(two)) >= 0.9, name
        assert read_json(two / "environment.json")["ranks"] == 2
        np.testing.assert_allclose(read_features(one, N), read_features(two, N), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("names", [ENCODERS[::2], ENCODERS[1::2]], ids=",".join)
def test_two_ranks_learn_pictures_as_well_as_one(names, pictures, on_one_and_two):
    for name, *runs in on_one_and_two(pictures, names):
        one, two = (metrics.accuracy(np.arange(N) % 4, clusters(run)) for run in runs)
        assert two >= one - TOLERANCE, f"{name}: ACC {one:.3f} on one rank, {two:.3f} on two"


@pytest.mark.parametrize("name, dies_at, then", [("scan", 2, 3), ("scan", 6, 1), ("deepcluster", 2, 1), ("pcp", 5, 2), ("spice", 6, 1)])
def test_when_a_rank_dies_the_others_say_so_and_any_number_continues(name, dies_at, then, pictures, tmp_path, ranks, all_end_well):
    children = ranks("method.py", 2, pictures, tmp_path, name, dies_at)
    (out, _), _ = (child.communicate(timeout=300) for child in children)
    assert children[1].returncode < 0 and children[0].returncode == 2, out
    lines = [line for line in out.splitlines() if line.startswith("coterie: error")]
    assert len(lines) == 1 and "another process" in lines[0] and "Traceback" not in out
    assert not (tmp_path / name / "assignments.parquet").exists()
    all_end_well("method.py", then, pictures, tmp_path, name)
    assert len(clusters(tmp_path / name)) == N
