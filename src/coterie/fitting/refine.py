"""A run that has learned from its corrections, in seconds: its heads are taught anew on its features, and no picture is read.

    1. said       pictures that were confirmed or moved are anchors; so are their copies      learning/constraints.py
    2. kinds      what each picture is by the run's clusters, as they were merged and split   fitting/teaching.py
    3. beliefs    what each picture is by what was said of others                             learning/taught.py
    4. head       one linear layer learns these, and the anchors as much as all together      `taught_head`

Shapes: N images, S images of a sample, D feature, d components, K kinds, A anchors.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from coterie.clustering.sampling import sample
from coterie.errors import InputError
from coterie.fitting import derived
from coterie.fitting.confidence import of_clusters
from coterie.fitting.hierarchy import Sorted
from coterie.fitting.teaching import Corrected, Ground, corrected, ground_of, reduced_rows
from coterie.learning import constraints
from coterie.learning.calibration import temperature
from coterie.learning.taught import beliefs
from coterie.learning.witness import KINDS, witness
from coterie.networks import model
from coterie.networks.heads import Heads, RowHeads, folded
from coterie.report.wording import count
from coterie.run import edits
from coterie.run.seeding import forked, generator

TAUGHT = 20_000  # images that the head learns on, at most, besides the anchors
UPDATES = 40  # of L-BFGS; the loss is convex
DECAY = 1e-4  # times the square of the weights: what separates few anchors need not grow without end
LOUDER = 4  # times: the anchors' weight doubles until the head has them all
MOVES_TOLD = 10


class Refined(NamedTuple):
    """head: on a run's rows; temperature: of its logits; p_NK float32, labels_N int64 (-1 in no kind); unheard: anchors that the head would
    put elsewhere, and that are where they were said to be all the same; told: how confidence was calibrated."""

    head: RowHeads
    temperature: float
    p_NK: Tensor
    labels_N: Tensor
    unheard: int
    told: dict[str, Any]


def taught_head(rows_Nd: Tensor, f_NK: Tensor, anchor_N: Tensor, outside_N: Tensor, seed: int) -> Heads:
    """Cross-entropy with the beliefs, and with the anchors; from weights of zero, so that only the sample is drawn."""
    here_A = (anchor_N >= 0).nonzero().squeeze(1)
    index_S = sample(len(rows_Nd), generator(seed, "refine", "sample"), TAUGHT)
    index_S = index_S[~outside_N[index_S]]
    with forked(seed, "refine"):  # initial weights are drawn, though none of them stays
        head = Heads(rows_Nd.shape[1], f_NK.shape[1])
    torch.nn.init.zeros_(head.weight)
    for louder in range(LOUDER):
        optimizer = torch.optim.LBFGS(head.parameters(), max_iter=UPDATES, line_search_fn="strong_wolfe")

        def loss(weight: float = 2.0**louder, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            total = F.cross_entropy(head(rows_Nd[index_S])[0], f_NK[index_S]) + DECAY * head.weight.square().sum()
            if len(here_A):
                total = total + weight * F.cross_entropy(head(rows_Nd[here_A])[0], anchor_N[here_A])
            total.backward()
            return total

        optimizer.step(loss)
        with torch.no_grad():
            if bool((head(rows_Nd[here_A])[0].argmax(1) == anchor_N[here_A]).all()):
                break
    return head.requires_grad_(False)


def learned(given: Corrected, on: Ground) -> tuple[RowHeads, Tensor]:
    """Steps 3 and 4: the head, and its logits (N, K) of the run's pictures."""
    rows_Nd, anchor_N = on.reduced.rows_Nd, given.anchors.labels_N
    f_NK = beliefs(rows_Nd, on.graph, given.p_NK, anchor_N, given.outside_N)
    head = folded(taught_head(rows_Nd, f_NK, anchor_N, given.outside_N, given.found.seed), on.reduced, RowHeads).requires_grad_(False)
    assert isinstance(head, RowHeads)
    return head, head(given.found.rows_ND)[0]


def refined(given: Corrected, on: Ground) -> Refined:
    """What is learned, and how sure the head may be: as of a fit, by a witness (fitting/confidence.py)."""
    head, logits_NK = learned(given, on)
    rows_Nd, anchor_N, seed, k = on.reduced.rows_Nd, given.anchors.labels_N, given.found.seed, len(given.numbers)
    labels_N = logits_NK.argmax(1)
    found = witness(rows_Nd, labels_N, k, generator(seed, "refine", "witness"))
    hot = float(torch.tensor(temperature(logits_NK, found.agreed) if found else 1.0))  # one number here and in the file: float32
    p_NK = (logits_NK / hot).softmax(1)
    told: dict[str, Any] = {"temperature": round(hot, 4), "raw": _mean(logits_NK.softmax(1)), "calibrated": _mean(p_NK)}
    told |= {"witness": KINDS[found.kind], "agreed": round(found.agreed, 4)} if found else {"witness": None}
    unheard_N = (anchor_N >= 0) & (labels_N != anchor_N)
    p_NK[unheard_N] = F.one_hot(anchor_N[unheard_N], k).float()
    out_N = (given.labels_N < 0) & (anchor_N < 0)
    told |= {"unsure": int(out_N.sum()), **of_clusters(rows_Nd, p_NK, generator(seed, "refine", "borders"))}
    return Refined(head, hot, p_NK, p_NK.argmax(1).masked_fill(out_N, -1), int(unheard_N.sum()), told)


