"""The 2-D map: a t-SNE of the features, made once per run and kept in map.parquet."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coterie.errors import InputError
from coterie.run.files import damaged, read_table, write_kept

AT_MOST = 2500  # rows that t-SNE places, about 8 s on one core; the others go where those most like them are
LIKE = 5  # of these, weighted by how alike they are
TILE = 4096  # rows at a time
PERPLEXITY = 30
ITERATIONS = 500


@dataclass(frozen=True)
class Map:
    """ids int64 (N,) ascending, all of the run; xy float32 (N, 2), each axis within 0..1, the longer one filling it."""

    ids: np.ndarray
    xy: np.ndarray


def read_map(run: Path, features_ND: np.ndarray, wanted: np.ndarray) -> Map:
    """The run's map; made and written to map.parquet when it is not there yet, or damaged. wanted: ids that should be on it (those with a
    picture)."""
    path = run / "map.parquet"
    if path.exists():
        try:
            return _kept(path, len(features_ND))
        except InputError:  # the same features give the same map
            pass
    found = make_map(features_ND, wanted)
    if os.access(run, os.W_OK):  # an archive of runs may be read-only; the page matters more than the copy
        table = pa.table({"id": found.ids, "x": found.xy[:, 0], "y": found.xy[:, 1]})
        write_kept(path, lambda new: pq.write_table(table, new))
    return found


def _kept(path: Path, n: int) -> Map:
    """InputError when the file is damaged, or of another run."""
    table = read_table(path, "id", "x", "y").select(("id", "x", "y"))
    if not pa.types.is_integer(table.schema.field("id").type) or any(column.null_count for column in table.columns):
        raise damaged(path, "is damaged: its ids are no numbers, or it has gaps")
    ids, x, y = (column.to_numpy() for column in table.columns)
    rising = bool((np.diff(ids) > 0).all()) and len(ids) == n
    if not rising or (n and not (ids[0] >= 0 and ids[-1] < n)) or not (x.dtype.kind == y.dtype.kind == "f"):
        raise damaged(path, "does not belong to this run")
    xy = np.stack([x, y], axis=1).astype(np.float32)
    if not np.isfinite(xy).all():
        raise damaged(path, "is damaged: places that are not finite")
    return Map(ids.astype(np.int64), _unit(xy))


def make_map(features_ND: np.ndarray, wanted: np.ndarray) -> Map:
    """The same features give the same map: fixed seed, one thread (sums in a fixed order). Above 2,500 rows so many are placed, the wanted
    ones first, and the others between those of them that they are most like."""
    n = len(features_ND)
    ids = np.arange(n, dtype=np.int64)
    if n <= AT_MOST:
        return Map(ids, _unit(_place(features_ND.astype(np.float32))))
    others = np.setdiff1d(ids, wanted)
    extra = np.random.default_rng(0).choice(others, max(0, AT_MOST - len(wanted)), replace=False)
    placed = np.sort(np.concatenate([wanted[:AT_MOST], extra])).astype(np.int64)
    xy = np.empty((n, 2), np.float32)
    xy[placed] = _place(features_ND[placed].astype(np.float32))
    rest = np.setdiff1d(ids, placed)
    xy[rest] = _between(features_ND, rest, placed, xy[placed])
    return Map(ids, _unit(xy))


def _between(features_ND: np.ndarray, rest: np.ndarray, placed: np.ndarray, xy_P2: np.ndarray) -> np.ndarray:
    """(R, 2): the mean place of the 5 placed rows with the highest cosine, those far less alike than the first counting little."""
    rows_DP = _unit_rows(features_ND[placed]).T
    found = np.empty((len(rest), 2), np.float32)
    for start in range(0, len(rest), TILE):
        cosine_BP = _unit_rows(features_ND[rest[start : start + TILE]]) @ rows_DP
        best_BL = np.argpartition(-cosine_BP, LIKE - 1, axis=1)[:, :LIKE]
        near_BL = np.take_along_axis(cosine_BP, best_BL, 1)
        apart_BL = 1 - near_BL + 1e-6
        weight_BL = (apart_BL.min(1, keepdims=True) / apart_BL) ** 2
        found[start : start + TILE] = (weight_BL[:, :, None] * xy_P2[best_BL]).sum(1) / weight_BL.sum(1, keepdims=True)
    return found


def _unit_rows(features_MD: np.ndarray) -> np.ndarray:
    rows_MD = features_MD.astype(np.float32)
    return rows_MD / np.maximum(np.linalg.norm(rows_MD, axis=1, keepdims=True), 1e-12)


def _place(features_MD: np.ndarray) -> np.ndarray:
    """By cosine, in all dimensions: of whitened features the customary first 50 components are any 50, and the kinds run together."""
    m, d = features_MD.shape
    if m < 2 or np.ptp(features_MD, axis=0).max(initial=0) == 0:  # nothing to spread out
        return np.zeros((m, 2), np.float32)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        if m < 5 or d < 2:
            return np.pad(PCA(min(2, m, d)).fit_transform(features_MD), ((0, 0), (0, 1)))[:, :2]
        perplexity = min(PERPLEXITY, (m - 1) / 3.5)
        return TSNE(perplexity=perplexity, max_iter=ITERATIONS, metric="cosine", init="pca", random_state=0).fit_transform(features_MD)


def _unit(xy: np.ndarray) -> np.ndarray:
    if not len(xy):
        return xy.reshape(0, 2).astype(np.float32)
    xy = xy - xy.min(0)
    return (xy / max(float(xy.max()), 1e-12)).astype(np.float32)
