"""A fit from a source to a run folder: settings resolved, pictures opened, a method run, results written. What every door calls."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie import assignments as store
from coterie import checkpoint, config, methods, presets
from coterie.assignments import Assignments
from coterie.diagnose import vital_signs, worries
from coterie.encoder import PRECOMPUTED
from coterie.errors import InputError
from coterie.files import read_json, read_json_lines, read_table
from coterie.images import Images, open_images
from coterie.images.collection import Rows, open_rows
from coterie.methods.pretext import PretextConfig
from coterie.model import Model, load
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.progress import Silent


@dataclass(frozen=True)
class Plan:
    """A fit before it starts: all that decides its result but the machine."""

    method: str
    preset: str
    seed: int
    gpu: bool  # whether the preset's schedule for a GPU was taken
    config: PretextConfig
    source: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        from coterie import __version__

        return {
            "coterie": __version__,
            "method": self.method,
            "preset": self.preset,
            "seed": self.seed,
            "schedule": "gpu" if self.gpu else "cpu",
            "source": self.source,
            "settings": config.plain(self.config),
        }


def plan(
    source: Any,
    method: str | None = None,
    *,
    clusters: int | None = None,
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
    seed: int | None = None,
    gpu: bool = False,
    cache: Path | None = None,
    progress: Silent | None = None,
) -> tuple[Images, Plan]:
    """Opens the source and resolves every setting.

    `base` is a config.json to repeat; `settings` change it, `clusters` and `seed` come last. Images opened before keep their size.
    """
    base, settings = base or {}, dict(settings or {})
    opened = isinstance(source, Images) and not isinstance(source, Rows)
    if opened and "settings" not in base:
        settings.setdefault("image_size", source.size[0])
    method = method or base.get("method", "scan")
    make = methods.method(method).Config
    preset = preset or base.get("preset") or presets.of_source(source.name if opened else str(source))

    def resolve(n_images: int, n_clusters: int) -> PretextConfig:
        values = base["settings"] if "settings" in base else presets.settings(method, preset, n_images, gpu)
        changed = config.change(config.change(make(), values), settings)
        if changed.encoder == PRECOMPUTED and "pretext" not in settings:
            changed = config.change(changed, {"pretext": "frozen"})
        return config.change(changed, {"n_clusters": n_clusters})

    if clusters is not None and clusters < 1:
        raise InputError(f"--clusters {clusters}: at least 1 is needed")
    start = resolve(10_000, clusters or 1)
    advance = (progress or Silent()).advance
    if start.encoder == PRECOMPUTED:
        images: Images = open_rows(source)
    else:
        images = open_images(source, start.image_size, cache, start.max_pixels, advance)
    n = clusters or settings.get("n_clusters") or base.get("settings", {}).get("n_clusters") or images.n_classes
    if n is None:
        raise InputError(f"how many kinds are in {images.name}? give --clusters K (estimating it is not built yet)")
    if int(n) > len(images):
        raise InputError(f"--clusters {n}: more clusters than the {len(images)} images of {images.name}")
    seed = seed if seed is not None else base.get("seed", 0)
    return images, Plan(method, preset, seed, gpu, resolve(len(images), int(n)), describe(source, images))


def fit(
    images: Images,
    plan: Plan,
    folder: Path,
    *,
    devices: Devices | None = None,
    time_budget: float | None = None,
    progress: Silent | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Runs the plan in `folder`, or continues it there; returns the summary (`fit --json`).

    A finished run of the same plan is left alone. Raises InputError, naming what differs, when the folder holds another one.
    """
    folder, devices = Path(folder), devices or Devices()
    with _mine(folder, devices):
        if devices.rank == 0:
            _check_folder(folder, plan)
        devices.wait()
        if is_finished(folder):
            return summary(folder)
        if devices.rank == 0:
            store.write_json(folder, "config.json", plan.to_json())
        run = Run(folder, seed=plan.seed, devices=devices, time_budget=time_budget, progress=progress, started=started)
        fitted = methods.method(plan.method).fit(images, plan.config, run)
        signs = vital_signs(fitted.p_NK)
        for worry in worries(signs):
            run.warn(worry)
        for worry in source_worries(images):
            run.warn(worry)
        model = Model(fitted.encoder, fitted.head, plan.config.image_size, fitted.features_ND.shape[1], plan.config.n_clusters)
        result = Assignments(fitted.p_NK, fitted.features_ND, model, run.warnings, fitted.maps_RNhw)
        store.write_run(folder, images, result, run)
        devices.wait()
        done = summary(folder)
        run.close()
        return done


