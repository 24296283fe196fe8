"""A finished run as plain numbers: what a page, or a notebook, may want to show. Reads the run folder and nothing else.

N images, K clusters, D feature dimensions. An image id is its row in assignments.parquet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from coterie.errors import InputError
from coterie.learning.words import CONFIDENT
from coterie.report.choice import Chosen, Example, Picks, central, choose, examples, left_out, twins
from coterie.report.confidence import confidence
from coterie.report.layout import Map, read_map
from coterie.report.neighbours import closeness, nearest
from coterie.report.quality import Quality, quality
from coterie.report.thumbnails import Picture, unpack, unpack_maps, unpack_others, unpack_rounds
from coterie.report.transfer import Judged, judged
from coterie.report.verdict import verdict
from coterie.run import edits
from coterie.run.files import (
    EVALUATION,
    damaged,
    expected,
    probabilities,
    read_assignments,
    read_config,
    read_features,
    read_hierarchy,
    read_history,
    read_json,
    read_rows,
    read_tensors,
    read_trace,
)

__all__ = ["CONFIDENT", "Assigned", "Chosen", "Cluster", "Example", "Picks", "ReportData", "Stage", "choose", "read"]

Content = TypeVar("Content")


@dataclass(frozen=True)
class Assigned:
    """Who went where. paths: N strings; labels_N: cluster or -1; confidence_N; second_N, second_confidence_N: the next likely cluster."""

    paths: list[str]
    labels_N: np.ndarray
    confidence_N: np.ndarray
    second_N: np.ndarray
    second_confidence_N: np.ndarray

    @property
    def confident(self) -> float:
        """Share of images with a confidence that the word is used for."""
        return float((self.confidence_N >= CONFIDENT).mean()) if len(self.confidence_N) else 0.0


@dataclass(frozen=True)
class Cluster:
    """number: 0..K-1; size: images; share: of all images, 0..1; confidence: mean, 0 when empty; picks: empty lists when not shown."""

    number: int
    size: int
    share: float
    confidence: float
    picks: Picks


@dataclass(frozen=True)
class Stage:
    """One stage of the training: its name, wall time in seconds (None when unknown) and its curves: name -> [(epoch, value), ...].

    scores: (epoch, label-free loss of each head), empty where there is one head only; chosen: the (epoch, head) the run went by in the end;
    notes: what it decided after this stage, and why.
    """

    name: str
    seconds: float | None
    epochs: int
    curves: dict[str, list[tuple[int, float]]]
    scores: list[tuple[int, list[float]]] = field(default_factory=list)
    chosen: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReportData:
    """Everything the page needs. config and environment are the run's own files; quality is None before evaluate.

    central: of each cluster shown the 3 pictures nearest to its centroid; attention: maps uint8 (h, w) by image id, of some of these;
    rounds: the same after each round of the training, uint8 (R, h, w) by image id, empty where there was one round;
    hierarchy: as hierarchy.json has it, None where a run keeps none;
    pictures: by id, of all images in runs that keep them; unsure: ids of pictures in no cluster, the least certain first; twins:
    near-duplicates of which some are shown, group by group, alike: all groups that the run tells;
    closeness_N: cosine with the mean feature of its cluster; near_NL: ids of those most like it;
    reliable_N: bool (N,), or None where the method selects none; given: the names in edits.jsonl; judged: what protocols found the
    features to be worth.
    """

    config: dict[str, Any]
    environment: dict[str, Any]
    quality: Quality | None
    assigned: Assigned
    clusters: list[Cluster]
    chosen: Chosen
    unsure: list[int]
    twins: list[list[int]]
    alike: list[list[int]]
    closeness_N: np.ndarray
    near_NL: np.ndarray
    examples: list[Example]
    central: dict[int, list[int]]
    pictures: dict[int, Picture]
    attention: dict[int, np.ndarray]
    rounds: dict[int, np.ndarray]
    map: Map
    hierarchy: dict[str, Any] | None
    reliable_N: np.ndarray | None
    stages: list[Stage]
    problems: list[tuple[str, str]]
    given: dict[int, str] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)

    @property
    def names(self) -> dict[int, str]:
        """Of the clusters that have one: what a person called it, else the class that it matches."""
        return {**(self.quality.names if self.quality else {}), **self.given}


def read(run: Path) -> ReportData:
    """Read a finished run; a missing 2-D map is computed (up to half a minute) and kept. InputError names a missing or damaged file."""
    config = read_config(run)
    environment = read_json(run / "environment.json", health=list, stages=dict)
    told = [(row.get("path") or "", row.get("reason") or "") for row in read_rows(run / "problems.csv")]
    problems = [(path, reason) for path, reason in told if not reason.startswith("read, but")]
    history = read_history(run)
    measured = run / "metrics.json"
    _checked(run / "config.json", lambda: tried(config))
    _checked(run / "environment.json", lambda: (verdict(environment), confidence(environment)))
    assigned, p_NK = _assigned(run)
    features_ND = read_features(run, len(p_NK))
    tensors = read_tensors(run / "pictures.safetensors", "id", "offset", "jpeg")
    pictures, attention = _checked(run / "pictures.safetensors", lambda: (unpack(tensors), unpack_maps(tensors)))
    rounds = _checked(run / "pictures.safetensors", lambda: unpack_rounds(tensors))
    shown = np.asarray(sorted(pictures), np.int64)
    pictures |= _checked(run / "pictures.safetensors", lambda: unpack_others(tensors))
    if pictures and not (min(pictures) >= 0 and max(pictures) < len(p_NK)):
        raise damaged(run / "pictures.safetensors", "is damaged: it shows images that are not in the run")
    chosen = choose(p_NK, assigned.labels_N, features_ND, among=shown)
    return ReportData(
        config=config,
        environment=environment,
        quality=_checked(measured, lambda: _quality(read_json(measured))) if measured.exists() else None,
        assigned=assigned,
        clusters=_clusters(assigned, chosen, p_NK.shape[1]),
        chosen=chosen,
        twins=[group for group in _checked(run / "environment.json", lambda: _twins(environment, pictures)) if len(group) > 1],
        alike=_checked(run / "environment.json", lambda: _alike(environment, len(p_NK))),
        closeness_N=closeness(features_ND, assigned.labels_N),
        near_NL=nearest(features_ND),
        unsure=left_out(p_NK, assigned.labels_N, among=shown),
        examples=examples(chosen, assigned.labels_N, features_ND),
        central=central(chosen, assigned.labels_N, features_ND),
        pictures=pictures,
        attention=attention,
        rounds=rounds,
        map=read_map(run, features_ND, shown),
        hierarchy=read_hierarchy(run, p_NK.shape[1]) if expected(run / "hierarchy.json") else None,
        reliable_N=_reliable(run, len(p_NK)),
        stages=_checked(run / "history.jsonl", lambda: _stages(history, environment["stages"])),
        problems=problems,
        judged=_checked(run / EVALUATION, lambda: judged(run)),
        given=edits.edited(run).names if (run / edits.FILE).exists() else {},
    )


def _quality(metrics: dict[str, Any]) -> Quality | None:
    """None where `evaluate` has judged the encoder alone."""
    return quality(metrics) if set(metrics) - {"labels", "on", "notes", "evaluation"} else None


def tried(config: dict[str, Any]) -> list[tuple[int, list[float]]]:
    """(number of kinds, its score) of each that was tried, ascending; none where the number was given."""
    scores = config.get("clusters", {}).get("scores", {})
    return sorted((int(number), [float(score)]) for number, score in scores.items() if np.isfinite(score))


def _assigned(run: Path) -> tuple[Assigned, np.ndarray]:
    table = read_assignments(run)
    labels_N = table["cluster"].to_numpy().astype(np.int64)
    confidence_N = table["confidence"].to_numpy().astype(np.float32)
    p_NK = probabilities(table)
    n, k = p_NK.shape
    others_NK = p_NK.copy()
    inside = np.flatnonzero(labels_N >= 0)
    others_NK[inside, labels_N[inside]] = -1
    second_N = others_NK.argmax(1) if k else np.full(n, -1)
    second_confidence_N = others_NK.max(1, initial=0)
    return Assigned(table["path"].to_pylist(), labels_N, confidence_N, second_N, second_confidence_N), p_NK


def _twins(environment: dict[str, Any], pictures: dict[int, Picture]) -> list[list[int]]:
    return [[i for i in group if i in pictures] for group in twins(environment.get("duplicates") or {})]


def _alike(environment: dict[str, Any], n: int) -> list[list[int]]:
    groups = (environment.get("duplicates") or {}).get("largest", [])
    return [[int(i) for i in group if 0 <= int(i) < n] for group in groups]


def _reliable(run: Path, n: int) -> np.ndarray | None:
    """bool (N,): the images with a pseudo-label in the end; older runs and other methods tell none."""
    found_N = read_trace(run, n).get("reliable") if expected(run / "trace.safetensors") else None
    return None if found_N is None else found_N > 0


def _clusters(assigned: Assigned, chosen: Chosen, k: int) -> list[Cluster]:
    inside = assigned.labels_N >= 0
    sizes_K = np.bincount(assigned.labels_N[inside], minlength=k)
    sums_K = np.bincount(assigned.labels_N[inside], assigned.confidence_N[inside], minlength=k)
    n = max(1, len(assigned.labels_N))
    return [
        Cluster(c, int(size), float(size) / n, float(total) / max(1, int(size)), chosen.clusters.get(c, Picks()))
        for c, (size, total) in enumerate(zip(sizes_K, sums_K))
    ]


def _stages(history: list[dict[str, Any]], seconds: dict[str, Any]) -> list[Stage]:
    """The history by stage in order of appearance. A continued fit may log an epoch twice; the later line counts."""
    epochs: dict[str, dict[int, dict[str, Any]]] = {}
    notes: dict[str, list[str]] = {}
    for line in history:
        name = str(line.get("stage", ""))
        if name == "note":
            notes.setdefault(next(reversed(epochs), ""), []).append(str(line.get("text", "")))
        else:
            epochs.setdefault(name, {})[int(line.get("epoch", 0))] = line
    stages = []
    for name, lines in epochs.items():
        curves: dict[str, list[tuple[int, float]]] = {}
        for epoch in sorted(lines):
            for key, value in lines[epoch].items():
                if key not in ("stage", "epoch", "total", "head") and isinstance(value, int | float) and np.isfinite(value):
                    curves.setdefault(key, []).append((epoch, float(value)))
        spent = seconds.get(name)
        scores = _scores(lines)
        stages.append(
            Stage(
                name,
                float(spent) if isinstance(spent, int | float) else None,
                len(lines),
                curves,
                scores,
                _chosen(lines) if scores else None,
                list(dict.fromkeys(notes.get(name, []))),
            )
        )
    return stages


def _scores(lines: dict[int, dict[str, Any]]) -> list[tuple[int, list[float]]]:
    """The rows whose `scores` are a list of numbers, one a head; as many heads as the last of them has."""
    listed = [(epoch, lines[epoch]["scores"]) for epoch in sorted(lines) if isinstance(lines[epoch].get("scores"), list)]
    finite = [(epoch, [float(value) for value in row]) for epoch, row in listed if row and np.isfinite(np.asarray(row, float)).all()]
    return [(epoch, row) for epoch, row in finite if len(row) == len(finite[-1][1])]


def _chosen(lines: dict[int, dict[str, Any]]) -> tuple[int, int] | None:
    """`head` and `score` say the best so far; those of the last epoch were found at the first epoch that says the same."""
    last = lines[max(lines)]
    if not isinstance(last.get("head"), int):
        return None
    same = [epoch for epoch, line in lines.items() if (line.get("head"), line.get("score")) == (last["head"], last.get("score"))]
    return min(same), last["head"]


def _checked(path: Path, make: Callable[[], Content]) -> Content:
    try:
        return make()
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise damaged(path, f"is damaged: {error}") from error
