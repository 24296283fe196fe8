"""How much better one clustering is than another of the same images: the paired bootstrap over images and seeds (Efron, 1979).

Both clusterings are drawn alike: the same images, and of the fits under several seeds the same seeds. What is hard for both then counts for
neither, and an interval that leaves 0 out tells the two apart where their own intervals would overlap.

Shapes: N images, S seeds, R draws.
"""

from typing import Any

import numpy as np

from coterie.errors import InputError
from coterie.evaluate.intervals import DRAWS, SHARE
from coterie.run.seeding import seed_of


def paired(one_SN: Any, other_SN: Any, seed: int = 0, draws: int = DRAWS, share: float = SHARE) -> dict[str, float]:
    """{"difference", "low", "high"}: the ACC of the one less that of the other, and the interval that holds `share` of the draws.

    one_SN, other_SN: whether each image is right (`metrics.right`) in the fit under each seed, rows of the same seeds in the same order.
    Images are drawn with replacement, and seeds too where there are several; with one seed the interval says nothing of others.
    InputError: shapes that differ or hold nothing, a share not between 0 and 1.
    """
    one, other = np.asarray(one_SN, dtype=np.float64), np.asarray(other_SN, dtype=np.float64)
    if one.ndim != 2 or not one.size or one.shape != other.shape:
        raise InputError(f"wanted two tables (seeds, images) of one shape, not {one.shape} and {other.shape}")
    if not 0 < share < 1 or draws < 1:
        raise InputError(f"share = {share}, draws = {draws}; wanted a share between 0 and 1, and a draw or more")
    better_SN = one - other
    s, n = better_SN.shape
    rng = np.random.default_rng(seed_of(seed, "paired"))
    of_seeds_RS = rng.multinomial(s, np.full(s, 1 / s), size=draws) / s
    found_R = np.array([weight_S @ (better_SN @ (rng.multinomial(n, np.full(n, 1 / n)) / n)) for weight_S in of_seeds_RS])
    low, high = np.quantile(found_R, [(1 - share) / 2, (1 + share) / 2])
    return {"difference": float(better_SN.mean()), "low": float(low), "high": float(high)}