@contextmanager
def _mine(folder: Path, devices: Devices) -> Iterator[None]:
    """The folder, made where it is missing, and held: by the first rank for all of them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder} is a file, or lies in one; choose another folder") from None
    with checkpoint.locked(folder) if devices.rank == 0 else nullcontext():
        yield


def _check_folder(folder: Path, plan: Plan) -> None:
    """Raises InputError when the folder holds another fit, or something else. A fit that ended before it had learned anything, by a
    mistake in its settings, is none."""
    if (folder / "config.json").exists():
        if (folder / store.TABLE).exists() or any((folder / "work").glob("*")):
            _check_same(folder, plan)
    elif any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and no run of coterie; choose another folder")


def config_of(folder: Path) -> dict[str, Any]:
    """The config.json of a run. Raises InputError naming what is missing or damaged."""
    found = read_json(folder / "config.json")
    for name in ("method", "preset", "seed", "source", "settings"):
        if name not in found:
            raise InputError(f"{folder / 'config.json'} is damaged: it lacks {name}")
    return found


def is_finished(folder: Path) -> bool:
    return (folder / store.TABLE).exists() and not (folder / "work").exists()


def summary(folder: Path) -> dict[str, Any]:
    """What `fit --json` prints, from the files of a finished run."""
    environment, made = read_json(folder / "environment.json"), config_of(folder)
    table = read_table(folder / store.TABLE)
    k = made["settings"]["n_clusters"]
    return {
        "run": str(folder),
        "method": made["method"],
        "n_images": len(table),
        "n_clusters": k,
        "sizes": np.bincount(table["cluster"].to_numpy(), minlength=k).tolist(),
        "n_problems": environment["n_problems"],
        "seconds": environment["seconds"],
        "device": environment["device"],
        "health": environment["health"],
    }


def predict(folder: Path, source: Any, devices: Devices, cache: Path | None = None) -> tuple[Images, torch.Tensor, torch.Tensor]:
    """New pictures, their features (N, D) and their probabilities (N, K) under the model of a run."""
    made = config_of(folder)
    model = load(folder, devices)
    images = open_images(source, model.image_size, cache, made["settings"].get("max_pixels", PretextConfig.max_pixels))
    run = Run(devices=devices)
    z_ND = model.features(images, run)
    run.close()
    return images, z_ND.cpu(), model.probabilities(z_ND).cpu()


def show(folder: Path) -> dict[str, Any]:
    """What a run is, how far it came, its health."""
    made = config_of(folder)
    known = {"run": str(folder), "method": made["method"], "preset": made["preset"], "source": made["source"]["name"]}
    known |= {"n_images": made["source"]["n_images"], "n_clusters": made["settings"]["n_clusters"], "seed": made["seed"]}
    if is_finished(folder):
        return known | {
            "state": "finished",
            **{k: v for k, v in summary(folder).items() if k in ("sizes", "seconds", "n_problems", "health")},
        }
    history = folder / "history.jsonl"
    rows = [row for row in read_json_lines(history) if row["stage"] != "note"] if history.exists() else []
    at = f"{rows[-1]['stage']}, epoch {rows[-1]['epoch'] + 1} of {rows[-1]['total']}" if rows else "not begun"
    return known | {"state": f"unfinished: {at}; the same `coterie fit` continues it", "health": []}


def schedule_of(folder: Path, gpu: bool) -> bool:
    """Whether to take a preset's schedule for a GPU: as the run in `folder` did, to continue it elsewhere; else as the device is."""
    if not (folder / "config.json").exists():
        return gpu
    return read_json(folder / "config.json").get("schedule", "cpu") == "gpu"


def describe(source: Any, images: Images) -> dict[str, Any]:
    """The source as config.json keeps it: what it is called, where it lies, what its content is."""
    path = {}
    if isinstance(source, (str, Path)):
        path = {"path": str(source) if images.kind in ("named", "dataset") else str(Path(source).expanduser().absolute())}
    return {
        "kind": images.kind,
        "name": images.name if images.kind in ("named", "dataset") else Path(images.name).name or images.name,
        **path,
        "fingerprint": images.fingerprint,
        "n_images": len(images),
        "n_duplicates": images.n_duplicates,
        "skipped": images.skipped,
    }


def _check_same(folder: Path, plan: Plan) -> None:
    there, wanted = config_of(folder), plan.to_json()
    changed = [f"{name}: {there.get(name)}, now {wanted[name]}" for name in ("method", "seed") if there.get(name) != wanted[name]]
    changed += config.differences(there["settings"], wanted["settings"])
    if there["source"]["fingerprint"] != wanted["source"]["fingerprint"]:
        before, now = (f"{made['source']['n_images']} of {made['source']['name']}" for made in (there, wanted))
        changed.append(f"the pictures ({before}, now {now})")
    if changed:
        raise InputError(f"{folder} holds a fit with other settings ({'; '.join(changed)}); repeat those, or choose another folder")


def source_worries(images: Images) -> list[str]:
    """What about the pictures themselves may spoil a clustering."""
    n, found = len(images), []
    if images.n_duplicates > 0.1 * n:
        found.append(f"{images.n_duplicates:,} of {n:,} images are exact copies of others; kinds with many copies weigh more")
    if n < 100:
        found.append(
            f"only {n} images: training from scratch wants hundreds; with so few, pretrained features serve better (--encoder, --weights)"
        )
    return found
