"""Which pictures are most like each other, for a page that shows them side by side. N images, M candidates, D feature, L neighbours."""

import numpy as np

NEAREST = 8
CANDIDATES = 20_000  # above that they are sought among so many, drawn evenly: seconds of one core for each 10,000 pictures
TILE = 1024  # rows at a time


def nearest(features_ND: np.ndarray) -> np.ndarray:
    """Of each row the 8 others with the highest cosine, the highest first: ids int32 (N, L), L = 8 or as many as there are others.

    features_ND: any float type. Among at most 20,000 rows, evenly spaced. A row of zeros has neighbours like any other.
    """
    n = len(features_ND)
    rows_ND = features_ND.astype(np.float32)
    rows_ND /= np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)
    ids_M = np.arange(n) if n <= CANDIDATES else np.linspace(0, n - 1, CANDIDATES).astype(np.int64)
    width = max(0, min(NEAREST, len(ids_M) - 1))
    found_NL = np.zeros((n, width), np.int32)
    if not width:
        return found_NL
    candidates_DM = np.ascontiguousarray(rows_ND[ids_M].T)
    for start in range(0, n, TILE):
        cosine_BM = rows_ND[start : start + TILE] @ candidates_DM
        here_B = np.arange(start, start + len(cosine_BM))
        place_B = np.searchsorted(ids_M, here_B).clip(max=len(ids_M) - 1)
        own_B = np.flatnonzero(ids_M[place_B] == here_B)
        cosine_BM[own_B, place_B[own_B]] = -2
        best_BL = np.argpartition(-cosine_BM, width - 1, axis=1)[:, :width]
        order_BL = np.argsort(-np.take_along_axis(cosine_BM, best_BL, 1), axis=1, kind="stable")
        found_NL[here_B] = ids_M[np.take_along_axis(best_BL, order_BL, 1)]
    return found_NL


def closeness(features_ND: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Cosine of each row with the mean feature of its cluster, float32 (N,); 0 where it is in none (-1)."""
    rows_ND = features_ND.astype(np.float32)
    found_N = np.zeros(len(rows_ND), np.float32)
    order = np.argsort(labels_N, kind="stable")
    numbers, starts = np.unique(labels_N[order], return_index=True)
    for number, ids in zip(numbers, np.split(order, starts[1:])):
        if number >= 0:
            mean_D = rows_ND[ids].mean(0)
            lengths_M = np.linalg.norm(rows_ND[ids], axis=1) * np.linalg.norm(mean_D)
            found_N[ids] = rows_ND[ids] @ mean_D / np.maximum(lengths_M, 1e-12)
    return found_N
