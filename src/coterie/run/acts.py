"""What a person can do to a sorting, as plain data, and the sorting after it. An act is {act, ...}:

    rename      cluster, name             "" takes the name away; no two clusters have one name
    merge       clusters, into            `into` is one of them and stays, the others are gone; with its name, or the first there is
    split       cluster, parts, into      parts: the ids of all its pictures, part by part; into: their clusters, the first is the old one
    move        ids, cluster              -1: unsure; the number `following`: a new cluster
    not_a_kind  cluster                   its pictures stay together, but it is nothing that counts
    confirm     cluster, or ids           these pictures are where they belong; a cluster that is confirmed is a kind
    undo, redo                            of the last act that stands; of the last one undone, until another act comes

A cluster keeps its number as long as it is there, and no number is given twice, not even after an undo. A picture that is moved into a kind
is confirmed by that; a split takes it from all its pictures, for they are no longer where they were.

N images, K clusters of the method.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coterie.errors import InputError, printable

Act = dict[str, Any]
UNSURE = -1
LONGEST_NAME = 100  # characters
BACK = ("undo", "redo")


@dataclass(frozen=True)
class Edited:
    """A sorting after some acts.

    cluster_N: int64, -1 unsure; confirmed_N: bool, of pictures of a kind alone; names: of the clusters that have one; clusters: the numbers
    there are, ascending, of empty clusters too; following: the number of the next new one; applied: the acts that stand, in order; undone:
    those that redo brings back, the next one last; n_acts: of all, those that undo and redo too; remarks: what was found in their file.
    """

    cluster_N: np.ndarray
    names: dict[int, str]
    confirmed_N: np.ndarray
    not_kinds: frozenset[int]
    clusters: tuple[int, ...]
    following: int
    applied: list[Act]
    undone: list[Act]
    n_acts: int = 0
    remarks: tuple[str, ...] = ()


def replay(cluster_N: np.ndarray, acts: Iterable[Act], k: int | None = None) -> Edited:
    """The sorting after `acts`. cluster_N: whole numbers, -1..k-1, which stay as they are; k: by default one more than the largest.
    InputError for an act that cannot be."""
    now = _Sorting(cluster_N, k)
    stand: list[tuple[Act, range]] = []
    undone: list[tuple[Act, range]] = []
    following, n_acts = now.k, 0
    for act in acts:
        n_acts += 1
        if act.get("act") in BACK:
            _fields(act)
            here, there = (stand, undone) if act["act"] == "undo" else (undone, stand)
            if not here:
                raise InputError(f"there is nothing to {act['act']}")
            there.append(here.pop())
            continue
        new = _new(act, following)
        following = max(following, new.stop)
        stand.append((act, new))
        undone.clear()
    for act, new in stand:
        DO[act["act"]](now, act, new)
    clusters = tuple(sorted(now.clusters))
    applied, backwards = [act for act, _ in stand], [act for act, _ in undone]
    return Edited(now.cluster_N, now.names, now.confirmed_N, frozenset(now.not_kinds), clusters, following, applied, backwards, n_acts)


def complete(act: Act, now: Callable[[], Edited]) -> Act:
    """An act as it is written: ids in order, a name in one line, and the clusters that were left to be chosen: of a merge the largest
    stays, of a split the first part keeps the number. now: the sorting before it, asked for only where it is needed."""
    done = dict(act)
    if act.get("act") == "rename" and isinstance(act.get("name"), str):
        done["name"] = unicodedata.normalize("NFC", " ".join(act["name"].split()))
    if act.get("act") == "merge" and "into" not in act:
        numbers = _numbers(act, "clusters", act.get("clusters"))
        before = now()
        done["into"] = max(numbers, key=lambda one: (int((before.cluster_N == one).sum()), -one))
    if act.get("act") == "split" and "into" not in act:
        parts = _parts(act)
        done["parts"] = [sorted(part) for part in parts]
        done["into"] = [act.get("cluster"), *range(following := now().following, following + len(parts) - 1)]
    if "ids" in act:
        done["ids"] = sorted(_numbers(act, "ids", act["ids"]))
    return done


def in_words(act: Act) -> str:
    """What an act does, in one line."""
    name = act["act"]
    if name == "rename":
        return f"cluster {act['cluster']} is called {act['name']}" if act["name"] else f"cluster {act['cluster']} has no name"
    if name == "merge":
        return f"clusters {_listed(act['clusters'])} are {act['into']}"
    if name == "split":
        return f"cluster {act['cluster']} is {_listed(f'{c} ({len(part):,})' for c, part in zip(act['into'], act['parts']))}"
    if name == "move":
        return f"{_pictures(act)} {'unsure' if act['cluster'] == UNSURE else 'into cluster ' + str(act['cluster'])}"
    if name == "not_a_kind":
        return f"cluster {act['cluster']} is not a kind"
    if name == "confirm":
        return f"cluster {act['cluster']} is right" if "cluster" in act else f"{_pictures(act)} where they belong"
    return str(name)


def _listed(words: Iterable[Any]) -> str:
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def _pictures(act: Act) -> str:
    return f"{len(act['ids']):,} picture{'s' * (len(act['ids']) != 1)}"


class _Sorting:
    """A sorting while acts are applied to it."""

    def __init__(self, cluster_N: np.ndarray, k: int | None):
        self.cluster_N = np.array(cluster_N, np.int64)
        self.k = int(self.cluster_N.max(initial=-1)) + 1 if k is None else k
        self.confirmed_N = np.zeros(len(self.cluster_N), bool)
        self.clusters = set(range(self.k))
        self.names: dict[int, str] = {}
        self.not_kinds: set[int] = set()

    def cluster(self, act: Act, number: Any) -> int:
        if type(number) is not int or number not in self.clusters:
            raise InputError(f"{act['act']}: there is no cluster {printable(number)}")
        return number

    def ids(self, act: Act, numbers: Any) -> np.ndarray:
        found = _numbers(act, "ids", numbers)
        if min(found) < 0 or max(found) >= len(self.cluster_N):
            raise InputError(f"{act['act']}: the ids of the pictures are 0 to {len(self.cluster_N) - 1:,}")
        return np.array(found, np.int64)

    def rename(self, act: Act, new: range) -> None:
        cluster, name = self.cluster(act, act["cluster"]), act["name"]
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            raise InputError(f"rename: wanted a name of {LONGEST_NAME} printable characters at most")
        for other, known in self.names.items():
            if name and other != cluster and known.casefold() == name.casefold():
                raise InputError(f"rename: cluster {other} is called {known} already; merge the two, or choose another name")
        self.names.pop(cluster, None)
        self.names |= {cluster: name} if name else {}

    def merge(self, act: Act, new: range) -> None:
        numbers = [self.cluster(act, one) for one in _numbers(act, "clusters", act["clusters"])]
        into = self.cluster(act, act["into"])
        if len(numbers) < 2 or into not in numbers:
            raise InputError("merge: wanted two different clusters, or more, and one of them to stay")
        names = [self.names.pop(one) for one in (into, *numbers) if one in self.names]
        self.names |= {into: names[0]} if names else {}
        for one in numbers:
            self.cluster_N[self.cluster_N == one] = into
        self.clusters -= {*numbers} - {into}
        self.not_kinds -= {*numbers} - {into}
        if into in self.not_kinds:
            self.confirmed_N[self.cluster_N == into] = False

    def split(self, act: Act, new: range) -> None:
        cluster = self.cluster(act, act["cluster"])
        parts = [self.ids(act, part) for part in _parts(act)]
        every = np.sort(np.concatenate(parts))
        if not np.array_equal(every, np.flatnonzero(self.cluster_N == cluster)):
            raise InputError(f"split: the parts of cluster {cluster} are not its pictures, each once")
        self.confirmed_N[every] = False
        for number, part in zip(new, parts[1:]):
            self.clusters.add(number)
            self.cluster_N[part] = number

    def move(self, act: Act, new: range) -> None:
        ids = self.ids(act, act["ids"])
        self.clusters.update(new)
        cluster = UNSURE if act["cluster"] == UNSURE else self.cluster(act, act["cluster"])
        self.cluster_N[ids] = cluster
        self.confirmed_N[ids] = cluster != UNSURE and cluster not in self.not_kinds

    def not_a_kind(self, act: Act, new: range) -> None:
        cluster = self.cluster(act, act["cluster"])
        self.not_kinds.add(cluster)
        self.confirmed_N[self.cluster_N == cluster] = False

    def confirm(self, act: Act, new: range) -> None:
        if "cluster" in act:
            cluster = self.cluster(act, act["cluster"])
            self.not_kinds.discard(cluster)
            self.confirmed_N[self.cluster_N == cluster] = True
            return
        ids = self.ids(act, act["ids"])
        if np.isin(self.cluster_N[ids], [UNSURE, *self.not_kinds]).any():
            raise InputError("confirm: some of these pictures are of no kind; move them into one, or confirm their cluster")
        self.confirmed_N[ids] = True


DO: dict[str, Callable[[_Sorting, Act, range], None]] = {
    "rename": _Sorting.rename, "merge": _Sorting.merge, "split": _Sorting.split, "move": _Sorting.move,
    "not_a_kind": _Sorting.not_a_kind, "confirm": _Sorting.confirm,
}  # fmt: skip
FIELDS: dict[str, list[set[str]]] = {
    "rename": [{"cluster", "name"}], "merge": [{"clusters", "into"}], "split": [{"cluster", "parts", "into"}],
    "move": [{"ids", "cluster"}], "not_a_kind": [{"cluster"}], "confirm": [{"cluster"}, {"ids"}], "undo": [set()], "redo": [set()],
}  # fmt: skip
OF_THE_LINE = {"act", "n", "time", "check"}  # what each line has


def _fields(act: Act) -> None:
    """Raises InputError unless the act is known, and has what it needs and nothing else."""
    name = act.get("act")
    if not isinstance(name, str) or name not in FIELDS:
        raise InputError(f"there is no act {printable(name)}; there are {', '.join(FIELDS)}")
    given = set(act) - OF_THE_LINE
    if given not in FIELDS[name]:
        wanted = " or ".join(", ".join(sorted(fields)) or "nothing" for fields in FIELDS[name])
        raise InputError(f"{name}: wanted {wanted}, not {printable(', '.join(sorted(given)) or 'nothing')}")


def _new(act: Act, following: int) -> range:
    """The numbers of the clusters that an act makes; InputError where it gives others than the next ones."""
    _fields(act)
    if act["act"] == "move":
        return range(following, following + (type(act["cluster"]) is int and act["cluster"] == following))
    if act["act"] != "split":
        return range(following, following)
    new = range(following, following + len(_parts(act)) - 1)
    if act["into"] != [act["cluster"], *new]:
        raise InputError(f"split: the first part stays cluster {printable(act['cluster'])}, the others are new, from {following}")
    return new


def _parts(act: Act) -> Sequence[Any]:
    parts = act.get("parts")
    if not isinstance(parts, list) or len(parts) < 2 or not all(isinstance(part, list) and part for part in parts):
        raise InputError("split: wanted two parts or more, each with the ids of its pictures")
    return parts


def _numbers(act: Act, field: str, found: Any) -> list[int]:
    if not isinstance(found, list) or not found or not all(type(one) is int for one in found) or len(set(found)) < len(found):
        raise InputError(f"{act['act']}: {field} are whole numbers, one or more, each once")
    return found
