"""A matrix of features as k-means, neighbours and kNN need it: checked, in chunks, of unit length, multiplied exactly.

Shapes: N rows, D feature, B rows of a chunk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.errors import InputError

CHUNK = 1 << 15  # rows taken at once where nothing else bounds them: 32 MB at D = 256
_backends: Any = torch.backends
BACKENDS = (_backends.cuda.matmul, _backends.mkldnn.matmul)


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover 0 .. n - 1 in order."""
    return (slice(start, min(start + size, n)) for start in range(0, n, max(1, size)))


def check(features_ND: Tensor, name: str = "features") -> None:
    """InputError unless `features_ND` is a matrix with a column or more and nothing but finite numbers; reads it in chunks."""
    if features_ND.ndim != 2 or 0 in features_ND.shape[1:]:
        raise InputError(f"{name} have shape {tuple(features_ND.shape)}; (rows, columns) is needed")
    for part in chunks(len(features_ND), CHUNK):
        if features_ND[part].sum().isfinite():  # a quarter of the time, and nearly always the answer; a sum may overflow, so look closer
            continue
        bad = (~features_ND[part].isfinite()).any(1).nonzero()
        if len(bad):
            raise InputError(f"{name} have NaN or infinity in row {part.start + int(bad[0])}; leave such rows out")


def working_dtype(features_ND: Tensor) -> torch.dtype:
    """float64 stays; anything else (bfloat16, half, integers) is computed in float32."""
    return torch.float64 if features_ND.dtype == torch.float64 else torch.float32


def unit(features_ND: Tensor) -> Tensor:
    """Rows divided by their lengths, in the working dtype; a zero row stays zero."""
    return F.normalize(features_ND.to(working_dtype(features_ND)))


def means(features_ND: Tensor, labels_N: Tensor, k: int) -> Tensor:
    """The mean of each cluster's rows, (k, D) in the working dtype, zeros for a cluster without; the same bits every time on any device."""
    order = labels_N.argsort(stable=True)[int((labels_N < 0).sum()) :]
    sizes_K = labels_N[order].bincount(minlength=k)
    return F.embedding_bag(order, features_ND.to(working_dtype(features_ND)), sizes_K.cumsum(0) - sizes_K, mode="mean")


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """Inside it float32 products are float32, whatever autocast, TF32 or bf16 the surroundings allow, and no gradient is recorded.

    With 8 or 11 bits of mantissa, neighbours and nearest centroids come out different.
    """
    before = [backend.fp32_precision for backend in BACKENDS]
    try:
        for backend in BACKENDS:
            backend.fp32_precision = "ieee"
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(BACKENDS, before):
            backend.fp32_precision = precision
