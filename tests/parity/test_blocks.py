"""Neighbours, kNN, metrics, whitening and k-means against what the reference implementations computed; one test a row of their README."""

import numpy as np
import pytest
import torch

from coterie.clustering.kmeans import Alone, _Lloyd, kmeans, pca_whiten
from coterie.clustering.neighbours import nearest
from coterie.evaluate import metrics
from coterie.evaluate.knn import weighted_knn

from .conftest import double


def test_scan_memory_bank(golden):
    z = golden("scan_memory_bank")
    features, queries, targets = double(z["features"]), double(z["queries"]), torch.tensor(z["targets"])
    for k in (1, 5, 20, 50):
        index, similarity = nearest(features, k)
        want = torch.tensor(z[f"nn_idx_{k}"])[:, 1:]
        cosine = (features @ features.T).gather(1, want).float()
        torch.testing.assert_close(similarity, cosine, rtol=0, atol=1e-5)
        differ = index != want  # only where two are equally similar
        assert differ.float().mean() < 1e-3
        assert (targets[index] == targets[:, None]).float().mean().item() == pytest.approx(float(z[f"nn_acc_{k}"]), abs=1e-6)
    for temperature in (0.07, 0.1, 0.5):
        for k in (100, 200):
            got = weighted_knn(features, targets, queries, n_neighbors=k, temperature=temperature)
            assert np.array_equal(got.numpy(), z[f"wknn_pred_T{temperature}_K{k}"])
            accuracy = (got.numpy() == z["query_targets"]).mean()
            assert accuracy == pytest.approx(float(z[f"wknn_acc_T{temperature}_K{k}"]), abs=1e-6)
    assert np.array_equal(weighted_knn(features, targets, queries, n_neighbors=1).numpy(), z["nn1_pred"])


def test_scan_eval(golden):
    z = golden("scan_eval")
    targets = z["targets"]
    for head in range(3):
        logits = z[f"h{head}_logits"]
        clusters = logits.argmax(1)
        assert metrics.accuracy(targets, clusters) == pytest.approx(float(z[f"h{head}_ACC"]), abs=1e-9)
        assert metrics.nmi(targets, clusters) == pytest.approx(float(z[f"h{head}_NMI"]), abs=1e-6)
        assert metrics.ari(targets, clusters) == pytest.approx(float(z[f"h{head}_ARI"]), abs=1e-6)
        found = metrics.match(targets, clusters)
        right = sum(((clusters == cluster) & (targets == c)).sum() for cluster, c in z[f"h{head}_match"])
        assert sum(((clusters == cluster) & (targets == c)).sum() for cluster, c in found.items()) == right
        if found == dict(z[f"h{head}_match"].tolist()):  # an equally good matching may score another top-5
            assert metrics.top_k_accuracy(targets, logits) == pytest.approx(float(z[f"h{head}_top5"]), abs=1e-6)
    assert metrics.accuracy(targets, z["deg_pred"]) == pytest.approx(float(z["deg_ACC"]), abs=1e-9)
    assert metrics.nmi(targets, z["deg_pred"]) == pytest.approx(float(z["deg_NMI"]), abs=1e-6)
    assert metrics.ari(targets, z["deg_pred"]) == pytest.approx(float(z["deg_ARI"]), abs=1e-6)


def test_spice_metrics(golden):
    z, heads = golden("spice_metrics"), golden("scan_eval")
    for head in range(3):
        clusters = heads[f"h{head}_logits"].argmax(1)
        assert metrics.accuracy(heads["targets"], clusters) == pytest.approx(float(z[f"h{head}_acc"]), abs=1e-9)
        assert metrics.nmi(heads["targets"], clusters, average="geometric") == pytest.approx(float(z[f"h{head}_nmi_geometric"]), abs=1e-9)
        assert metrics.ari(heads["targets"], clusters) == pytest.approx(float(z[f"h{head}_ari"]), abs=1e-9)
    degenerate = metrics.nmi(heads["targets"], heads["deg_pred"], average="geometric")
    assert degenerate == pytest.approx(float(z["deg_nmi_geometric"]), abs=1e-9)


def test_dc_preprocess(golden):
    z = golden("dc_preprocess")
    for case in "abc":
        x = torch.tensor(z[f"{case}_x"])
        for rows in (x, x.double()):
            got, want = pca_whiten(rows, int(z[f"{case}_pca"])).double(), torch.tensor(z[f"{case}_out"]).double()
            torch.testing.assert_close(got @ got.T, want @ want.T, rtol=0, atol=1e-3)
            sign = (got * want).sum(0).sign()  # free for each component
            torch.testing.assert_close(got * sign, want, rtol=0, atol=1e-3)
    # where the reference stops, fewer components are given
    assert pca_whiten(torch.randn(300, 32), 64).shape == (300, 32)
    assert pca_whiten(torch.randn(20, 64), 32).shape == (20, 19)


def test_dc_kmeans(golden):
    z = golden("dc_kmeans")
    x, k = double(z["a_x"]), int(z["a_k"])
    inertias = [kmeans(x, k, torch.Generator().manual_seed(seed)).inertia for seed in range(10)]
    assert np.median(inertias) <= 1.05 * float(z["a_final_obj"])
    reference = torch.tensor(z["a_I"]).long()
    start = torch.stack([x[reference == cluster].mean(0) for cluster in range(k)])
    assert kmeans(x, k, init=start).inertia <= float(z["a_final_obj"]) * (1 + 1e-5), "going on from its result can only be better"

    repeated = kmeans(torch.tensor(z["dup_x"]), int(z["dup_k"]))
    assert int((repeated.sizes_K > 0).sum()) == int(z["dup_n_nonempty"])
    assert torch.isfinite(repeated.centroids_KD).all() and repeated.inertia <= float(z["dup_final_obj"])
    mates = torch.tensor(z["dup_I"])
    same = repeated.labels_N[:, None] == repeated.labels_N
    assert torch.equal(same, mates[:, None] == mates), "the same partition"

    rows = torch.tensor(z["split_x"])  # two points; four clusters start on them, so two become empty
    lloyd = _Lloyd(rows, 4, False, Alone(), torch.Generator().manual_seed(0))
    centroids = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    got = lloyd.split(centroids, torch.tensor([50, 50, 0, 0]))
    want = torch.tensor(z["split_centroids_iter1"])
    torch.testing.assert_close(got.unique(dim=0), want.unique(dim=0), rtol=0, atol=1e-7)
