"""A table that is a list of fits: each is fitted, scored against true labels by `evaluate` afterwards, and is a row.

A fit has its folder in `keep`, named by its key, so that one that was cut short goes on there, and another table finds it done.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from coterie import fitting
from coterie.bench import OWN, Asked
from coterie.bench.place import Peak, place
from coterie.bench.rows import Rows
from coterie.bench.sets import Missing, PictureSet, known, prepared
from coterie.evaluate.protocol import evaluate
from coterie.fitting import presets
from coterie.methods.pretext import PretextConfig
from coterie.run.checkpoint import fingerprint
from coterie.run.files import read_config, read_history, read_json, read_trace

KEY = ("method", "features", "options", "set", "protocol", "preset", "schedule", "budget", "seed")  # what tells rows apart
SCORES = ("acc", "nmi", "ari", "many_to_one", "baseline_acc", "features_kmeans_acc")  # by labels, of evaluate
BLIND = ("score", "agreement", "stability")  # without labels, of the verdict
WHOLE = "whole"  # the protocol: fitted on all pictures of the set, and scored on the same


@dataclass(frozen=True)
class Fit:
    """A row to be made. `features`: the fit whose encoder is taken: frozen, so that only the last step is this one's, or, where that fit
    is a pretext for a method, in place of the method's own pretext. `pretext_of`: the method whose preset says how the encoder is trained,
    where that is not this one's own."""

    method: str
    set: str
    seed: int
    options: dict[str, Any] = field(default_factory=dict)
    features: "Fit | None" = None
    pretext_of: str = ""

    @property
    def told(self) -> str:
        """What stands in the column `options`."""
        return json.dumps(self.options | ({"pretext_of": self.pretext_of} if self.pretext_of else {}), sort_keys=True)

    def key(self, asked: Asked) -> dict[str, Any]:
        """The columns that tell rows apart."""
        of = self.features
        made = "" if not of else of.method + (of.told if of.told != "{}" else "")
        key = {"method": self.method, "features": made, "options": self.told, "set": self.set}
        key |= {"protocol": WHOLE, "preset": asked.preset, "schedule": "gpu" if asked.devices.device.type == "cuda" else "cpu"}
        return key | {"budget": f"{asked.budget:g}" if asked.budget else "", "seed": self.seed}


def fill(asked: Asked, rows: Rows, fits: Callable[[Asked], Iterator[Fit]]) -> None:
    """Makes the rows that are not there. A set that is missing is said, and left out, unless it was asked for by name."""
    for name in asked.sets:
        known(name)

    @cache
    def here(name: str) -> PictureSet | None:
        try:
            return prepared(name, asked.data, asked.keep / "sets")
        except Missing as missing:
            if name in asked.sets:
                raise
            asked.say(f"left out: {missing}")
            return None

    wanted = list(fits(asked))
    for number, one in enumerate(wanted, start=1):
        if rows.has(one.key(asked)) or (pictures := here(one.set)) is None:
            continue
        asked.say(f"{number} of {len(wanted)}: {_in_words(one)}")
        rows.append(_row(one, pictures, asked))


def _in_words(one: Fit) -> str:
    options = "".join(f", {name}={value}" for name, value in one.options.items())
    return f"{one.method}{f' on features of {one.features.method}' if one.features else ''}, {one.set}, seed {one.seed}{options}"


def folder_of(one: Fit, asked: Asked) -> Path:
    """Where the fit lies."""
    key = fingerprint(one.key(asked))[:10]
    return asked.keep / f"{one.method}-{one.set.replace(':', '-')}-{one.seed}-{key}"


def fitted(one: Fit, pictures: PictureSet, asked: Asked) -> Path:
    """The folder of the finished fit; made, or continued, where it is not."""
    run = folder_of(one, asked)
    if fitting.is_finished(run):
        return run
    preset, gpu = pictures.preset if asked.preset == OWN else asked.preset, asked.devices.device.type == "cuda"
    settings = (_pretext(one.pretext_of, preset, pictures, gpu) if one.pretext_of else {}) | one.options
    clusters = settings.pop("n_clusters", pictures.n_classes)
    if one.features:
        before = fitted(one.features, pictures, asked)
        made = read_config(before)["settings"]
        settings |= {"encoder": made["encoder"], "image_size": made["image_size"], "weights": str(before.absolute())}
        settings |= {"pretext": made["pretext"], "pretext_epochs": 0} if one.features.pretext_of else {"pretext": "frozen"}
    images, plan = fitting.plan(
        str(pictures.pictures), one.method, clusters=clusters, preset=preset, settings=settings, seed=one.seed,
        gpu=gpu, cache=asked.cache, own=pictures.preset,
    )  # fmt: skip
    fitting.fit(images, plan, run, devices=asked.devices, time_budget=asked.budget, cache=asked.cache)
    return run


def _pretext(method: str, preset: str, pictures: PictureSet, gpu: bool) -> dict[str, Any]:
    """How `method` trains its encoder by the preset; SimCLR of the network `small` where that says nothing."""
    n, known = len(np.load(pictures.pictures, mmap_mode="r", allow_pickle=False)), {field.name for field in fields(PretextConfig)}
    own = presets.settings(method, preset, n, gpu, pictures.preset)
    return {"encoder": "small", "pretext": "simclr"} | {name: value for name, value in own.items() if name in known}


def _row(one: Fit, pictures: PictureSet, asked: Asked) -> dict[str, Any]:
    """The row of one fit: its key, scores, what it took, and on what."""
    if one.features:  # whose memory is not this one's
        fitted(one.features, pictures, asked)
    fresh, peak = not folder_of(one, asked).exists(), Peak(asked.devices)
    run = fitted(one, pictures, asked)
    most = peak.mb() if fresh else ""  # of a part of a fit it would tell nothing
    told, scores = read_json(run / "environment.json", evidence=dict), evaluate(run, str(pictures.labels), ["clusters"])
    row = one.key(asked) | {"images": scores["n_images"], "clusters": scores["n_clusters"]}
    row |= {name: round(scores[name], 4) for name in SCORES} | {"oracle": _oracle(run, scores)}
    evidence = told["evidence"]
    row |= {name: evidence.get(name, "") for name in BLIND} | {"returned": evidence.get("returned", one.method)}
    row |= {"seconds": told["seconds"], "stages": json.dumps(told["stages"]), "images_per_second": _speed(run)}
    return row | {"peak_mb": most} | place(asked.devices)


def _oracle(run: Path, scores: dict[str, Any]) -> float | str:
    """The best ACC of any traced epoch and head by the true labels, which no fit may look at; of stages that sort into the clusters asked
    for, not into more. "" of a method that has none."""
    trace = read_trace(run, scores["n_images"])
    stages = {name.rpartition("-")[0] for name, labels in trace.items() if labels.max() < scores["n_clusters"]}
    found = [acc for stage, epochs in scores["curves"].items() if stage in stages for _, accs in epochs for acc in accs]
    return max(found) if found else ""


def _speed(run: Path) -> int | str:
    """Images a second in the stage that looked at pictures longest, the median of its epochs; "" where none did."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in read_history(run):
        if "images_per_second" in row:
            stages.setdefault(row["stage"], []).append(row)
    longest = max(stages.values(), key=lambda epochs: sum(row["seconds"] for row in epochs), default=[])
    return round(median(row["images_per_second"] for row in longest)) if longest else ""
