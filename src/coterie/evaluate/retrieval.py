"""Retrieval: an image asks, all others are ranked by cosine similarity; mean average precision says how early those of its class come.

A descriptor of an image is made from the encoder's last maps: their mean, or R-MAC (Tolias, Sicre and Jegou, 2016): the maximum over each
of some square regions, unit length, whitened, unit length, added up. landmarks.py scores the same descriptors as Oxford and Paris do.

Shapes: N images, B batch, Q queries, D feature, E dimensions kept by a whitening, R regions, h and w places of maps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.clustering.kmeans import whitening as axes_of
from coterie.clustering.rows import chunks, unit
from coterie.errors import InputError
from coterie.evaluate.task import Task
from coterie.images import Images
from coterie.networks.encoder import PRECOMPUTED

POOLINGS = ("features", "mean", "rmac")
BATCH = 64  # pictures seen at once
LEVELS = 3  # of regions; Tolias 2016, sec. 5.2, and DeepCluster's Table 5
OVERLAP = 0.4  # share that neighbouring regions of a level have in common, as nearly as the shape allows; Tolias 2016, sec. 4
MOST_EXTRA = 6  # regions more along the longer side than along the shorter: a picture seven times as long as high is covered still
SAME = 1e-6  # cosines nearer than this are equal: the rounding of a product would order copies of one image by where they stand
ROWS = 512  # queries ranked at once: 512 x 50,000 similarities, places and counts are 0.4 GB


@dataclass(frozen=True)
class Settings:
    pooling: str = ""  # one of POOLINGS, or several with commas; "": mean and rmac, or features of an encoder without maps
    scales: str = "1"  # factors of the pictures' size, with commas; R-MAC's usual three are 1,0.7071,0.5
    levels: int = LEVELS
    whiten: int = 0  # dimensions of a PCA-whitening learned on --train; 0: none


def judge(task: Task, settings: Settings) -> None:
    """mAP of each pooling with classes as relevance, on the labelled pictures of the task; beside it how many asked and how many could not.
    The whitening is learned on the pictures that `--train` names, whose labels it does not need."""
    if task.encoder.spec.name == PRECOMPUTED:
        raise InputError("this run was fitted on features, not on pictures; retrieval needs an encoder")
    try:
        scales = tuple(float(word) for word in settings.scales.split(","))
    except ValueError as error:
        raise InputError(f"--set scales={settings.scales}: wanted numbers with commas between") from error
    if settings.whiten and task.train is None:
        raise InputError("--set whiten needs other pictures than those that are ranked: --train SOURCE")
    images, values, _, told = of = task.labelled(task.on, task.labels)
    others = task.pictures(task.train)[0] if settings.whiten else None
    device = task.run.devices.device
    probe_1DHW = next(images.batches(1)).pixels_B3HW.to(device)
    with torch.inference_mode():
        has_maps = task.encoder.maps(probe_1DHW) is not None
    usual = POOLINGS[1:] if has_maps else POOLINGS[:1]
    chosen = [word.strip() for word in settings.pooling.split(",")] if settings.pooling else list(usual)
    if not (settings.pooling or has_maps):
        task.note("retrieval: the encoder has no maps, so only its features are scored")

    def seen(of: Images, stage: str) -> Iterator[Tensor]:
        for batch in of.batches(BATCH):
            yield batch.pixels_B3HW.to(device)
            task.run.progress.advance(stage, min(len(of), int(batch.index_B[-1]) + 1), len(of))

    def compute(pooling: str) -> dict[str, float]:
        stage, learned = f"retrieval {pooling}", None
        if others is not None:
            where = seen(others, f"{stage}: whitening")
            rows = regions_of(task.encoder, where, settings.levels) if pooling == "rmac" else describe(task.encoder, where, pooling)
            learned = Whitening(*(part.to(device) for part in learn_whitening(rows, settings.whiten)))
        found = by_class(describe(task.encoder, seen(images, stage), pooling, scales, settings.levels, learned), values)
        return {"mAP": found.mean_ap, "n_queries": len(found.ap_Q), "n_alone": found.left_out}

    for pooling in chosen:
        more = [settings.levels] if pooling == "rmac" else []
        follows = {"weights": task.weights, "images": of.fingerprint, "size": task.image_size, "settings": [list(scales), *more]}
        follows |= {"whitened on": [others.fingerprint, settings.whiten]} if others is not None else {}
        on = f"{told}, whitened" if others is not None else told
        task.scores.once("retrieval", on, pooling, follows, lambda pooling=pooling: compute(pooling))  # type: ignore[misc]


class Whitening(NamedTuple):
    """Learned on another set: x -> (x - mean) @ axes, then unit length. `mean_D` (D,), `axes_DE` (D, E), float32."""

    mean_D: Tensor
    axes_DE: Tensor

    def __call__(self, rows_RD: Tensor) -> Tensor:
        return F.normalize((rows_RD - self.mean_D) @ self.axes_DE, dim=-1)


def learn_whitening(rows_RD: Tensor, dimensions: int | None = None) -> Whitening:
    """PCA-whitening of descriptors or of regions of another set than the one it will be used on.

    dimensions  kept; None: all. Axes with almost no variance are left out in any case.
    InputError: fewer than 2 rows, or dimensions below 1.
    """
    if len(rows_RD) < 2 or (dimensions is not None and dimensions < 1):
        raise InputError(f"whitening: {len(rows_RD)} rows and dimensions={dimensions}; at least 2 rows and 1 dimension are needed")
    most = min(rows_RD.shape[1], len(rows_RD) - 1)
    mean_D, axes_DE = axes_of(rows_RD.float(), min(dimensions or most, most))
    return Whitening(mean_D.float(), axes_DE.float())


def regions(height: int, width: int, levels: int = LEVELS) -> list[tuple[int, int, int]]:
    """R-MAC's squares (top, left, side) on maps of height x width places, level by level.

    At level l the side is 2 min(height, width) / (l + 1); l squares stand along the shorter side, l + m along the longer one, evenly; m is
    such that at level 1 neighbours share nearest to 40 % of their area, 0 for a square. InputError: levels below 1.
    """
    if levels < 1:
        raise InputError(f"levels = {levels}; at least 1 is needed")
    short, long = min(height, width), max(height, width)
    shared = {m: abs(1 - (long - short) / m / short - OVERLAP) for m in range(1, MOST_EXTRA + 1)}
    extra = 0 if long == short else min(shared, key=shared.__getitem__)
    found = []
    for level in range(1, levels + 1):
        side = max(1, 2 * short // (level + 1))
        n_high, n_wide = level + (extra if height > width else 0), level + (extra if width > height else 0)
        found += [(top, left, side) for top in _spread(height - side, n_high) for left in _spread(width - side, n_wide)]
    return found


def _spread(room: int, n: int) -> list[int]:
    """n starts from 0 to `room`, evenly, in whole places; equal ones once."""
    return sorted({room * i // (n - 1) for i in range(n)}) if n > 1 else [room // 2]


def region_vectors(maps_BDhw: Tensor, levels: int = LEVELS) -> Tensor:
    """The unit vector of the maxima in each region, (B, R, D) float32: what a whitening for R-MAC is learned on."""
    places = regions(maps_BDhw.shape[2], maps_BDhw.shape[3], levels)
    maxima = [maps_BDhw[:, :, top : top + side, left : left + side].amax((2, 3)) for top, left, side in places]
    return F.normalize(torch.stack(maxima, 1).float(), dim=-1)


def rmac(maps_BDhw: Tensor, levels: int = LEVELS, whitening: Whitening | None = None) -> Tensor:
    """R-MAC of each image, unit length, (B, D) float32, or (B, E) with a whitening."""
    each_BRD = region_vectors(maps_BDhw, levels)
    return F.normalize((whitening(each_BRD) if whitening else each_BRD).sum(1), dim=1)


def describe(
    encoder: nn.Module,
    batches: Iterable[Tensor],
    pooling: str = "rmac",
    scales: Sequence[float] = (1.0,),
    levels: int = LEVELS,
    whitening: Whitening | None = None,
) -> Tensor:
    """Descriptors (N, D) float32 on the CPU, unit length, in the order of the batches; the encoder is left in the mode it was in.

    batches    pixels (B, 3, H, W) in [0, 1] on the encoder's device; sizes may differ from batch to batch
    pooling    "features" (the encoder's own), "mean" of the last maps, or "rmac"
    scales     factors of the picture's size; the unit descriptors of all are added up
    whitening  of regions for "rmac", else of the descriptor
    InputError: another pooling, a scale that is not positive, an encoder without maps.
    """
    if pooling not in POOLINGS:
        raise InputError(f"pooling = {pooling!r}; {', '.join(POOLINGS)} are known")
    if not scales or not all(scale > 0 for scale in scales):
        raise InputError(f"scales = {list(scales)}; at least one is needed, and all positive")

    def pooled(pixels_B3HW: Tensor) -> Tensor:
        if pooling == "rmac":
            return rmac(maps_of(encoder, pixels_B3HW), levels, whitening)
        rows_BD = encoder(pixels_B3HW) if pooling == "features" else maps_of(encoder, pixels_B3HW).mean((2, 3))
        rows_BD = F.normalize(rows_BD.float(), dim=1)
        return whitening(rows_BD) if whitening else rows_BD

    return _over_scales(encoder, batches, scales, pooled)


def regions_of(encoder: nn.Module, batches: Iterable[Tensor], levels: int = LEVELS, scales: Sequence[float] = (1.0,)) -> Tensor:
    """The region vectors (R, D) of all images at all scales, for `learn_whitening`; on the CPU."""
    return torch.cat(
        [
            _over_scales(encoder, batches, (scale,), lambda x: region_vectors(maps_of(encoder, x), levels).flatten(0, 1), unit=False)
            for scale in scales
        ]
    )


def maps_of(encoder: Any, pixels_B3HW: Tensor) -> Tensor:
    """The encoder's last maps (B, D, h, w). InputError where it has none, or the pictures are too small for one place."""
    try:
        maps = encoder.maps(pixels_B3HW)
    except RuntimeError as error:  # a pooling with nothing left, say
        raise InputError(f"the encoder cannot see {pixels_B3HW.shape[3]} x {pixels_B3HW.shape[2]} pixels ({error})") from error
    if maps is None:
        raise InputError("this encoder has no maps (it is no convolutional network); only pooling 'features' serves it")
    return maps


def _over_scales(
    encoder: nn.Module, batches: Iterable[Tensor], scales: Sequence[float], see: Callable[[Tensor], Tensor], unit: bool = True
) -> Tensor:
    was_training, found = encoder.training, []
    encoder.eval()
    with torch.inference_mode():
        for pixels_B3HW in batches:
            sizes = [[max(1, round(side * scale)) for side in pixels_B3HW.shape[2:]] for scale in scales]
            seen = [see(pixels_B3HW if size == [*pixels_B3HW.shape[2:]] else _resized(pixels_B3HW, size)) for size in sizes]
            total = torch.stack(seen).sum(0)
            found.append((F.normalize(total, dim=1) if unit else total).cpu())
    encoder.train(was_training)
    if not found:
        raise InputError("retrieval: no images")
    return torch.cat(found).clone()  # no inference tensor


def _resized(pixels_B3HW: Tensor, size: list[int]) -> Tensor:
    return F.interpolate(pixels_B3HW, size, mode="bilinear", antialias=True, align_corners=False)


class Retrieved(NamedTuple):
    """`mean_ap` in [0, 1]; `ap_Q` of each query; `left_out`: images alone in their class, or of unknown class; they asked nothing."""

    mean_ap: float
    ap_Q: Tensor
    left_out: int


def by_class(descriptors_ND: Tensor, labels_N: Any) -> Retrieved:
    """Each image is a query, the others are ranked by cosine similarity, and those of its class are relevant.

    labels_N  integers; -1: unknown, such an image neither asks nor is ranked.
    AP is the mean, over the relevant ones, of the precision at their rank, not interpolated; images equally similar share the last rank of
    them all, so that an encoder that sees nothing scores the share of the class and no more, however the images are ordered.
    InputError: labels of another length, values that are not finite, nobody who can ask.
    """
    labels_N = torch.as_tensor(labels_N)
    if labels_N.shape != descriptors_ND.shape[:1]:
        raise InputError(f"{tuple(labels_N.shape)} labels for {len(descriptors_ND)} descriptors; one per image is needed")
    if not descriptors_ND.isfinite().all():
        raise InputError("retrieval: NaN or infinity among the descriptors")
    known = labels_N >= 0
    rows, labels = unit(descriptors_ND[known]), labels_N[known].long().to(descriptors_ND.device)
    found = []
    for part in chunks(len(rows), ROWS):
        similarity_QN, relevant_QN = (rows[part] @ rows.T / SAME).round_(), labels[part, None] == labels
        itself = torch.arange(len(rows), device=rows.device)[part, None]
        similarity_QN.scatter_(1, itself, float("-inf"))  # last, and of no class
        found.append(average_precision(similarity_QN, relevant_QN.scatter(1, itself, False)))
    ap_Q = torch.cat(found) if found else torch.empty(0)
    asked = ap_Q[ap_Q.isfinite()]
    if not len(asked):
        raise InputError("retrieval: no two images of one class, so nothing can be found")
    return Retrieved(float(asked.mean()), asked.cpu(), len(labels_N) - len(asked))


def average_precision(scores_QN: Tensor, relevant_QN: Tensor) -> Tensor:
    """AP of each row, float64 (Q,), NaN where nothing is relevant: the mean precision at the relevant ones, ties at their last rank."""
    scores_QN, order = scores_QN.sort(dim=1, descending=True)
    hit_QN = relevant_QN.gather(1, order)
    n = scores_QN.shape[1]
    ends = torch.ones_like(hit_QN)
    ends[:, :-1] = scores_QN[:, :-1] != scores_QN[:, 1:]
    place = torch.where(ends, torch.arange(n, device=order.device), n - 1)
    last_QN = place.flip(1).cummin(1).values.flip(1)  # the end of the tie each stands in
    precision_QN = hit_QN.cumsum(1).gather(1, last_QN).double() / (last_QN + 1)
    return (precision_QN * hit_QN).sum(1) / hit_QN.sum(1)
