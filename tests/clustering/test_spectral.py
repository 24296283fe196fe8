"""Spectral clustering against dense eigenvectors and on kinds that k-means cannot part."""

import numpy as np
import pytest
import torch

from coterie.clustering.neighbours import nearest
from coterie.clustering.spectral import leading, normalised, spectral
from coterie.errors import InputError
from coterie.evaluate import metrics


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_rings(n: int = 200) -> tuple[torch.Tensor, np.ndarray]:
    """Two circles on a sphere, at latitudes 10 and 50 degrees: no two centroids part them."""
    turn, kinds = torch.rand(n, generator=rng()) * 2 * torch.pi, torch.arange(n) % 2
    height = torch.deg2rad(10.0 + 40 * kinds)
    return torch.stack([height.cos() * turn.cos(), height.cos() * turn.sin(), height.sin()], 1), kinds.numpy()


def test_parts_what_k_means_cannot():
    rows, kinds = two_rings()
    found = nearest(rows, 8)
    assert metrics.accuracy(kinds, spectral(*found, 2, rng()).numpy()) == 1.0


def dense(index_NK: torch.Tensor, similarity_NK: torch.Tensor) -> np.ndarray:
    """D^-1/2 W D^-1/2, edge by edge."""
    n = len(index_NK)
    whole = np.zeros((n, n))
    for i in range(n):
        for j, s in zip(index_NK[i].tolist(), similarity_NK[i].tolist()):
            whole[i, j] += max(s, 0) / 2
            whole[j, i] += max(s, 0) / 2
    scale = 1 / np.sqrt(np.maximum(whole.sum(1), 1e-12))
    return scale[:, None] * whole * scale


@pytest.mark.parametrize("n", [30, 400])
def test_the_graph_and_its_leading_vectors_are_those_of_the_dense_matrix(n):
    """30 rows go through the dense solver, 400 through the filter."""
    rows = torch.randn(n, 5, generator=rng()) + 3 * torch.eye(5)[torch.arange(n) % 5]
    found = nearest(rows, 9)
    graph, whole = normalised(*found), dense(*found)
    x = torch.randn(n, 3, dtype=torch.float64, generator=rng(1))
    np.testing.assert_allclose((graph @ x).numpy(), whole @ x.numpy(), atol=1e-12)
    vectors = leading(graph, 5, rng()).numpy()
    values, axes = np.linalg.eigh(whole)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-9)
    np.testing.assert_allclose(np.trace(vectors.T @ whole @ vectors), values[-5:].sum(), rtol=1e-4)
    gap = values[-5] - values[-6]
    assert gap > 0.05, "else the span is not told apart"
    np.testing.assert_allclose(np.linalg.svd(vectors.T @ axes[:, -5:])[1], 1, atol=1e-3)


def test_same_generator_same_labels_and_every_cluster_used():
    rows = torch.randn(150, 6, generator=rng())
    found = nearest(rows, 10)
    labels = spectral(*found, 12, rng(3))
    assert torch.equal(labels, spectral(*found, 12, rng(3))) and len(labels.unique()) == 12


def test_more_clusters_than_rows_is_refused():
    found = nearest(torch.randn(5, 3, generator=rng()), 2)
    for k in (0, 6):
        with pytest.raises(InputError, match=f"k = {k} clusters asked of 5 rows"):
            spectral(*found, k, rng())
