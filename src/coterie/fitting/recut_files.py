"""The run folder of a recut, and what was done in words."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.fitting import derived
from coterie.fitting.hierarchy import Sorted
from coterie.networks import model
from coterie.report.wording import count

if TYPE_CHECKING:
    from coterie.fitting.recut import Cut


def write(run: Path, folder: Path, before: Sorted, after: Sorted, done: Sequence["Cut"], what: dict[str, Any], started: float) -> None:
    """The files of a run folder, but for its manifest. `what`: as `recut` returns it."""
    how = {
        "merges": [[*one["clusters"], "into", one["into"]] for one in what["merges"]],
        "splits": [[one["cluster"], "into", *one["into"]] for one in what["splits"]],
    }
    changed = {old for one in what["merges"] for old in one["clusters"]} | {one["cluster"] for one in what["splits"]}
    derived.write(
        run, folder, before, after, stage="recut", how=how, note=f"recut from {before.k} clusters to {after.k}: {in_words(what)}",
        head=lambda old, new: _write_model(old, new, done), changed=changed, started=started,
    )  # fmt: skip


def in_words(what: dict[str, Any]) -> str:
    """What became of the old clusters: "3 and 7 are 3 now; 5 is 5 and 6 now; 8 is 7 now; the others keep their numbers"."""
    joined = {old for one in what["merges"] for old in one["clusters"]}
    told = [f"{_listed(one['clusters'])} are {one['into']} now" for one in what["merges"]]
    told += [f"{one['cluster']} is {_listed(one['into'])} now" for one in what["splits"]]
    others = [(int(old), new[0]) for old, new in what["became"].items() if len(new) == 1 and int(old) not in joined]
    told += [f"{old} is {new} now" for old, new in others if old != new]
    still = [old for old, new in others if old == new]
    if len(still) == 1:
        told.append(f"{still[0]} keeps its number")
    elif still:
        told.append("the others keep their numbers" if told else "all keep their numbers")
    if what["moved"]:
        told.append(f"{count(what['moved'], 'picture')} between two clusters went to the other one")
    return "; ".join(told)


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _write_model(old: Path, new: Path, done: Sequence["Cut"]) -> None:
    if not done:
        derived.same(old, new)
    for i, step in enumerate(done):
        model.recut(new if i else old, new, step.layer(), step.head.n_clusters)