def _mean(p_NK: Tensor) -> float:
    return round(float(p_NK.amax(1).double().mean()), 4)


def refine(run: Path, output: Path) -> dict[str, Any]:
    """Makes the run folder `output` of `run`, whose heads have learned from its edits; returns what changed (`refine --json`).

    Kinds keep their order; as numbers have no gaps in a run, `became` says which number each has now. Names, what is no kind, and what was
    confirmed go with them, as the first acts of the new run. Pictures that were taken out of all kinds, or were unsure, are in none.
    InputError: a run that is not finished or is damaged, no edits to learn from, an `output` that is not empty.
    """
    started = time.monotonic()
    run, output = Path(run), Path(output)
    derived.check(run, output)
    given = corrected(run)
    if not given.changed:
        raise InputError(f"{run} has no corrections to learn from; make some with `coterie review {run}`")
    result = refined(given, ground_of(reduced_rows(run, given)))
    after = Sorted(result.p_NK, result.labels_N, given.found.rows_ND, given.found.seed)
    what = changes(given, result)
    how = {name: what[name] for name in ("became", "anchors", "must", "cannot", "kept")}
    with derived.folder(output, after) as part:
        derived.write(
            run, part, given.found, after, stage="refine", how=how, note=f"refined by what was corrected: {'; '.join(in_words(what))}",
            head=lambda old, new: model.refit(old, new, result.head, after.k, result.temperature),
            changed=range(given.found.k), started=started, confidence=result.told,
        )  # fmt: skip
        for act in handed_on(given):
            edits.append(part, act)
    return {"run": str(output), "of": str(run), "n_clusters_before": given.found.k, "n_clusters": after.k, **what}


def changes(given: Corrected, result: Refined) -> dict[str, Any]:
    """What the corrections were, and what they changed beyond themselves; clusters by their new numbers, -1: in none."""
    anchor_N, now_N = given.anchors.labels_N, result.labels_N
    kept = constraints.kept(anchor_N, now_N)
    pairs, counts = torch.stack([given.labels_N, now_N], 1)[given.labels_N != now_N].unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    moves = [{"from": int(pairs[i, 0]), "to": int(pairs[i, 1]), "pictures": int(counts[i])} for i in order]
    names = {new: given.edited.names.get(old, "") for new, old in enumerate(given.numbers)}
    return {
        "became": {str(old): new for new, old in enumerate(given.numbers)},
        "names": {str(new): name for new, name in names.items() if name},
        "anchors": int((anchor_N >= 0).sum()),
        "must": kept.must,
        "cannot": kept.cannot,
        "kept": round(kept.share, 4),
        "unheard": result.unheard,
        "contradictions": given.anchors.contradictions,
        "moved": int(counts.sum()),
        "moves": moves,
    }


def handed_on(given: Corrected) -> list[dict[str, Any]]:
    """The acts that a refined run begins with: names, what is no kind, and the pictures that were confirmed."""
    new = {old: k for k, old in enumerate(given.numbers)}
    said_N = torch.from_numpy(given.edited.confirmed_N) & (given.anchors.labels_N >= 0)
    acts: list[dict[str, Any]] = [{"act": "rename", "cluster": new[old], "name": name} for old, name in sorted(given.edited.names.items())]
    acts += [{"act": "not_a_kind", "cluster": new[old]} for old in sorted(given.edited.not_kinds)]
    return acts + ([{"act": "confirm", "ids": said_N.nonzero().squeeze(1).tolist()}] if said_N.any() else [])


def in_words(what: dict[str, Any]) -> list[str]:
    """What was learned from, and what came of it, in a few lines."""
    told = [f"{count(what['anchors'], 'picture')} of known kind, {100 * what['kept']:.1f} % of their pairs as they were said"]
    if what["unheard"]:
        told.append(f"{count(what['unheard'], 'picture')} of these would be elsewhere by what the others are, and stay where they were put")
    for group in what["contradictions"][:MOVES_TOLD]:
        told.append(
            f"pictures {', '.join(map(str, group[:5]))} are copies of each other and were put into different kinds: none is believed"
        )
    one = {int(number): f"{number} ({name})" for number, name in what["names"].items()} | {-1: "no kind"}
    moves = [f"{m['pictures']:,} from {one.get(m['from'], m['from'])} to {one.get(m['to'], m['to'])}" for m in what["moves"][:MOVES_TOLD]]
    more = ", and others" if len(what["moves"]) > MOVES_TOLD else ""
    told.append(f"{count(what['moved'], 'picture')} went elsewhere" + (f": {', '.join(moves)}{more}" if moves else ""))
    renumbered = [f"{old} is {new} now" for old, new in what["became"].items() if int(old) != new]
    return [*told, *renumbered]
