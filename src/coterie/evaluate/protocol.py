"""Protocols: how a finished run is scored against true labels. Never mixed in one table.

clusters  ACC (Hungarian), NMI, ARI, many-to-one purity, top-5, beside k-means on pixels and on the features; needs no source
knn       weighted kNN on the features (k = 200, temperature 0.1; Wu et al. 2018): leave-one-out, or fitted images against `--on`
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie.clustering.kmeans import kmeans
from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.evaluate.intervals import intervals
from coterie.evaluate.knn import weighted_knn
from coterie.evaluate.labels import Labels, labels_of
from coterie.run import seeding
from coterie.run.files import probabilities, read_assignments, read_config, read_features, read_trace

PURIFIED = "purified"  # in trace.safetensors: clusters of the epoch, and 1 for images PCP kept
NO_LABEL = "without a label"
PROTOCOLS = ("clusters", "knn")


def evaluate(folder: Path, how: str | None, protocols: list[str], on: "New | None" = None, fitted_how: str | None = None) -> dict[str, Any]:
    """Scores of a run (`evaluate --json`); with `on`, of other images under the run's model (split protocol).

    `how` says where the labels of the scored images are (`labels_of`), `fitted_how` where those of the fitted ones are, for knn with `on`.
    """
    for name in protocols:
        if name not in PROTOCOLS:
            raise InputError(f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}")
    rows, made = read_assignments(folder), read_config(folder)
    p_NK = probabilities(rows)
    paths = rows["path"].to_pylist()
    fitted = labels_of(made["source"], paths, fitted_how if on else how) if on is None or "knn" in protocols else None
    features_ND = torch.from_numpy(read_features(folder, len(rows))).float()
    trace = {name: torch.from_numpy(labels) for name, labels in read_trace(folder, len(rows), "baseline-pixels").items()}
    k = p_NK.shape[1]
    generator = seeding.generator(made["seed"], "evaluate")

    if on is None:
        assert fitted is not None
        truth, p, z, baseline = fitted, p_NK, features_ND, trace["baseline-pixels"].numpy()
    else:
        truth = labels_of(on.source, on.paths, how)
        p, z, baseline = on.p_MK.numpy(), on.features_MD, on.baseline_M.numpy()
    scores: dict[str, Any] = {
        "labels": how or "default",
        "on": on.source["name"] if on else None,
        "n_classes": len(truth.names),
        "n_clusters": k,
        "notes": list(truth.notes),
    }
    if "clusters" in protocols:
        on_features = kmeans(z, min(k, len(z)), generator, iters=100, init="k-means++", restarts=3).labels_N.numpy()
        scores |= cluster_scores(truth, p)
        known_N = truth.values >= 0
        scores["intervals"] = intervals(truth.values[known_N], p.argmax(1)[known_N], made["seed"])
        scores["left_out"] = {NO_LABEL: int((~known_N).sum())}
        scores["baseline_acc"] = _known(metrics.accuracy, truth, baseline)
        scores["features_kmeans_acc"] = _known(metrics.accuracy, truth, on_features)
        unsure_N = rows["cluster"].to_numpy() < 0
        if on is None and unsure_N.any():
            scores["unsure"] = without(truth, p_NK, unsure_N)
        if on is None:
            scores["curves"] = curves(truth, trace)
            if "reliable" in trace:
                scores["reliable"] = trusted(truth, trace["reliable"].long().numpy() - 1)
            if pure := purities(truth, trace):
                scores["purity"] = pure
    if "knn" in protocols:
        assert fitted is not None
        scores["knn_acc"] = _knn(fitted, features_ND, None if on is None else (truth, z))
    return scores


class New:
    """Images beside the fitted ones: what `--on` names. M images."""

    def __init__(self, source: dict[str, Any], paths: list[str], p_MK: torch.Tensor, features_MD: torch.Tensor, baseline_M: torch.Tensor):
        self.source, self.paths, self.p_MK, self.features_MD, self.baseline_M = source, paths, p_MK, features_MD, baseline_M


def cluster_scores(truth: Labels, p_NK: np.ndarray) -> dict[str, Any]:
    """ACC, NMI, ARI and other metrics, purity, top-5 and the confusion (classes x clusters) of the images whose label is known; what the
    confidence is worth (calibration_error, risk_coverage: low is good); superclasses where known."""
    known = truth.values >= 0
    labels, p = truth.values[known], p_NK[known]
    clusters = p.argmax(1)
    table = np.zeros((len(truth.names), p.shape[1]), int)
    np.add.at(table, (labels, clusters), 1)
    return {
        "acc": metrics.accuracy(labels, clusters),
        "nmi": metrics.nmi(labels, clusters),
        "ari": metrics.ari(labels, clusters),
        "ami": metrics.ami(labels, clusters),
        "balanced_acc": metrics.balanced_accuracy(labels, clusters),
        "macro_f1": metrics.macro_f1(labels, clusters),
        "calibration_error": metrics.expected_calibration_error(labels, p),
        "risk_coverage": metrics.risk_coverage_area(labels, p),
        "n_images": int(known.sum()),
        "many_to_one": metrics.purity(labels, clusters),
        **({"top_5": metrics.top_k_accuracy(labels, p, k=5)} if p.shape[1] > 5 else {}),
        "classes": truth.names,
        **({"superclasses": truth.superclasses} if truth.superclasses else {}),
        "confusion": table.tolist(),
        "match": {str(cluster): int(label) for cluster, label in metrics.match(labels, clusters).items()},
    }


def without(truth: Labels, p_NK: np.ndarray, unsure_N: np.ndarray) -> dict[str, Any]:
    """What leaving images out as unsure did: how many are, ACC of the others, and the share of all errors that they hold (None: no error).
    Clusters are matched with all images; `acc` and the rest of the scores are of all of them, too, each in its likeliest cluster."""
    known_N = truth.values >= 0
    clusters_N = p_NK.argmax(1)
    partner = metrics.match(truth.values[known_N], clusters_N[known_N])
    wrong_N = np.array([partner.get(int(cluster), -1) for cluster in clusters_N]) != truth.values
    kept_N, errors = known_N & ~unsure_N, int((wrong_N & known_N).sum())
    return {
        "n": int(unsure_N.sum()),
        "acc_of_others": float(1 - wrong_N[kept_N].mean()) if kept_N.any() else None,
        "share_of_errors": float((wrong_N & known_N & unsure_N).sum() / errors) if errors else None,
    }


def curves(truth: Labels, trace: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
    """ACC per traced epoch, "stage" -> [[epoch, ACC of each head], ...]."""
    found: dict[str, list[Any]] = {}
    for key in sorted(trace):
        stage, _, epoch = key.rpartition("-")
        if epoch.isdigit() and stage != PURIFIED:
            found.setdefault(stage, []).append(
                [int(epoch), [round(_known(metrics.accuracy, truth, row.numpy()), 4) for row in trace[key].long()]]
            )
    return found


def trusted(truth: Labels, labels_N: np.ndarray) -> dict[str, float]:
    """Of pseudo-labels (-1: left out): the share of images that have one, and ACC among those of known class."""
    kept = labels_N >= 0
    known = kept & (truth.values >= 0)
    precision = metrics.accuracy(truth.values[known], labels_N[known]) if known.any() else 0.0
    return {"share": float(kept.mean()), "precision": float(precision)}


def purities(truth: Labels, trace: dict[str, torch.Tensor]) -> list[list[float]]:
    """[epoch, purity of all, purity of the kept] of PCP's traced epochs: the share of images of the most frequent class of their cluster,
    over the clusters that keep any, of all their images and of those they keep."""
    found: list[list[float]] = []
    for key in sorted(trace):
        stage, _, epoch = key.rpartition("-")
        if stage == PURIFIED:
            clusters, kept = (row.numpy() for row in trace[key].long())
            chosen = (kept > 0) & (truth.values >= 0)
            beside = np.isin(clusters, clusters[chosen]) & (truth.values >= 0)
            if chosen.any():
                pure = (metrics.purity(truth.values[some], clusters[some]) for some in (beside, chosen))
                found.append([int(epoch), *(round(float(share), 4) for share in pure)])
    return found


def _known(score: Any, truth: Labels, clusters: np.ndarray) -> float:
    """Of those whose class is known, and, of a clustering that `update` found, those that were there."""
    known = (truth.values >= 0) & (clusters >= 0)
    return float(score(truth.values[known], clusters[known])) if known.any() else 0.0


def _knn(fitted: Labels, features_ND: torch.Tensor, test: tuple[Labels, torch.Tensor] | None) -> float:
    known = torch.from_numpy(fitted.values >= 0)
    labels = torch.from_numpy(fitted.values)[known]
    if test is None:
        return float((weighted_knn(features_ND[known], labels, None) == labels).float().mean())
    truth, z = test
    by_name = {name: i for i, name in enumerate(fitted.names)}
    wanted = torch.tensor([by_name.get(truth.names[v], -2) if v >= 0 else -1 for v in truth.values.tolist()])
    found = weighted_knn(features_ND[known], labels, z[wanted != -1])
    return float((found == wanted[wanted != -1]).float().mean())
