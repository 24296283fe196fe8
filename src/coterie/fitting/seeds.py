"""`--seeds 5`: the same fit under seeds s, s + 1, ..., and what they agree on, as one run.

The fits lie in `seed-<n>`, in the work folder of RUN, while it goes on, each a run of its own that a killed command finds again. The
result's model, features, history and curves are those of the fit nearest to the consensus, and `predict` uses that; its assignments are
the consensus'.
"""

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from coterie.errors import InputError
from coterie.fitting.assignments import Assignments
from coterie.fitting.planning import Plan, config_of
from coterie.images import Images
from coterie.learning.consensus import consensus
from coterie.learning.diagnose import vital_signs, worries
from coterie.networks.model import load
from coterie.run import Run, checkpoint
from coterie.run.files import probabilities, read_assignments, read_features, read_history, read_json, read_trace
from coterie.run.manifest import check_run, is_finished

UNLIKE = 0.6  # mean adjusted Rand index of the fits below which a warning says so


def places(folder: Path, seed: int, seeds: int) -> list[Path]:
    """Where each of the fits lies."""
    return [folder / "work" / f"seed-{seed + i}" for i in range(seeds)]


def fit_all(images: Images, plan: Plan, run: Run, fit: Callable[[Images, Plan, Path, float | None], None]) -> tuple[Plan, list[Path]]:
    """The plan with the number of clusters that all share, and the folders of the finished fits. `fit(images, plan, folder, time_budget)`
    makes or continues one; of a time budget each gets an even share of what is left."""
    found = places(run.folder, plan.seed, plan.seeds)
    one = replace(plan, seeds=1)
    for i, place in enumerate(found):
        run.progress.message(f"seed {plan.seed + i}, {i + 1} of {plan.seeds}")
        if run.rank == 0:
            _leave_damage(place, run)
        run.devices.wait()
        left = (run.ends - time.monotonic()) / (plan.seeds - i)
        fit(images, replace(one, seed=plan.seed + i), place, None if math.isinf(left) else max(1.0, left))
        if run.rank == 0:
            checkpoint.keep_spent(run.folder / "work", run.seconds)
        if one.asked:  # the kinds are counted once
            made = config_of(place)
            counted = {name: value for name, value in made["clusters"].items() if name != "asked"}
            one = replace(one, asked="", clusters=counted, config=replace(one.config, n_clusters=made["settings"]["n_clusters"]))
    return replace(plan, config=one.config, clusters=one.clusters), found


def _leave_damage(place: Path, run: Run) -> None:
    """A finished fit that is damaged is made again, as other results in work/ are."""
    if is_finished(place):
        try:
            check_run(place)
        except InputError as error:
            run.progress.message(f"{error.args[0].partition(';')[0]}; this seed is fitted again")
            shutil.rmtree(place)


def agreed(images: Images, found: list[Path], run: Run) -> Assignments:
    """The consensus of finished fits; `run` takes the history, the curves and the warnings of the nearest."""
    told = consensus([torch.tensor(probabilities(read_assignments(place))) for place in found])
    nearest, seed = found[told.nearest], run.seed + told.nearest
    run.adopt(read_history(nearest))
    for place in found:
        for stage, seconds in read_json(place / "environment.json", stages=dict)["stages"].items():
            run.stages[stage] = run.stages.get(stage, 0.0) + seconds
    traces = read_trace(nearest, len(images))
    for name, labels in traces.items():
        if name != "baseline-pixels":
            run.keep(name, torch.from_numpy(labels))
    environment = read_json(nearest / "environment.json", health=list, verdict=str, evidence=dict)
    near, baseline_N = environment.get("duplicates", {}), torch.from_numpy(traces["baseline-pixels"])
    for worry in (*environment["health"], *worries(vital_signs(told.p_NK))):
        run.warn(worry)
    if told.alike < UNLIKE:
        run.warn(
            f"the {len(found)} seeds agree little (adjusted Rand index {told.alike:.2f} on average): trust the pictures whose stability is"
            " 1, and look before you use the others"
        )
    run.note(f"consensus of {len(found)} seeds; seed {seed} is nearest, and its model is kept for new pictures")
    sentence = f"{environment['verdict']} {len(found)} seeds are {told.alike:.2f} alike (adjusted Rand index, 1 the same)."
    evidence = environment["evidence"] | {"fits": len(found), "fits_alike": round(told.alike, 4), "fits_nearest": seed}
    features_ND = torch.from_numpy(read_features(nearest, len(images))).float()
    model = load(nearest, run.devices)
    return Assignments(told.p_NK, features_ND, model, run.warnings, verdict=sentence, evidence=evidence,
                       stability_N=told.stability_N, duplicates=near, baseline_N=baseline_N)  # fmt: skip


def under_way(folder: Path, seed: int, seeds: int) -> tuple[int, Path]:
    """The seed of a fit that is not done, and where its history is: the first that is not finished."""
    if seeds == 1:
        return seed, folder
    return next(((seed + i, place) for i, place in enumerate(places(folder, seed, seeds)) if not is_finished(place)), (seed, folder))
