"""What the systems are compared with, as a whole: IIC, CC, PICA, SeLa, DEC, spectral and agglomerative clustering, Gaussian mixtures."""

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from sklearn.mixture import GaussianMixture

from coterie import fitting, load
from coterie.clustering.neighbours import nearest_by_distance
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.images import open_images
from coterie.images.named import load_named
from coterie.methods import method
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import read_json, read_json_lines

from .runs import TINY, Killed, bits, die_after, fit, outcome, rows

pytestmark = pytest.mark.systems
JOINT, CLASSICAL = ("iic", "cc", "pica", "sela", "dec", "idec"), ("spectral", "agglomerative", "gmm")
STAGE = {"iic": "information", "cc": "contrast", "pica": "confidence", "sela": "self-labels", "dec": "drawing", "idec": "drawing"}
STAGE |= dict.fromkeys(CLASSICAL, "head")


def planted(seed: int, n: int = 160, k: int = 5, width: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Rows around k means, far from the origin."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % k
    return (rng.normal(size=(k, width))[kinds] * 3 + rng.normal(size=(n, width)) + 9).astype(np.float32), kinds


def moons(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles, each reaching into the other."""
    rng = np.random.default_rng(0)
    kinds, turn = np.arange(n) % 2, np.linspace(0, np.pi, n)
    x = np.where(kinds, 1 - np.cos(turn), np.cos(turn)), np.where(kinds, 0.4 - np.sin(turn), np.sin(turn))
    return (np.stack(x, 1) + rng.normal(size=(n, 2)) * 0.04).astype(np.float32), kinds


def returned(run) -> str:
    """Whose clusters a fit gave back: the method's own, or k-means' in their place."""
    return read_json(run / "environment.json")["evidence"]["returned"]


@pytest.mark.parametrize("name", JOINT)
def test_finds_the_kinds_of_pictures(name, drawn, tmp_path):
    """By its own clusters: a fit would put k-means on the features in the place of worse ones."""
    found = [alone(drawn(), name, seed, n_clusters=4, **TINY[name]) for seed in range(2)]
    assert np.mean([metrics.accuracy(np.arange(120) % 4, labels) for labels in found]) > 0.6
    fit(drawn(), tmp_path / "run", name)
    losses = [row["loss"] for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == STAGE[name]]
    fall = 0.8 * losses[0] if STAGE[name] == "drawing" else 0.2  # squared differences of pixels
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - fall


@pytest.mark.parametrize("name", CLASSICAL)
def test_finds_planted_kinds_and_sorts_new_rows_as_the_fitted(name, tmp_path):
    for seed in range(3):
        z, kinds = planted(seed)
        fit(z, tmp_path / str(seed), name, clusters=5, seed=seed, encoder="precomputed")
        labels, p = outcome(tmp_path / str(seed))
        assert metrics.accuracy(kinds, labels) > 0.97 and returned(tmp_path / str(seed)) == name
        assert np.array_equal(load(tmp_path / str(seed)).predict(z), labels) and np.allclose(p.sum(1), 1, atol=1e-5)


def alone(source, name: str, seed: int = 100, n_clusters: int | None = None, **settings) -> np.ndarray:
    """The clusters that a method finds, before the fit compares it with k-means."""
    images, plan = fitting.plan(source, name, settings=settings, seed=seed, clusters=n_clusters)
    run = Run(seed=seed, devices=Devices("cpu", "fp32", 1))
    try:
        return method(name).fit(images, plan.config, run).p_NK.argmax(1).numpy()
    finally:
        run.close()


@pytest.mark.slow
def test_above_k_means_on_the_pixels_of_digits():
    truth = load_named("digits").labels
    acc = {name: metrics.accuracy(truth, alone("digits", name, image_size=8)) for name in (*CLASSICAL, "kmeans")}
    assert min(acc[name] for name in CLASSICAL) > acc["kmeans"] + 0.02, acc


def test_spectral_clustering_follows_what_is_bent():
    z, kinds = moons()
    settings = {"encoder": "precomputed", "n_clusters": 2}
    assert metrics.accuracy(kinds, alone(z, "spectral", **settings)) > 0.97
    assert metrics.accuracy(kinds, alone(z, "kmeans", **settings)) < 0.9


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_head_says_what_the_partition_does(name, tmp_path):
    z, _ = planted(3, n=240, k=7)
    z += np.random.default_rng(4).normal(size=z.shape).astype(np.float32) * 2  # kinds that touch
    more = {"covariance": "diag"} if name == "gmm" else {}
    fit(z, tmp_path / "run", name, clusters=7, encoder="precomputed", axes=0, **more)
    labels = outcome(tmp_path / "run")[0]
    assert returned(tmp_path / "run") == name
    last = [row for row in read_json_lines(tmp_path / "run" / "history.jsonl") if row["stage"] == "head"][-1]
    assert last["changed"] < 0.02
    if name == "agglomerative":
        theirs = AgglomerativeClustering(7).fit_predict(z)
        assert metrics.accuracy(theirs, labels) > 0.97
    if name == "gmm":
        like = {"covariance_type": "diag", "reg_covar": 0.05 * float(z.var(0).mean()), "n_init": 5}
        best = max((GaussianMixture(7, random_state=seed, **like).fit(z) for seed in range(3)), key=lambda model: model.lower_bound_)
        assert metrics.accuracy(best.predict(z), labels) > 0.8


def test_where_there_are_more_rows_some_are_partitioned(tmp_path):
    z, kinds = planted(0, n=400)
    for name in CLASSICAL:
        fit(z, tmp_path / name, name, clusters=5, encoder="precomputed", rows=100)
        assert metrics.accuracy(kinds, outcome(tmp_path / name)[0]) > 0.95


@pytest.mark.parametrize("name", [*JOINT, *CLASSICAL])
def test_killed_and_continued_same_bits(name, drawn, tmp_path, monkeypatch):
    short = {"epochs": 4} if name in JOINT else {}
    fit(drawn(60, 16), tmp_path / "whole", name, **short)
    assert (STAGE[name], 3) in rows(tmp_path / "whole")
    for after in (1, 3):
        with monkeypatch.context() as patch:
            die_after(patch, after)
            with pytest.raises(Killed):
                fit(drawn(60, 16), tmp_path / f"cut{after}", name, **short)
        torch.manual_seed(1)
        fit(drawn(60, 16), tmp_path / f"cut{after}", name, **short)
        assert bits(tmp_path / f"cut{after}") == bits(tmp_path / "whole")
    fit(drawn(60, 16), tmp_path / "other", name, seed=1, **short)
    assert bits(tmp_path / "other") != bits(tmp_path / "whole")


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("n, k", [(2, 1), (2, 2), (3, 2), (5, 4), (7, 7)])
def test_a_handful_of_rows(name, tmp_path, n, k):
    done = fit(planted(0, n=n)[0], tmp_path / "run", name, clusters=k, encoder="precomputed")
    assert sum(done["sizes"]) == n and len(done["sizes"]) == k


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("how", ["all alike", "constant columns", "copies"])
def test_rows_that_tell_nothing(name, tmp_path, how):
    z = planted(0, n=40)[0]
    z = {"all alike": np.ones_like(z), "constant columns": z * (np.arange(30) < 3), "copies": np.repeat(z[:4], 10, 0)}[how]
    done = fit(z.astype(np.float32), tmp_path / "run", name, clusters=4, encoder="precomputed")
    assert sum(done["sizes"]) == 40 and np.isfinite(outcome(tmp_path / "run")[1]).all()


@pytest.mark.parametrize("name", JOINT)
def test_features_alone_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="encoder=precomputed gives features"):
        fit(planted(0)[0], tmp_path / "run", name, clusters=5, encoder="precomputed")


@pytest.mark.parametrize("name", [name for name in JOINT if name != "sela"])  # its kinds are found at the end
@pytest.mark.parametrize("asked", [None, "auto", "2:9"])
def test_the_number_of_clusters_has_to_be_told(name, asked, drawn):
    with pytest.raises(InputError, match=f"{name} learns its clusters from the first epoch on.* give --clusters K"):
        fitting.plan(drawn(40, 16), name, clusters=asked, preset="quick")


def test_nearest_by_distance_as_a_loop():
    z = torch.from_numpy(planted(1, n=50)[0])
    index_NK, square_NK = nearest_by_distance(z, 6)
    for i in range(50):
        distance = [(float(((z[i].double() - z[j].double()) ** 2).sum()), j) for j in range(50) if j != i]
        wanted = sorted(distance)[:6]
        assert index_NK[i].tolist() == [j for _, j in wanted]
        assert square_NK[i].tolist() == pytest.approx([d for d, _ in wanted], rel=1e-4)
    for k in (0, 50):
        with pytest.raises(InputError, match=f"k = {k} neighbours asked"):
            nearest_by_distance(z, k)


def test_iic_is_fitted_in_one_process():
    devices = Devices("cpu", "fp32", 1)
    devices.world = 2
    iic = method("iic")
    with pytest.raises(InputError, match="whole batch.*in one process"):
        iic.fit(open_images(np.zeros((8, 16, 16, 3), np.uint8)), iic.Config(), Run(devices=devices))
