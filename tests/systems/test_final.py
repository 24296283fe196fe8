"""The last step of PCP and of what it is compared with: whitened features, and clusters by diffusion."""

from typing import get_args

import numpy as np
import pytest
import torch

from coterie import fitting
from coterie.clustering.kmeans import pca_whiten, whitening
from coterie.evaluate import metrics
from coterie.methods import METHODS
from coterie.methods.final import Final, clusters_of, diffused
from coterie.run import Run
from coterie.run.devices import Devices

from .runs import TINY, fit, outcome

pytestmark = pytest.mark.systems


def bands(seed: int, n: int = 240) -> tuple[torch.Tensor, np.ndarray]:
    """Three long arcs around a sphere, one above the other."""
    rng = np.random.default_rng(seed)
    kind, along = np.arange(n) % 3, rng.uniform(0, 2.2, n)
    height = (kind - 1) * 0.5 + rng.normal(0, 0.05, n)
    return torch.tensor(np.stack([np.cos(along), np.sin(along), height], 1), dtype=torch.float32), kind


@pytest.mark.parametrize("seed", range(3))
def test_diffusion_finds_bands_that_k_means_cuts(seed):
    x, kind = bands(seed)
    run = Run(seed=seed, devices=Devices("cpu", "fp32", 1))
    found, cut = (clusters_of(x, 3, how, 20, 200, 10, run).numpy() for how in ("diffusion", "k-means"))
    assert metrics.accuracy(kind, found) > 0.9 and metrics.accuracy(kind, cut) < 0.7


def test_diffusion_is_what_it_says():
    x = torch.randn(25, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    want = x / x.norm(dim=1, keepdim=True)
    near = [sorted((j for j in range(25) if j != i), key=lambda j: -float(want[i] @ want[j]))[:3] for i in range(25)]
    for _ in range(4):
        moved = torch.stack([want[i] + sum(want[j] for j in near[i]) / 3 for i in range(25)])
        want = moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(diffused(x, 3, 4), want)
    torch.testing.assert_close(diffused(7 * x, 3, 4), want)  # lengths do not matter
    torch.testing.assert_close(diffused(x, 3, 0), x / x.norm(dim=1, keepdim=True))


def test_the_layer_is_the_whitening():
    x = torch.randn(90, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ torch.diag(torch.arange(1.0, 7).double()) + 3
    mean, axes = whitening(x, 4)
    rows = (x - mean) @ axes
    torch.testing.assert_close(torch.nn.functional.normalize(rows), pca_whiten(x, 4))
    torch.testing.assert_close(rows.T @ rows / len(x) / (rows.square().sum(0)[0] / len(x)), torch.eye(4).double())
    plain, held = (whitening(x, 6, floor)[1].norm(dim=0) for floor in (1e-8, 0.5))
    assert plain[-1] > 4 * plain[0] and held[-1] < 3**0.5 * held[0], "a floor keeps small components small"


def test_features_as_they_are_and_few_of_them_when_there_are_few_images(drawn, tmp_path):
    widths = {}
    for name, settings in {"plain": {"whiten": False}, "white": {}, "narrow": {"projection": 5}}.items():
        fit(drawn(), tmp_path / name, method="ir", pretext_epochs=2, **settings)
        from safetensors.numpy import load_file

        widths[name] = load_file(tmp_path / name / "features.safetensors")["features"].shape[1]
        assert np.isfinite(outcome(tmp_path / name)[1]).all()
    assert widths == {"plain": 128, "white": 12, "narrow": 5}


SHORT = {"image_size": 16, "pretext_epochs": 1, "epochs": 1, "restarts": 1, "head_epochs": 1, "cluster_epochs": 1, "cluster_steps": 2}
SHORT |= {"selflabel_epochs": 1, "joint_epochs": 1, "n_heads": 2}


def short(method: str) -> dict:
    return {name: value for name, value in SHORT.items() if name in TINY[method] and name != "n_heads"}


@pytest.mark.parametrize("final", get_args(Final))
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_every_last_step_and_sorts_new_pictures_by_it(drawn, tmp_path, method, final):
    fit(drawn(40, 16), tmp_path / "run", method=method, final=final, **short(method))
    _, _, p = fitting.predict(tmp_path / "run", drawn(40, 16), Devices("cpu", "fp32", 1))
    np.testing.assert_allclose(p.numpy(), outcome(tmp_path / "run")[1], atol=1e-3, err_msg="the fitted pictures are sorted as new ones are")


@pytest.mark.parametrize("method", ["scan", "spice", "deepcluster", "kmeans"])
def test_given_features_have_every_last_step(tmp_path, method):
    x, kind = bands(1)
    for final in get_args(Final):
        more = {"epochs": 0} if method == "deepcluster" else {}
        fit(
            x.numpy(), tmp_path / final, method=method, clusters=3, encoder="precomputed", final=final, final_steps=200, restarts=10, **more
        )
        assert len(outcome(tmp_path / final)[0]) == 240
    assert metrics.accuracy(kind, outcome(tmp_path / "diffusion")[0]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_one_cluster_is_possible_and_is_said(drawn, tmp_path, method):
    summary = fit(drawn(30, 16), tmp_path / "run", method=method, clusters=1, **short(method))
    assert summary["sizes"] == [30] and any("one cluster" in warning for warning in summary["health"])


@pytest.mark.parametrize("method, final", [("scan", "heads"), ("spice", "heads"), ("kmeans", "diffusion"), ("kmeans", "heads")])
def test_neighbours_may_be_approximate(tmp_path, method, final, monkeypatch):
    """Of as few rows as these all are compared."""
    from coterie.clustering import neighbours

    asked, search = [], neighbours.nearest_in_cells
    monkeypatch.setattr(neighbours, "nearest_in_cells", lambda *args: asked.append(1) or search(*args))
    x, kind = bands(1)
    settings = {"encoder": "precomputed", "final": final, "final_steps": 200, "restarts": 10, "approximate": True}
    fit(x.numpy(), tmp_path / "run", method=method, clusters=3, **settings)
    assert asked and len(outcome(tmp_path / "run")[0]) == len(kind)
