"""How far scores of clusters would move with other images of the same kind: the bootstrap over images (Efron, 1979).

Images drawn with replacement are, for these scores, counts drawn for the cells of the table classes x clusters, from a multinomial of its
shares; so no image is touched, and a thousand draws cost what a thousand tables cost.

Shapes: N images, M cells of the table that hold any, R draws.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from coterie.errors import InputError
from coterie.evaluate import metrics
from coterie.run.seeding import seed_of

DRAWS, SHARE = 1000, 0.95
CELLS = 1 << 22  # numbers that are held at once


def intervals(labels: Any, clusters: Any, seed: int = 0, draws: int = DRAWS, share: float = SHARE) -> dict[str, list[float]]:
    """{"acc", "nmi", "ari": [low, high]}, the percentile interval that holds `share` of the draws.

    Each cluster keeps the class that it has by the whole, so that ACC is a mean over images. What is drawn twice makes NMI and ARI, which
    look at pairs, a little higher than the whole; with thousands of images by less than the third decimal.
    InputError: as the metrics.
    """
    if not 0 < share < 1 or draws < 1:
        raise InputError(f"share = {share}, draws = {draws}; wanted a share between 0 and 1, and a draw or more")
    table_CK = metrics.confusion(labels, clusters)
    class_M, cluster_M = table_CK.nonzero()
    counts_M = table_CK[class_M, cluster_M]
    classes, ids = np.unique(np.asarray(labels)), np.unique(np.asarray(clusters))
    partner = metrics.match(labels, clusters)
    right_M = np.array([partner.get(int(ids[k])) == int(classes[c]) for c, k in zip(class_M, cluster_M)])
    rng = np.random.default_rng(seed_of(seed, "bootstrap"))
    n, found = int(counts_M.sum()), []
    for start in range(0, draws, each := max(1, CELLS // len(counts_M))):
        drawn_RM = rng.multinomial(n, counts_M / n, size=min(each, draws - start))
        found.append(scores(drawn_RM, class_M, cluster_M, right_M))
    edges = [(1 - share) / 2, (1 + share) / 2]
    return {
        name: [float(edge) for edge in np.quantile(np.concatenate([one[name] for one in found]), edges)] for name in ("acc", "nmi", "ari")
    }


def scores(drawn_RM: NDArray, class_M: NDArray, cluster_M: NDArray, right_M: NDArray) -> dict[str, NDArray[np.float64]]:
    """ACC, NMI (arithmetic) and ARI of each of R tables, given by their cells."""
    drawn_RM = drawn_RM.astype(np.float64)
    n = drawn_RM[0].sum()
    rows_RC, columns_RK = _sums(drawn_RM, class_M), _sums(drawn_RM, cluster_M)
    of_rows_R, of_columns_R = _entropy(rows_RC / n), _entropy(columns_RK / n)
    shared_R = of_rows_R + of_columns_R - _entropy(drawn_RM / n)
    mean_R = (of_rows_R + of_columns_R) / 2
    both_R, rows_R, columns_R = (_pairs(counts).sum(1) for counts in (drawn_RM, rows_RC, columns_RK))
    chance_R = rows_R * columns_R / max(_pairs(n), 1)
    most_R = (rows_R + columns_R) / 2
    one_R = np.ones(len(drawn_RM))  # as scikit-learn: one class and one cluster agree
    return {
        "acc": drawn_RM[:, right_M].sum(1) / n,
        "nmi": np.divide(shared_R.clip(min=0), mean_R, out=one_R.copy(), where=mean_R > 1e-12),
        "ari": np.divide(both_R - chance_R, most_R - chance_R, out=one_R.copy(), where=most_R - chance_R > 1e-9),
    }


def _sums(drawn_RM: NDArray, of_M: NDArray) -> NDArray:
    """The cells of each row, or column, of the table together."""
    order_M = np.argsort(of_M, kind="stable")
    starts = np.flatnonzero(np.diff(of_M[order_M], prepend=-1))
    return np.add.reduceat(drawn_RM[:, order_M], starts, axis=1)


def _entropy(share_RM: NDArray) -> NDArray:
    return -(share_RM * np.log(np.where(share_RM > 0, share_RM, 1))).sum(1)


def _pairs(counts: Any) -> Any:
    return counts * (counts - 1) / 2
