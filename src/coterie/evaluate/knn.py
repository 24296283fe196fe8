"""Weighted nearest-neighbour classification: what features say about classes without training anything on them.

Shapes: N training rows, M test rows, D feature, K neighbours, C classes, B rows of a chunk.
"""

from typing import Any

import torch
from torch import Tensor

from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import chunks
from coterie.errors import InputError

ROWS = 1 << 14  # rows that vote at once: 200 neighbours of them are 40 MB


def weighted_knn(
    train_features_ND: Tensor, train_labels_N: Any, test_features_MD: Tensor | None = None, n_neighbors: int = 200, temperature: float = 0.1
) -> Tensor:
    """The class of each test row: its `n_neighbors` most similar training rows vote with weight exp(cosine / temperature).

    200 and 0.1 are instance discrimination's numbers (Wu et al., 2018, sec. 4.1: k = 200, tau; SCAN's code uses the same).
    train_labels_N    any integers; a tie goes to the lowest
    test_features_MD  None: leave one out, each training row judged by the others
    n_neighbors       cut to the rows there are
    Returns int64 (M,), or (N,) without test rows, on the device of the features.
    InputError: labels of another length, a temperature that is not positive, and what `nearest` refuses.
    """
    labels_N = torch.as_tensor(train_labels_N, device=train_features_ND.device)
    if labels_N.shape != train_features_ND.shape[:1]:
        raise InputError(f"{tuple(labels_N.shape)} labels for {len(train_features_ND)} training rows; one per row is needed")
    if not temperature > 0:
        raise InputError(f"temperature = {temperature}; it must be positive")
    classes_C, class_N = labels_N.long().unique(return_inverse=True)
    most = len(labels_N) - (test_features_MD is None)
    index_MK, similarity_MK = nearest(train_features_ND, min(n_neighbors, most), test_features_MD)
    found = []
    for part in chunks(len(index_MK), ROWS):
        weight_BK = ((similarity_MK[part] - 1) / temperature).exp()  # a cosine is at most 1: no overflow at low temperatures
        votes_BC = weight_BK.new_zeros(len(weight_BK), len(classes_C)).scatter_add_(1, class_N[index_MK[part]], weight_BK)
        found.append(votes_BC.argmax(1))
    return classes_C[torch.cat(found)]
