"""Heads that begin from clusterings: how many, from which, and what the others see of it."""

import pytest
import torch

from coterie.clustering.kmeans import kmeans
from coterie.clustering.spaces import reduced
from coterie.evaluate.metrics import accuracy
from coterie.methods import scan, starts
from coterie.networks.heads import Heads


def rings(n: int = 120, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Kinds that lie along arcs of one circle with small gaps between: neighbours tell them."""
    kinds_N = torch.arange(n) % k
    place_N = (kinds_N + 0.8 * torch.rand(n, generator=torch.Generator().manual_seed(0))) * 2 * torch.pi / k
    return torch.stack([place_N.cos(), place_N.sin()], 1), kinds_N


def begun(run, z_ND, rows=None, n_heads: int = 6, k: int = 3) -> tuple[Heads, Heads]:
    """Heads before and after."""
    width = z_ND.shape[1] if rows is None else rows.rows_Nd.shape[1]
    heads, before = (run.new("heads", Heads, width, k, n_heads) for _ in range(2))
    starts.begin(heads, z_ND, rows, run)
    return before, heads


def test_half_of_the_heads_begin_from_the_graph(run):
    z_ND, kinds_N = rings()
    before, after = begun(run, z_ND)
    assert [torch.equal(a, b) for a, b in zip(before.weight, after.weight)] == [False] * 3 + [True] * 3
    labels_HN = after(z_ND).argmax(-1)
    assert all(accuracy(kinds_N.numpy(), labels_N.numpy()) == 1 for labels_N in labels_HN[:3])


def test_heads_may_see_axes_of_the_features(run, monkeypatch):
    monkeypatch.setattr(starts, "FEW", 0)
    z_ND, kinds_N = rings()
    wide_ND = torch.cat([z_ND, torch.zeros(len(z_ND), 3)], 1) + 5
    rows = reduced(wide_ND, components=2)
    _, after = begun(run, wide_ND, rows)
    assert all(accuracy(kinds_N.numpy(), labels_N.numpy()) == 1 for labels_N in after(rows.rows_Nd).argmax(-1)[:3])


def test_a_lone_head_begins_as_published(run):
    before, after = begun(run, rings()[0], n_heads=1)
    assert torch.equal(before.weight, after.weight)


def test_of_many_images_some_are_cut(run, monkeypatch):
    cut, nearest = [], starts.nearest
    monkeypatch.setattr(starts, "SAMPLE", 60)
    monkeypatch.setattr(starts, "EACH", 10)
    monkeypatch.setattr(starts, "nearest", lambda z_ND, k: cut.append(len(z_ND)) or nearest(z_ND, k))
    z_ND, kinds_N = rings()
    _, after = begun(run, z_ND)
    assert cut == [60]
    assert all(accuracy(kinds_N.numpy(), labels_N.numpy()) > 0.97 for labels_N in after(z_ND).argmax(-1)[:3]), "the others follow"


@pytest.mark.parametrize("count, n, want", [(33, 1, [44]), (10, 2, [10, 18]), (1, 3, [1, 1, 2]), (100, 4, [82, 113, 155, 213])])
def test_widths_lie_around_the_usual_one(count, n, want):
    assert starts.widths(count, n) == want


@pytest.mark.parametrize("start, taught", [("both", True), ("random", False)])
def test_where_scans_heads_begin_is_a_setting(run, monkeypatch, start, taught):
    asked = []
    monkeypatch.setattr(scan, "begin", lambda *given: asked.append(given))
    z_ND, _ = rings()
    config = scan.Config(n_clusters=3, n_heads=2, start=start, cluster_epochs=1, cluster_steps=1)
    scan.cluster(z_ND, scan.neighbours(z_ND, config, run), config, run)
    assert bool(asked) == taught


@pytest.mark.parametrize("k, from_graph", [(20, False), (21, True)])
def test_few_clusters_of_given_features_begin_from_kmeans(run, monkeypatch, k, from_graph):
    asked, graph = [], starts.graph
    monkeypatch.setattr(starts, "graph", lambda *given: asked.append(given) or graph(*given))
    z_ND = torch.randn(150, 60, generator=torch.Generator().manual_seed(0))
    config = scan.Config(n_clusters=k, pretext="frozen", components=16, cluster_epochs=1, cluster_steps=1)
    scan.cluster(z_ND, scan.neighbours(z_ND, config, run), config, run)
    assert bool(asked) == from_graph


def test_each_head_has_a_kmeans_of_its_own(run):
    rows_Nd = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    labels_HN = starts.partitions(rows_Nd, 6, 3, run)
    assert labels_HN.shape == (3, 200) and not torch.equal(labels_HN[0], labels_HN[1])
    assert torch.equal(labels_HN, starts.partitions(rows_Nd, 6, 3, run)), "the same draws again"
    assert torch.equal(labels_HN[1], kmeans(rows_Nd, 6, run.rng("start", 1), starts.ITERS, "k-means++").labels_N)


@pytest.mark.parametrize(
    "pretext, k, n_heads", [("frozen", 10, 40), ("frozen", 20, 20), ("frozen", 100, 4), ("simclr", 10, 20), ("simclr", 40, 10)]
)
def test_given_features_have_more_heads(pretext, k, n_heads):
    assert scan.heads_of(scan.Config(n_clusters=k, pretext=pretext)) == n_heads
