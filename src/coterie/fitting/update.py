"""New pictures added to a finished run, as another run: its clusters keep their numbers, and nothing is trained.

Shapes: N images of the run, M new ones, D feature, K clusters of the run, J new kinds.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coterie.clustering import hierarchy
from coterie.errors import InputError
from coterie.fitting import derived, new_pictures
from coterie.fitting.carried import carry
from coterie.fitting.hierarchy import Sorted, read_sorted
from coterie.fitting.planning import config_of, describe
from coterie.fitting.running import opened_for
from coterie.images import Images
from coterie.images.items import read_items
from coterie.images.parts import named, prefix_of
from coterie.learning.kinds import Kind, kinds
from coterie.networks.model import Model, load
from coterie.networks.recut import Recut, centroids
from coterie.run import Run, seeding
from coterie.run.devices import Devices
from coterie.run.edits import edited
from coterie.run.files import read_assignments

PARTS, OF_A_PART = 4, 5  # of a cluster that a new kind is held against, at most; images of each, at least


class New(NamedTuple):
    """The images of the other source that are added: `fresh` of `images`, ids ascending, with their `paths` in the run, probabilities
    (M, K) and unit rows (M, D). prefix: before their names; already: (path there, path in the run) of those whose content the run has;
    clashes: problems of those whose name it has with other content."""

    images: Images
    fresh: list[int]
    paths: list[str]
    p_MK: Tensor
    rows_MD: Tensor
    prefix: str
    already: list[tuple[str, str]]
    clashes: list[tuple[str, str]]


def update(
    run: Path, source: Any, output: Path, new_kinds: bool = False, false_alarms: float = new_pictures.FALSE_ALARMS,
    devices: Devices | None = None, cache: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Makes the run folder `output` with the pictures of `run` and those of `source`; returns what was done (`update --json`).

    source        of the same kind as the run's: a folder, zip, list, array, ...; what the run has already, byte for byte, is counted once
    new_kinds     whether kinds that are found among the pictures which fit nowhere become clusters, behind the others; else they are told
    false_alarms  share of pictures of known kinds that are taken for such that fit nowhere

    New pictures are sorted as `predict` sorts them; those that fit nowhere are in no cluster (-1). Those of the run stay where they are,
    but for some that turn out to be of a new kind (`moved`). What was corrected in `run` is corrected in `output` (fitting/carried.py).
    InputError: a run that is not finished, is damaged or was fitted on features, a source of another kind, an `output` that is not empty.
    """
    from coterie.fitting import update_files

    started = time.monotonic()
    run, output = Path(run), Path(output)
    new_pictures.check_rate(false_alarms)
    derived.check(run, output)
    before, corrected = read_sorted(run), edited(run)
    new = _opened(run, source, devices or Devices(), cache)
    novel = new_pictures.novelty(run, new.rows_MD, false_alarms)
    whole = joined(before, new, novel.novel_M)
    strange = (whole.labels_N < 0).nonzero().squeeze(1)
    fitted = new_pictures.n_fitted(config_of(run))
    strange, known_N = strange[strange >= fitted], before.labels_N >= 0
    known_N[:fitted] = True  # what the fit itself left out as unsure is of known kinds
    found = kinds(before.rows_ND[known_N], whole.rows_ND[strange], seeding.generator(before.seed, "update"))
    head = grown(before, [whole.rows_ND[strange[kind.rows]] for kind in found]) if new_kinds and found else None
    after = whole if head is None else sorted_anew(whole, head, strange)
    n, inside_N = len(before.p_NK), before.labels_N >= 0
    what = {
        "n_images": len(after.p_NK),
        "n_added": len(new.fresh),
        "n_already": len(new.already),
        "n_set_aside": len(new.images.problems) + len(new.clashes),
        "n_novel": int((after.labels_N[n:] < 0).sum()),
        "false_alarms": novel.false_alarms,
        "kinds": [_told(kind, strange, whole, after, None if head is None else before.k + j) for j, kind in enumerate(found)],
        "moved": int((after.labels_N[:n] != before.labels_N)[inside_N].sum()),
    }
    with derived.folder(output, after) as part:
        update_files.write(run, part, new, before, after, head, describe(source, new.images), what, started)
        kept = carry(corrected, before.k, part, after.rows_ND.numpy())
    what |= {"edits": kept.n_acts, "edits_lost": kept.lost, "became": {str(old): number for old, number in kept.became.items()}}
    return {"run": str(output), "of": str(run), "n_clusters_before": before.k, "n_clusters": after.k, **what}


