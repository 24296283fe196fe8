"""Near-duplicates among the pictures of a fit: counted, and a few kept for the report; or each group learned from once.

Shapes: N images, M of them that are learned from, h x w pixels, D feature.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.errors import InputError
from coterie.fitting.assignments import Assignments
from coterie.fitting.small import small
from coterie.images import Images
from coterie.learning.duplicates import SIDE, near_duplicates, representatives
from coterie.methods.pretext import PretextConfig
from coterie.run import Run

GREY = 0.299, 0.587, 0.114  # of red, green and blue (ITU-R BT.601)
TOLD, OF_EACH = 2_000, 100  # groups, and ids of each, that a run keeps
BY_PIXELS = 0.98  # cosine of small pictures, each seen from its mean colour, where there are no features yet to confirm a near-duplicate:
# of 5,000 pictures of MNIST, Fashion-MNIST and CIFAR-10 that leaves 0, 4 and 0; copies of Caltech-101's are found as often as with 0.95


class Once(NamedTuple):
    """ids_M: the images that are learned from, ascending; place_N: of each image its place among them; told: as `duplicates` tells it."""

    ids_M: Tensor
    place_N: Tensor
    told: dict[str, Any]


def duplicates(images: Images, small_NCHW: Tensor, features_ND: Tensor) -> dict[str, Any]:
    """`extra`: images beyond the first of each group, exact copies among them; `groups`: how many; `largest`: their ids, bounded. Empty
    where there are no pictures."""
    return {} if images.kind == "features" else _told(near_duplicates(thumbnails(small_NCHW), features_ND))


def once(images: Images, config: PretextConfig, run: Run) -> Once:
    """One image for each group of near-duplicates, the first; of features, of rows that are the same. Nothing is learned for it: pixels
    say which are alike. InputError where fewer images than clusters are left."""
    of_N = run.once("copies", _stands_for, images)
    ids_M, place_N, sizes_M = of_N.unique(return_inverse=True, return_counts=True)
    n, m = len(of_N), len(ids_M)
    if m < config.n_clusters:
        raise InputError(f"--clusters {config.n_clusters}: without near-duplicates (duplicates=once) there are {m:,} pictures")
    run.note(f"{n - m:,} near-duplicates count once, with the picture that they are copies of: {m:,} of {n:,} pictures are learned from")
    order = sorted((sizes_M > 1).nonzero().squeeze(1).tolist(), key=lambda one: (-int(sizes_M[one]), one))
    members = place_N.argsort(stable=True).split(sizes_M.tolist())
    return Once(ids_M, place_N, _told([members[one].tolist() for one in order]) | {"once": True})


def spread(result: Assignments, found: Once, images: Images, run: Run) -> Assignments:
    """The result on `ids_M` for all images: each copy has the assignment of the image that stands for it, and features of its own."""
    at_N = found.place_N
    others = torch.ones(len(images), dtype=torch.bool).index_fill_(0, found.ids_M, False).nonzero().squeeze(1)
    features_ND = result.features_ND.new_empty(len(images), result.features_ND.shape[1])
    features_ND[found.ids_M] = result.features_ND
    if len(others):
        features_ND[others] = result.model.features(images[others], run).to(features_ND)
    return replace(
        result,
        probabilities_NK=result.probabilities_NK[at_N.to(result.probabilities_NK.device)],
        features_ND=features_ND,
        maps_RNhw=None if result.maps_RNhw is None else result.maps_RNhw[:, at_N.to(result.maps_RNhw.device)],
        unsure_N=None if result.unsure_N is None else result.unsure_N.cpu()[at_N],
        place_N=at_N,
    )


def thumbnails(small_NCHW: Tensor) -> Tensor:
    """Grey (N, 8, 9) float32 in 0..1."""
    parts = (F.adaptive_avg_pool2d(part_BCHW, (SIDE, SIDE + 1)) for part_BCHW in small_NCHW.split(8192))
    return torch.cat([torch.einsum("bchw,c->bhw", part_BCHW, torch.tensor(GREY)) for part_BCHW in parts])


def _stands_for(images: Images) -> Tensor:
    """Of each image the id of the one that stands for it, int64 (N,)."""
    first: dict[str, int] = {}
    same_N = torch.tensor([first.setdefault(digest, i) for i, digest in enumerate(images.digests)])
    if images.kind == "features":
        return same_N
    ids_M = same_N.unique()
    small_MCHW = small(images)[ids_M]
    rows_MD = F.normalize((small_MCHW - small_MCHW.mean((2, 3), keepdim=True)).flatten(1))
    of_M = ids_M[representatives(thumbnails(small_MCHW), rows_MD, BY_PIXELS)]
    return of_M[torch.searchsorted(ids_M, same_N)]


def _told(groups: Sequence[list[int]]) -> dict[str, Any]:
    extra = sum(len(group) - 1 for group in groups)
    return {"extra": extra, "groups": len(groups), "largest": [group[:OF_EACH] for group in groups[:TOLD]]}
