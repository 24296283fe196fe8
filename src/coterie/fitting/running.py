"""A fit run or continued in its folder, and what a run says of itself afterwards. What every door calls."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import assignments as store
from coterie.fitting import how_many, seeds
from coterie.fitting.assignments import Assignments
from coterie.fitting.confidence import assured
from coterie.fitting.duplicates import duplicates, once, spread
from coterie.fitting.hierarchy import kept, read_sorted
from coterie.fitting.planning import Plan, check_same, config_of
from coterie.fitting.small import small
from coterie.fitting.verdict import settle
from coterie.images import Images, open_images
from coterie.learning.diagnose import vital_signs, worries
from coterie.methods.pretext import PretextConfig
from coterie.networks.model import Model, load
from coterie.networks.weights import fetch
from coterie.run import Run, checkpoint, disk, edits, manifest
from coterie.run.devices import Devices
from coterie.run.files import read_assignments, read_history, read_json
from coterie.run.manifest import is_finished
from coterie.run.progress import Silent

ONE_KIND = "the pictures look like one kind, so every picture is in one cluster; --clusters K sorts them into K all the same"


def fit(
    images: Images,
    plan: Plan,
    folder: Path,
    *,
    devices: Devices | None = None,
    time_budget: float | None = None,
    progress: Silent | None = None,
    started: float | None = None,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Runs the plan in `folder`, or continues it there; returns the summary (`fit --json`).

    `cache` keeps the features of a frozen encoder for other runs. A finished run of the same plan is left alone. Raises InputError, naming
    what differs, when the folder holds another one, and naming the files, when it holds this one and it is damaged.
    """
    folder, devices = Path(folder), devices or Devices()
    with _mine(folder, devices), devices.together():
        if devices.rank == 0:
            _check_folder(folder, plan)
        devices.wait()
        if is_finished(folder):
            manifest.check_run(folder)
            if devices.rank == 0:
                shutil.rmtree(folder / "work", ignore_errors=True)  # left by a process that ended between its last two steps
            return summary(folder)
        if devices.rank == 0:
            store.write_json(folder, "config.json", plan.to_json())
        if plan.network:
            fetch(plan.config.encoder, plan.config.image_size)
        run = Run(folder, seed=plan.seed, devices=devices, time_budget=time_budget, progress=progress, started=started,
                  clip=plan.config.clip, cache=cache)  # fmt: skip
        plan, result = (_one if plan.seeds == 1 else _agreed)(images, plan, run)
        if plan.asked and devices.rank == 0:
            store.write_json(folder, "config.json", plan.to_json())
        store.write_run(folder, images, result, run)
        if devices.rank == 0:
            manifest.seal(folder)
            kept(folder, read_sorted(folder))
        devices.wait()
        done = summary(folder)
        run.close()
        return done


def _one(images: Images, plan: Plan, run: Run) -> tuple[Plan, Assignments]:
    """The plan, with the number of kinds where it was left open, and what its method finds, or k-means in its place."""
    for told in images.notes:
        run.note(told)
    copies = once(images, plan.config, run) if plan.config.duplicates == "once" else None
    every, images = images, images if copies is None else images[copies.ids_M]
    counted = bool(plan.asked or plan.clusters)
    if plan.asked:
        plan = how_many.counted(images, plan, run)
        run.progress.message(how_many.in_words(plan.clusters))
        if run.rank == 0:
            store.write_json(run.folder, "config.json", plan.to_json())  # `show` tells the number while it goes on
    elif plan.config.n_clusters == 1 and not counted:
        run.warn("one cluster was asked for: every picture will be in it, whatever is learned; give --clusters 2 or more to sort them")
    fitted = methods.method(plan.method).fit(images, plan.config, run)
    if plan.asked:  # only now, for a stage that is found done takes the history and the warnings back to its end
        run.note(how_many.in_words(plan.clusters), shown=True)
    if counted and plan.config.n_clusters == 1:
        run.warn(ONE_KIND)
    signs = vital_signs(fitted.p_NK)
    pixels_NCHW = small(every)
    learned_NCHW = pixels_NCHW if copies is None else pixels_NCHW[copies.ids_M]
    fitted, sentence, evidence = settle(fitted, learned_NCHW, plan.method, plan.config, run, counted=counted)
    sure = assured(fitted, plan.config, run)
    fitted = sure.fitted
    signs["confident"] = vital_signs(fitted.p_NK)["confident"]  # how sure the result may be, once that is known
    near = copies.told if copies else duplicates(images, pixels_NCHW, fitted.features_ND)
    for worry in (*worries(signs), *source_worries(every, near)):
        run.warn(worry)
    width, k = fitted.features_ND.shape[1], plan.config.n_clusters
    model = Model(fitted.encoder, fitted.head, plan.config.image_size, width, k, sure.temperature)
    result = Assignments(fitted.p_NK, fitted.features_ND, model, run.warnings, fitted.maps_RNhw, sentence, evidence,
                         unsure_N=sure.unsure_N, confidence=sure.told, duplicates=near,
                         baseline_N=store.baseline_labels(pixels_NCHW, k, run.seed))  # fmt: skip
    return plan, result if copies is None else spread(result, copies, every, run)


