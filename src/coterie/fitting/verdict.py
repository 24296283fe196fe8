"""The end of every fit: what it found is put beside k-means on the same features, and beside clusters that may be of any size; the best
is returned, and a sentence says what to think of it. No label is asked.

Shapes: N images, S images of a sample, D feature, d principal axes, K clusters or neighbours, C colours.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.kmeans import kmeans
from coterie.clustering.rows import means, unit
from coterie.clustering.sampling import SAMPLE, sample
from coterie.clustering.sizes import evenness_of, untorn
from coterie.clustering.spaces import Reduced, reduced
from coterie.learning import evidence
from coterie.learning.diagnose import agreement
from coterie.learning.evidence import beyond
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig
from coterie.methods.sizes import uneven
from coterie.networks.heads import Centroids, UnitCentroids, folded, linear
from coterie.run import Run
from coterie.run.seeding import generator

TINY = 4  # px, the side of the thumbnails that colours alone must not explain
MARGIN = 0.03  # of the score that k-means must be ahead by: both scores waver (benchmarks/evidence.py)
RESTARTS = 3
JUDGED, JUDGED_EACH = 2000, 50  # pictures asked after a recut, at most, or so many a cluster: it is to be done in a second

# What the sentence goes by, chosen on classes 0 to 49 of Caltech-101 and the first 5,000 of CIFAR-10 and Imagenette (docs/verdict.md)
NOTHING, NEVER = 0.3, 0.2  # agreement and stability beyond a cloud's, below both of which nothing was found
AGREES, STABLE = 0.65, 0.45  # both, from which clusters are solid
UNSTABLE = 0.45  # below which another number of clusters may be the better one
OTHER, GAIN = 0.45, 0.35  # its agreement and stability beyond a cloud's at least, and how much more stable it is
EXPLAINS, OF_FEATURES, VISIBLE = 0.5, 0.6, 0.05  # colour, at least, alone and as a share of what features explain; its deviation
SAME = 0.75  # adjusted Rand index from which k-means on thumbnails finds the same
AS_WELL, COMES_AGAIN = 0.85, 0.85  # the thumbnails' share of what features explain, and the stability from which that is no objection
CLEARER = 0.4  # agreement and stability of thumbnails beyond a cloud's, from which they have what the features lack
TORN = "kinds of clearly different size fit the features better: a large one may be torn apart here; try --set final=diffusion"
ANY_SIZE = "any-size"
SIZES = (
    "kinds of clearly different size (evenness {evenness:.2f} of 1) fit the features better than what {method} found, and are returned; "
    "--set sizes=even keeps clusters alike in size"
)
OTHER_NUMBER = ("other_k", "other_stability", "other_agreement")  # what the evidence calls another number of clusters, and its scores

SENTENCES = {
    "colour": "These clusters follow brightness and colour, little else: the mean colour of a picture alone nearly tells its cluster.",
    "none": "No structure found: neighbours agree, and clusters come again, hardly more than in a cloud that has none.",
    "pixels": "The features found no structure, but tiny thumbnails have some: try --method kmeans --encoder pixels, or another encoder.",
    "layout": "These clusters follow the coarse layout of light and colour: a thumbnail of 4 x 4 tells them nearly as well.",
    "many": "Probably too many clusters: about {other_k} would be clearly more stable with these features.",
    "few": "Probably too few clusters: about {other_k} would be clearly more stable with these features.",
    "solid": "Solid: neighbours agree, and the same clusters come again from half of the pictures.",
    "partly": "Some structure, but the borders between the clusters are partly arbitrary: look before you use them.",
}


def settle(
    fitted: Fitted, small_NCHW: Tensor, method: str, config: PretextConfig, run: Run, counted: bool = False
) -> tuple[Fitted, str, dict[str, Any]]:
    """(`fitted`, or k-means on its features where that scores clearly better, or clusters of any size where those fit clearly better and
    no sizes were asked for; the verdict on it; the numbers behind that).

    small_NCHW: its pictures as `small` makes them; rows (N, D) where there are none. `counted`: the number of clusters was, by more
    evidence than there is here, so no other is proposed.
    """
    k = config.n_clusters
    index_S = sample(len(small_NCHW), run.rng("verdict", "sample"))
    spaces = getattr(config, "spaces", "")
    by_space = run.once("floor-rows", reduced, fitted.features_ND, spaces, evidence.AXES) if spaces else None
    z_ND = by_space.rows_Nd if by_space else fitted.features_ND  # no encoder's features outweigh another's
    base = evidence.axes(unit(z_ND[index_S.to(z_ND.device)]).float(), run.rng("verdict", "axes"))
    labels_N = run.once("floor", _floor, z_ND, *base, k, run)
    rows_Sd = evidence.seen(unit(z_ND[index_S.to(z_ND.device)]).float(), *base).cpu()
    near_SK = evidence.close(rows_Sd, evidence.how_many(len(rows_Sd), k))
    labels_S, floor_S = (labels[index_S.to(labels.device)].cpu() for labels in (fitted.p_NK.argmax(1), labels_N))
    prior = bool(getattr(config, "prior", ""))
    any_size = prior or uneven(fitted.features_ND, getattr(config, "sizes", "auto"), k, run, "floor-sizes")
    scores_22 = torch.tensor([scored(labels, near_SK, k) for labels in (labels_S, floor_S)])
    own_2, floor_2 = run.broadcast(scores_22.to(run.devices.device)).cpu()  # that all ranks decide alike
    behind = beaten(own_2, floor_2, any_size)
    agrees = any_size and (behind or not floor_2[0] > own_2[0] + MARGIN)  # else evenness decided, and is told
    score, floor = (float(both_2[0 if agrees else 1]) for both_2 in (own_2, floor_2))
    told = f"label-free scores {score:.3f}, and {floor:.3f} of k-means on the same features (1 best, 0 by chance)"
    ahead = method != "kmeans" and behind
    asked = method == "kmeans" or prior
    kinds_N = _of_any_size(z_ND, labels_N.to(z_ND.device) if ahead else fitted.p_NK.argmax(1), asked, config, run)
    returned = ANY_SIZE if kinds_N is not None else "kmeans" if ahead else method
    if kinds_N is not None:
        fitted = _by_means(fitted, kinds_N, k, by_space, run)
        labels_S = fitted.p_NK.argmax(1)[index_S.to(z_ND.device)].cpu()
        score = agreement(labels_S, near_SK)
        run.note(SIZES.format(method=method, evenness=evenness_of(labels_S, k)))
    elif ahead:
        fitted, labels_S, score, floor = _by_means(fitted, labels_N.to(z_ND.device), k, by_space, run), floor_S, floor, score
        run.note(f"k-means on the features is returned instead of what {method} found: {told}")
        run.warn(f"k-means on its features did better than {method} and is returned in its place; try a longer training or another --seed")
    elif method != "kmeans":
        run.note(f"what {method} found is kept: {told}")
    found: dict[str, Any] = {
        "returned": returned,
        "replaced": returned == "kmeans" and ahead,
        "score": round(score, 4),
        "other_score": round(floor, 4),
    }
    found |= evidence.evidence(rows_Sd, near_SK, labels_S, k, run.rng("verdict"), tiny(small_NCHW[index_S]))
    found = {name: value for name, value in found.items() if not (counted and name.startswith(OTHER_NUMBER))}
    found["finding"] = finding(found)
    return fitted, SENTENCES[found["finding"]].format(**found), found


def scored(labels_S: Tensor, near_SK: Tensor, k: int) -> tuple[float, float]:
    """Agreement of neighbours; the same times the evenness of the sizes."""
    return agreement(labels_S, near_SK), evidence.score(labels_S, near_SK, k)


def beaten(own_2: Tensor, floor_2: Tensor, any_size: bool) -> bool:
    """Whether k-means is clearly ahead of what was found, by what `scored` says of both.

    By agreement and evenness. Where kinds may differ in size evenness is no merit, and agreement counts; but one cluster that swallows
    half of everything agrees more than good clusters do, and sizes are guessed: so k-means must be ahead by both.
    """
    ahead = floor_2 > own_2 + MARGIN
    return bool(ahead.all() if any_size else ahead[1])


def _by_means(fitted: Fitted, labels_N: Tensor, k: int, by_space: Reduced | None, run: Run) -> Fitted:
    """The encoder of `fitted` with the means of these clusters as its head."""
    if by_space:
        found: Centroids = run.new("floor", Centroids, by_space.rows_Nd.shape[1], k)  # type: ignore[assignment]
        found.calibrate(means(by_space.rows_Nd, labels_N, k), by_space.rows_Nd, labels_N)
        return replace(Fitted.from_parts(fitted.encoder, folded(linear(found), by_space), fitted.features_ND), maps_RNhw=fitted.maps_RNhw)
    head: UnitCentroids = run.new("floor", UnitCentroids, fitted.features_ND.shape[1], k)  # type: ignore[assignment]
    rows_ND = unit(fitted.features_ND)
    head.calibrate(means(rows_ND, labels_N, k), rows_ND, labels_N)
    return replace(Fitted.from_parts(fitted.encoder, head, fitted.features_ND), maps_RNhw=fitted.maps_RNhw)


def _of_any_size(z_ND: Tensor, labels_N: Tensor, asked: bool, config: PretextConfig, run: Run) -> Tensor | None:
    """Clusters of any size (N,) where they fit clearly better than these and are less alike in size, or bring back one that is empty.

    None where they are not, or sizes shall be even. `asked`: these are what was asked for, so a warning alone says it.
    """
    if getattr(config, "sizes", "auto") == "even":
        return None
    k = config.n_clusters
    kinds_N: Tensor = run.broadcast(run.once("any-size", _untorn, z_ND, labels_N, k, run))
    torn = evenness_of(kinds_N, k) < evenness_of(labels_N, k)  # else nothing large was torn: a long kind is cut by them
    lost = not torch.equal(kinds_N, labels_N) and int(labels_N.bincount(minlength=k).min()) == 0
    if asked and torn:
        run.warn(TORN)
    return kinds_N if (torn or lost) and not asked else None


def _untorn(z_ND: Tensor, labels_N: Tensor, k: int, run: Run) -> Tensor:
    return untorn(z_ND, labels_N, k, run.rng("verdict", "sizes"))


def _floor(z_ND: Tensor, mean_D: Tensor, axes_Dd: Tensor, k: int, run: Run) -> Tensor:
    """Labels (N,) of k-means on unit features, on their principal axes: as good there, and twenty times as fast."""
    rows_Nd = evidence.seen(unit(z_ND).float(), mean_D, axes_Dd)
    return kmeans(rows_Nd, k, run.rng("floor"), 50, init="k-means++", run=run, restarts=RESTARTS).labels_N


def tiny(small_SCHW: Tensor) -> Tensor | None:
    """Thumbnails (S, C, 4, 4) float32; None of rows (S, D), which are no pictures."""
    return F.adaptive_avg_pool2d(small_SCHW, TINY) if small_SCHW.ndim == 4 else None


def finding(found: dict[str, Any]) -> str:
    """Which of SENTENCES fits the evidence, the gravest first."""
    agrees, stable, other_agrees, other_stable = (
        beyond(found[name], found[f"{name}_cloud"]) if name in found else 0.0
        for name in ("agreement", "stability", "other_agreement", "other_stability")
    )
    other = min(other_agrees, other_stable)
    better = other >= OTHER and stable < UNSTABLE and other_stable >= stable + GAIN
    if agrees < NOTHING and stable < NEVER and not better:
        return "pixels" if found.get("thumbnails_beyond", 0.0) >= CLEARER else "none"
    if found.get("other_k", 0) > found["n_clusters"] and (better or other >= evidence.PERFECT):
        return "few"
    if found.get("colour", 0.0) >= max(EXPLAINS, OF_FEATURES * found["features"]) and found["colour_spread"] >= VISIBLE:
        return "colour"
    by_layout = found.get("thumbnail", 0.0) >= AS_WELL * found["features"]
    if found.get("like_thumbnails", 0.0) >= SAME or (by_layout and agrees >= AGREES and found["stability"] < COMES_AGAIN):
        return "layout"
    if better:
        return "many"
    return "solid" if agrees >= AGREES and stable >= STABLE else "partly"


def judge(
    rows_ND: Tensor, labels_N: Tensor, k: int, seed: int, method: str, replaced: bool, tiny: tuple[Tensor, Tensor] | None
) -> tuple[str, dict[str, Any]]:
    """The verdict on clusters that were made from a finished run's, by its unit features, and the numbers behind it. Nothing is replaced.

    tiny: (ids (P,), thumbnails (P, C, 4, 4)) of the pictures that the run keeps: colours are asked of those alone.
    """
    most = min(SAMPLE, max(JUDGED, JUDGED_EACH * k))
    index_S = sample(len(rows_ND), generator(seed, "recut", "sample"), most)
    index_S = index_S[labels_N[index_S] >= 0]
    base = evidence.axes(rows_ND[index_S], generator(seed, "recut", "axes"))
    rows_Sd, labels_S = evidence.seen(rows_ND[index_S], *base), labels_N[index_S]
    near_SK = evidence.close(rows_Sd, evidence.how_many(len(rows_Sd), k))
    floor_S = evidence.partition(rows_Sd, k, generator(seed, "recut", "floor"))[0]
    score, floor = (evidence.score(labels, near_SK, k) for labels in (labels_S, floor_S))
    found: dict[str, Any] = {"returned": method, "replaced": replaced, "score": round(score, 4), "other_score": round(floor, 4)}
    found |= evidence.evidence(rows_Sd, near_SK, labels_S, k, generator(seed, "recut"))
    if tiny is not None:
        ids, tiny_NCHW = tiny[0][labels_N[tiny[0]] >= 0], tiny[1][labels_N[tiny[0]] >= 0]
        told = evidence.by_colour(labels_N[ids], tiny_NCHW, k, generator(seed, "recut", "colour"))
        found |= {name: round(value, 4) for name, value in told.items()}
    found["finding"] = finding(found)
    return SENTENCES[found["finding"]].format(**found), found
