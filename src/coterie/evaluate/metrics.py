"""How clusters agree with classes. Together with evaluate/ the only reader of true labels; nothing that learns may import it.

Every function takes integers as lists, arrays or tensors, one per image, and returns a Python float unless it says otherwise. Cluster -1 is
noise: it belongs to no class, so accuracy, purity and what is built on the matching count it wrong; nmi, ari and ami take it as one more
cluster. InputError: lengths that differ, nothing to score, values that are not integers.

Shapes: N images, K clusters, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError

NOISE = -1


def match(labels: Any, clusters: Any) -> dict[int, int]:
    """cluster -> class, one to one, so that as many images as possible are right (the Hungarian method; Kuhn, 1955).

    With more clusters than classes, or fewer, some have no partner and are not in the dict; nor is noise.
    """
    from scipy.optimize import linear_sum_assignment

    classes, ids, table_CK = _table(labels, clusters)
    table_CK = np.where(ids == NOISE, 0, table_CK)
    rows, columns = linear_sum_assignment(table_CK, maximize=True)
    return {int(ids[k]): int(classes[c]) for c, k in zip(rows, columns) if ids[k] != NOISE}


def accuracy(labels: Any, clusters: Any) -> float:
    """Share of images whose cluster is matched with their class. ACC of the papers; with C = K the same as theirs."""
    return float(right(labels, clusters).mean())


def right(labels: Any, clusters: Any) -> NDArray[np.bool_]:
    """Of each image, whether its cluster is matched with its class, (N,)."""
    return _hits(*_pair(labels, clusters), False)


def confusion(labels: Any, clusters: Any) -> NDArray[np.int64]:
    """Counts (C, K): rows are the classes that occur, columns the clusters that occur (noise first), both in ascending order."""
    return _table(labels, clusters)[2]


def purity(labels: Any, clusters: Any) -> float:
    """Share of images in their cluster's most frequent class: many clusters may share a class. Grows with K; 1.0 when K = N."""
    _, ids, table_CK = _table(labels, clusters)
    return float(table_CK[:, ids != NOISE].max(0).sum() / table_CK.sum())


def nmi(labels: Any, clusters: Any, average: str = "arithmetic") -> float:
    """Mutual information divided by the mean of the two entropies: "arithmetic" (SCAN, scikit-learn) or "geometric" (SPICE)."""
    from sklearn.metrics import normalized_mutual_info_score

    if average not in ("arithmetic", "geometric"):
        raise InputError(f"average = {average!r}; 'arithmetic' or 'geometric' are known")
    return float(normalized_mutual_info_score(*_pair(labels, clusters), average_method=average))


def ami(labels: Any, clusters: Any) -> float:
    """Mutual information adjusted for chance: 0.0 in expectation for random clusters, whatever their number."""
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(*_pair(labels, clusters)))


def ari(labels: Any, clusters: Any) -> float:
    """Pairs of images on which both agree, adjusted for chance (Hubert and Arabie, 1985)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_pair(labels, clusters)))


def balanced_accuracy(labels: Any, clusters: Any, matched: bool = False) -> float:
    """Mean over the classes of the share of their images that are right. matched: `clusters` are class ids already (a classifier's)."""
    labels, clusters = _pair(labels, clusters)
    _, class_N, sizes_C = np.unique(labels, return_inverse=True, return_counts=True)
    return float((np.bincount(class_N, _hits(labels, clusters, matched)) / sizes_C).mean())


def macro_f1(labels: Any, clusters: Any, matched: bool = False) -> float:
    """Mean over the classes of F1 = 2 right / (size of the class + size of its cluster); 0.0 for a class without a cluster."""
    labels, clusters = _pair(labels, clusters)
    classes, class_N, sizes_C = np.unique(labels, return_inverse=True, return_counts=True)
    right_C = np.bincount(class_N, _hits(labels, clusters, matched))
    partner = {int(c): int(c) for c in classes} if matched else {c: k for k, c in match(labels, clusters).items()}
    given_C = np.array([(clusters == partner[int(c)]).sum() if int(c) in partner else 0 for c in classes])
    return float((2 * right_C / (sizes_C + given_C)).mean())


def top_k_accuracy(labels: Any, p_NK: Any, k: int = 5, matched: bool = False) -> float:
    """Share of images whose class is among the classes of their k most probable clusters; clusters are matched by their first choice.

    Among equal probabilities the lowest cluster comes first. k above the number of clusters: all of them count.
    """
    labels, p_NK = _soft(labels, p_NK)
    if k < 1:
        raise InputError(f"k = {k}; at least 1 is needed")
    classes, class_N = np.unique(labels, return_inverse=True)
    partner = {int(c): int(c) for c in classes} if matched else {c: cluster for cluster, c in match(labels, p_NK.argmax(1)).items()}
    own_N = np.array([partner.get(int(c), -1) for c in classes])[class_N]
    first_NK = np.argsort(-p_NK, axis=1, kind="stable")[:, :k]
    return float((first_NK == own_N[:, None]).any(1).mean())


def expected_calibration_error(labels: Any, p_NK: Any, bins: int = 15, matched: bool = False) -> float:
    """Mean distance of confidence (the largest probability) from accuracy over `bins` equal intervals of (0, 1], weighted by their images.

    15 bins: Guo et al., 2017. 0.0 is perfect.
    """
    labels, p_NK = _soft(labels, p_NK)
    confidence_N = p_NK.max(1)
    if bins < 1 or confidence_N.min() < 0 or confidence_N.max() > 1 + 1e-6:
        raise InputError(
            f"bins = {bins}, confidence {confidence_N.min():.3g} to {confidence_N.max():.3g}; at least 1, and 0 to 1, are needed"
        )
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(int) - 1, 0, bins - 1)
    excess = np.bincount(bin_N, confidence_N - _hits(labels, p_NK.argmax(1), matched), minlength=bins)
    return float(np.abs(excess).sum() / len(labels))