def _agreed(images: Images, plan: Plan, run: Run) -> tuple[Plan, Assignments]:
    """As `_one`, of several seeds: their consensus."""

    def each(images: Images, plan: Plan, folder: Path, time_budget: float | None) -> None:
        fit(images, plan, folder, devices=run.devices, time_budget=time_budget, progress=run.progress, cache=run.cache)

    plan, found = seeds.fit_all(images, plan, run, each)
    return plan, seeds.agreed(images, found, run)


@contextmanager
def _mine(folder: Path, devices: Devices) -> Iterator[None]:
    """The folder, made where it is missing, and held: by the first rank for all of them."""
    try:
        disk.make_folder(folder)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file, or lies in one; choose another folder") from None
    with checkpoint.locked(folder) if devices.rank == 0 else nullcontext():
        yield


def _check_folder(folder: Path, plan: Plan) -> None:
    """Raises InputError when the folder holds another fit, or something else. A fit that ended before it had learned anything, by a
    mistake in its settings, is none."""
    if (folder / "config.json").exists() or is_finished(folder):
        if is_finished(folder) or (folder / store.TABLE).exists() or _begun(folder):
            check_same(folder, plan)
    elif any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and no run of coterie; choose another folder")


def _begun(folder: Path) -> bool:
    """Whether anything was learned there, or in the fits of its seeds."""
    return any(not path.name.startswith("seed-") or is_finished(path) or _begun(path) for path in (folder / "work").glob("*"))


def summary(folder: Path) -> dict[str, Any]:
    """What `fit --json` prints, from the files of a finished run."""
    environment, made = read_json(folder / "environment.json", n_problems=int, seconds=float, device=str, health=list), config_of(folder)
    table = read_assignments(folder)
    k, clusters_N = made["settings"]["n_clusters"], table["cluster"].to_numpy()
    return {
        "run": str(folder),
        "method": made["method"],
        "n_images": len(table),
        "n_clusters": k,
        "clusters_low": made.get("clusters", {}).get("low", k),
        "clusters_high": made.get("clusters", {}).get("high", k),
        "n_unsure": int((clusters_N < 0).sum()),
        "sizes": np.bincount(clusters_N[clusters_N >= 0], minlength=k).tolist(),
        "n_problems": environment["n_problems"],
        "seconds": environment["seconds"],
        "device": environment["device"],
        "n_near_duplicates": environment.get("duplicates", {}).get("extra", 0),
        "health": environment["health"],
        "verdict": environment.get("verdict", ""),  # runs of 0.1 before it have none
        **({"seeds": made["seeds"], "seeds_alike": environment["evidence"]["fits_alike"]} if "seeds" in made else {}),
    }