def _opened(run: Path, source: Any, devices: Devices, cache: Path | None) -> New:
    """The pictures of `source` as the run's model sees them, without those that the run has."""
    made, table = config_of(run), read_assignments(run)
    model = load(run, devices)
    images = opened_for(run, model, source, cache)
    if images.kind != made["source"]["kind"]:
        raise InputError(f"{images.name} is of another kind ({images.kind}) than {made['source']['name']} ({made['source']['kind']}), the "
                         f"source of {run}; give a {made['source']['kind']}, or fit both together")  # fmt: skip
    taken = table["path"].to_pylist()
    items = read_items(run, len(table))
    of_digest = {} if items is None else dict(zip(items["digest"].to_pylist()[::-1], items["path"].to_pylist()[::-1]))
    prefix, held = prefix_of(made["source"], describe(source, images), taken), set(taken)
    fresh, already, clashes = list[int](), list[tuple[str, str]](), list[tuple[str, str]]()
    for i, (digest, path) in enumerate(zip(images.digests, images.paths)):
        if digest in of_digest:
            already.append((named(prefix, path), of_digest[digest]))
        elif named(prefix, path) in held:
            clashes.append((named(prefix, path), "the run has another picture of this name, which stays; give this one another name"))
        else:
            fresh.append(i)
    z_MD = _features(model, images[fresh], devices)
    rows_MD, p_MK = F.normalize(z_MD).half().float().cpu(), model.probabilities(z_MD).cpu()  # rows as a run keeps them
    return New(images, fresh, [named(prefix, images.paths[i]) for i in fresh], p_MK, rows_MD, prefix, already, clashes)


def _features(model: Model, images: Images, devices: Devices) -> Tensor:
    """Features (M, D) of these images alone: what the run has already, perhaps most of a folder that grew, need not be seen again."""
    if not len(images):
        return torch.zeros(0, model.n_features, device=devices.device)
    here = Run(devices=devices)
    try:
        return model.features(images, here)
    finally:
        here.close()


def joined(before: Sorted, new: New, novel_M: Tensor) -> Sorted:
    """The images of the run and, behind them, the new ones; those that are novel are in no cluster."""
    labels_M = new.p_MK.argmax(1).masked_fill(novel_M, -1) if len(new.p_MK) else new.p_MK.new_zeros(0).long()
    p_NK, rows_ND = torch.cat([before.p_NK, new.p_MK]), torch.cat([before.rows_ND, new.rows_MD])
    return Sorted(p_NK, torch.cat([before.labels_N, labels_M]), rows_ND, before.seed)


def grown(before: Sorted, rows: list[Tensor]) -> Recut:
    """A head around the run's with a cluster more for each of J new kinds, given by rows (G, D).

    Each cluster of the run shares its probability with all of them, as equal round clouds around their means would: it is there with up
    to four parts, as a cluster may hold several kinds, and stays the sum of its own.
    """
    j, k = len(rows), before.k
    of_P, into_P, which, weights, biases = list[int](), list[int](), list[int](), list[Tensor](), list[Tensor]()
    for cluster in range(k):
        mine_MD = before.rows_ND[before.labels_N == cluster]
        number = min(PARTS, len(mine_MD) // OF_A_PART) or min(1, len(mine_MD))
        part_M = hierarchy.parted(mine_MD, number, before.rng("grown")) if number else torch.zeros(0)
        clouds = [mine_MD[part_M == part] for part in part_M.unique()] + rows
        own = len(clouds) - j
        if own:  # of an empty cluster nothing is known that a new kind could be held against
            all_ND = torch.cat(clouds)
            weight_PD, bias_P = centroids(all_ND, list(torch.arange(len(all_ND)).split([len(cloud) for cloud in clouds])))
            which += range(len(of_P), len(of_P) + len(clouds))
            weights.append(weight_PD)
            biases.append(bias_P)
        into_P += [cluster] * max(1, own) + [*range(k, k + j)] * bool(own)
        of_P += [cluster] * (len(into_P) - len(of_P))
    head = Recut(nn.Identity(), before.rows_ND.shape[1], k, k + j, len(of_P), len(which))
    head.of.copy_(torch.tensor(of_P))
    head.into.copy_(torch.tensor(into_P))
    head.which.copy_(torch.tensor(which))
    head.weight.copy_(torch.cat(weights))
    head.bias.copy_(torch.cat(biases))
    return head


def sorted_anew(whole: Sorted, head: Recut, strange: Tensor) -> Sorted:
    """All images by the head that has the new kinds, too; those that are in no cluster stay there unless they are of such a kind."""
    p_NJ = head.probabilities(whole.p_NK, whole.rows_ND)
    labels_N = p_NJ.argmax(1)
    stays_N = whole.labels_N < 0
    stays_N[strange] &= labels_N[strange] < whole.k
    return Sorted(p_NJ, labels_N.masked_fill(stays_N, -1), whole.rows_ND, whole.seed)


def _told(kind: Kind, strange: Tensor, whole: Sorted, after: Sorted, cluster: int | None) -> dict[str, Any]:
    """A kind: its ids, the most typical first; where most would have gone; its cluster and that one's size, where it is one."""
    ids = strange[kind.rows]
    typical = (whole.rows_ND[ids] @ whole.rows_ND[ids].mean(0)).argsort(descending=True, stable=True)
    told: dict[str, Any] = {"n": len(ids), "ids": ids[typical].tolist(), "own": round(kind.own, 4)}
    told["nearest"] = int(whole.p_NK[ids].argmax(1).bincount().argmax())
    return told if cluster is None else told | {"cluster": cluster, "size": int((after.labels_N == cluster).sum())}