def risk_coverage_area(labels: Any, p_NK: Any, matched: bool = False) -> float:
    """Area under the curve of the share of wrong images among the n most confident, n = 1 .. N (AURC; Geifman et al., 2019). Low is good.

    Images of equal confidence count with their mean, so that their order does not matter.
    """
    labels, p_NK = _soft(labels, p_NK)
    _, tie_N = np.unique(-p_NK.max(1), return_inverse=True)
    wrong_N = ~_hits(labels, p_NK.argmax(1), matched)
    mean_wrong = np.bincount(tie_N, wrong_N) / np.bincount(tie_N)
    risk_N = np.cumsum(mean_wrong[np.sort(tie_N)]) / np.arange(1, len(labels) + 1)
    return float(risk_N.mean())


def _hits(labels: NDArray, clusters: NDArray, matched: bool) -> NDArray[np.bool_]:
    """Which images are right."""
    if matched:
        return labels == clusters
    partner = match(labels, clusters)
    ids, cluster_N = np.unique(clusters, return_inverse=True)
    given_N = np.array([partner.get(int(k), 0) for k in ids])[cluster_N]
    known_N = np.array([int(k) in partner for k in ids])[cluster_N]
    return known_N & (given_N == labels)


def _table(labels: Any, clusters: Any) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Class ids (C,), cluster ids (K,), counts (C, K)."""
    labels, clusters = _pair(labels, clusters)
    classes, class_N = np.unique(labels, return_inverse=True)
    ids, cluster_N = np.unique(clusters, return_inverse=True)
    counts = np.bincount(class_N * len(ids) + cluster_N, minlength=len(classes) * len(ids))
    return classes, ids, counts.reshape(len(classes), len(ids))


def _pair(labels: Any, clusters: Any) -> tuple[NDArray, NDArray]:
    labels, clusters = _integers(labels, "labels"), _integers(clusters, "clusters")
    if len(labels) != len(clusters):
        raise InputError(f"{len(labels)} labels and {len(clusters)} clusters; as many are needed")
    return labels, clusters


def _soft(labels: Any, p_NK: Any) -> tuple[NDArray, NDArray[np.float64]]:
    labels, p_NK = _integers(labels, "labels"), _array(p_NK).astype(np.float64)
    if p_NK.ndim != 2 or len(p_NK) != len(labels) or not p_NK.shape[1]:
        raise InputError(f"probabilities of shape {p_NK.shape} for {len(labels)} labels; ({len(labels)}, clusters) is needed")
    if not np.isfinite(p_NK).all():
        raise InputError("probabilities are not all finite")
    return labels, p_NK


def _integers(values: Any, name: str) -> NDArray:
    values = _array(values)
    if values.ndim != 1 or not len(values):
        raise InputError(f"{name} of shape {values.shape}; one integer per image, and an image or more, are needed")
    if values.dtype.kind not in "iub" and not (values.dtype.kind == "f" and np.array_equal(values, np.round(values))):
        raise InputError(f"{name} of type {values.dtype}; integers are needed")
    return values.astype(np.int64)


def _array(values: Any) -> NDArray:
    """Tensors of any device without importing torch: a torch tensor knows how to detach itself."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values  # numpy has no bfloat16
    return np.asarray(values)