def predict(folder: Path, source: Any, devices: Devices, cache: Path | None = None) -> tuple[Images, torch.Tensor, torch.Tensor]:
    """New pictures, their features (N, D) and their probabilities (N, K) under the model of a run."""
    model = load(folder, devices)
    images = opened_for(folder, model, source, cache)
    run = Run(devices=devices)
    z_ND = model.features(images, run)
    run.close()
    return images, z_ND.cpu(), model.probabilities(z_ND).cpu()


def opened_for(
    folder: Path, model: Model, source: Any, cache: Path | None = None, size: int | None = None, download: bool = True,
    progress: Silent | None = None,
) -> Images:  # fmt: skip
    """New pictures as those of a run were opened: the same size unless another is asked for, limit, and white of deep ones. InputError
    where it was fitted on features."""
    made = config_of(folder)
    if model.precomputed:
        raise InputError(f"{folder} was fitted on features, not on pictures; in Python, coterie.load(...).predict takes such features")
    max_pixels, levels = made["settings"].get("max_pixels", PretextConfig.max_pixels), made["source"].get("levels")
    shown = progress.advance if progress else None
    return open_images(source, size or model.image_size, cache, max_pixels, shown, levels=levels, download=download)


def show(folder: Path) -> dict[str, Any]:
    """What a run is, how far it came, its health."""
    made = config_of(folder)
    known = {"run": str(folder), "method": made["method"], "preset": made["preset"], "source": made["source"]["name"]}
    known |= {"n_images": made["source"]["n_images"], "n_clusters": kinds_of(made), "seed": made["seed"]}
    known |= {"encoder": made["settings"]["encoder"], "image_size": made["settings"]["image_size"]}
    if is_finished(folder):
        manifest.check_run(folder)
        whole = (folder / manifest.NAME).exists()
        return known | {
            "state": "finished",
            "files": "as they were written" if whole else f"not compared with checksums: there is no {manifest.NAME}",
            **{k: v for k, v in summary(folder).items() if k in ("sizes", "n_unsure", "seconds", "n_problems", "health", "verdict")},
            **_corrected(folder),
        }
    seed, place = seeds.under_way(folder, made["seed"], made.get("seeds", 1))
    rows = [row for row in read_history(place) if row["stage"] != "note"] if (place / "history.jsonl").exists() else []
    at = f"{rows[-1]['stage']}, epoch {rows[-1]['epoch'] + 1} of {rows[-1]['total']}" if rows else "not begun"
    at = f"seed {seed}, {seed - made['seed'] + 1} of {made['seeds']}: {at}" if "seeds" in made else at
    return known | {"state": f"unfinished: {at}; the same `coterie fit` continues it", "health": []}


def _corrected(folder: Path) -> dict[str, Any]:
    """What stands in edits.jsonl, where there is one."""
    if not (folder / edits.FILE).exists():
        return {}
    found = edits.edited(folder)
    return {"edits": len(found.applied), "names": {str(number): name for number, name in sorted(found.names.items())}}


def kinds_of(made: dict[str, Any]) -> int | str:
    """The number of kinds of a config.json; what was asked, as long as they are not counted."""
    clusters = made.get("clusters", {})
    return made["settings"]["n_clusters"] if "k" in clusters or not clusters else clusters["asked"]


def source_worries(images: Images, near: dict[str, Any]) -> list[str]:
    """What about the pictures themselves may spoil a clustering. near: their near-duplicates, as `duplicates` tells them."""
    n, found = len(images), list(images.doubts)
    if bad := len(images.problems):
        found.append(f"{bad:,} of {n + bad:,} pictures could not be read and have no cluster; problems.csv says why (label -1 in Python)")
    more = "; kinds with many copies weigh more (--set duplicates=once counts each once)"
    weigh = not near.get("once")
    if weigh and images.n_duplicates > 0.1 * n:
        found.append(f"{images.n_duplicates:,} of {n:,} images are exact copies of others{more}")
    elif weigh and (extra := near.get("extra", 0)) > 0.1 * n:
        found.append(f"{extra:,} of {n:,} images are near-duplicates of others{more}")
    if n < 100:
        found.append(
            f"only {n} images: training from scratch wants hundreds; with so few, pretrained features serve better (--encoder, --weights)"
        )
    return found
