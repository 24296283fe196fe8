"""Small pictures: one pass over the decoded ones serves all that needs no detail, k-means on pixels, near-duplicates, the colours that a
verdict asks; and those that a report shows, encoded once for all runs on the same pictures."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.images import Images
from coterie.run import Run, cached, checkpoint

SIDE = 32  # px, at most: k-means on pixels gains nothing from more, and its time grows with the square
BATCH = 64  # pictures at a time: larger ones as floats leave the caches of a core, and take twice as long


def small(images: Images) -> Tensor:
    """Area means (N, 3, h, w) float32 in 0..1, at most 32 px on a side, on the CPU; features (N, D) as they are."""
    if images.kind == "features":
        return images.pixels
    height, width = (min(SIDE, side) for side in images.size)
    return torch.cat([F.adaptive_avg_pool2d(batch.pixels_B3HW, (height, width)).cpu() for batch in images.batches(BATCH)])


def encoded(images: Images, ids: Sequence[int], run: Run) -> dict[str, np.ndarray]:
    """`thumbnails.pack_others` of the images `ids`, of the store, for reading files again would take as long as a fit; all of them are
    kept in the run's cache."""
    from coterie.report.thumbnails import OTHERS, others_of, pack_others

    def picture(i: int) -> np.ndarray:
        return images.pixels[i].cpu().numpy()

    if run.cache is None or not ids:
        return pack_others(ids, picture)
    key = checkpoint.fingerprint(images, *images.size, *OTHERS)
    found = cached.read(run.cache, cached.THUMBNAILS, key)
    if found is None:
        found = {name: torch.from_numpy(tensor) for name, tensor in pack_others(range(len(images)), picture).items()}
        if lost := cached.keep(run.cache, cached.THUMBNAILS, key, found, images.name, len(images)):
            run.note(lost)
    return others_of({name: tensor.numpy() for name, tensor in found.items() if name != "about"}, ids)
