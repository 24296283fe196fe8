"""A fit before it starts: settings resolved, pictures opened, and what config.json keeps of both."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import config, how_many, presets, recipes
from coterie.fitting.encoders import AUTO, SMALL, Choice, as_published, choose, in_words
from coterie.images import Images, open_images
from coterie.images.collection import Rows, open_rows
from coterie.methods.pretext import PretextConfig
from coterie.networks.encoder import PRECOMPUTED
from coterie.run.files import read_config, read_json
from coterie.run.progress import Silent

MOST_SEEDS = 100


@dataclass(frozen=True)
class Plan:
    """A fit before it starts: all that decides its result but the machine."""

    method: str
    preset: str
    seed: int
    gpu: bool  # whether the preset's schedule for a GPU was taken
    config: PretextConfig
    source: dict[str, Any]
    encoder: str = ""  # why this encoder, where `--encoder auto` chose it
    network: bool = False  # whether this very command named published weights, which may then be brought over the network
    asked: str = ""  # "auto" or "A:B", where the number of kinds is counted; config.n_clusters is provisional until then
    clusters: dict[str, Any] = field(default_factory=dict)  # what the count found
    seeds: int = 1  # fits, under `seed` and those after it, whose consensus is the result

    def to_json(self) -> dict[str, Any]:
        from coterie import __version__

        return {
            "coterie": __version__,
            "method": self.method,
            "preset": self.preset,
            "seed": self.seed,
            **({"seeds": self.seeds} if self.seeds > 1 else {}),
            "schedule": "gpu" if self.gpu else "cpu",
            "source": self.source,
            **({"encoder": self.encoder} if self.encoder else {}),
            **({"clusters": {"asked": self.asked, **self.clusters}} if self.asked else {}),
            "settings": config.plain(self.config),
        }


def plan(
    source: Any,
    method: str | None = None,
    *,
    clusters: int | str | None = None,
    preset: str | None = None,
    settings: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    gpu: bool = False,
    cache: Path | None = None,
    progress: Silent | None = None,
    own: str | None = None,
) -> tuple[Images, Plan]:
    """Opens the source and resolves every setting.

    `clusters` is a number, "auto" or "A:B"; None: what `settings` or `base` say, else the classes of a named set, else "auto".
    `base` is a config.json to repeat; `settings` change it, `clusters`, `seed` and `seeds` come last. Images opened before keep their size.
    `own`: the preset that belongs to the source, where its name does not tell.
    """
    base, settings = base or {}, dict(settings or {})
    opened = isinstance(source, Images) and not isinstance(source, Rows)
    if opened and "settings" not in base:
        settings.setdefault("image_size", source.size[0])
    method = method or recipes.method_of(preset) or base.get("method", "scan")
    make = methods.method(method).Config
    own = own or presets.of_source(source.name if opened else str(source))
    preset = preset or base.get("preset") or own

    choice: Choice | None = None

    def resolve(n_images: int, n_clusters: int) -> PretextConfig:
        nonlocal choice
        values = base["settings"] if "settings" in base else presets.settings(method, preset, n_images, gpu, own)
        changed = config.change(config.change(make(), values), settings)
        if changed.encoder == AUTO:
            choice = choice or choose(method, gpu, changed.weights, _small_and_grey(source))
        implied = choice.settings if choice else {} if "settings" in base else as_published(changed.encoder, method)
        if implied:  # what was said in this command still comes last
            said = {name: value for name, value in settings.items() if name != "encoder" or not choice}
            changed = config.change(config.change(make(), values | implied), said)
        if changed.encoder == PRECOMPUTED and "pretext" not in settings:
            changed = config.change(changed, {"pretext": "frozen"})
        return config.change(changed, {"n_clusters": n_clusters})

    asked = None if clusters is None else how_many.read(clusters)
    start = resolve(10_000, asked if isinstance(asked, int) else 1)
    advance = (progress or Silent()).advance
    if start.encoder == PRECOMPUTED:
        images: Images = open_rows(source)
    else:
        images = open_images(source, start.image_size, cache, start.max_pixels, advance, start.white)
        images = replace(images, passed=None) if opened else images  # what was passed then are the images themselves
    asked = asked or how_many.read(
        settings.get("n_clusters") or base.get("clusters", {}).get("asked") or base.get("settings", {}).get("n_clusters")
        or images.n_classes or how_many.AUTO
    )  # fmt: skip
    least, most = how_many.within(asked, images, method)
    seed = seed if seed is not None else base.get("seed", 0)
    seeds = base.get("seeds", 1) if seeds is None else seeds
    if not 1 <= seeds <= MOST_SEEDS:
        raise InputError(f"--seeds {seeds}: wanted 1 to {MOST_SEEDS} fits, such as 5")
    final = resolve(len(images), how_many.provisional(least, most))
    final = final if least == most else how_many.pinned(method, final, len(images))
    if seeds > 1 and final.unsure:
        raise InputError("--unsure leaves out pictures of one fit, --seeds tells the stability of each among several: give one of the two")
    reason = choice.reason if choice else base.get("encoder") or (in_words(final.encoder) if final.pretrained else "")
    network = final.pretrained and "pretrained" in settings
    return images, Plan(method, preset, seed, gpu, final, describe(source, images), reason, network,
                        "" if least == most else str(asked), seeds=seeds)  # fmt: skip


def _small_and_grey(source: Any) -> bool:
    """Whether the source is an array of small grey pictures, (N, H, W); files are taken for photographs."""
    shape = tuple(getattr(source, "shape", ()))
    return len(shape) == 3 and max(shape[1:]) < SMALL


def config_of(folder: Path) -> dict[str, Any]:
    """The config.json of a run. Raises InputError naming what is missing or damaged."""
    return read_config(folder)


def schedule_of(folder: Path, gpu: bool) -> bool:
    """Whether to take a preset's schedule for a GPU: as the run in `folder` did, to continue it elsewhere; else as the device is."""
    if not (folder / "config.json").exists():
        return gpu
    return read_json(folder / "config.json").get("schedule", "cpu") == "gpu"


def describe(source: Any, images: Images) -> dict[str, Any]:
    """The source as config.json keeps it: what it is called, where it lies, what its content is."""
    path = {}
    if isinstance(source, (str, Path)):
        path = {"path": str(source) if images.kind in ("named", "dataset", "url") else os.path.abspath(os.path.expanduser(source))}
    return {
        "kind": images.kind,
        "name": images.name if images.kind in ("named", "dataset") else Path(images.name).name or images.name,
        **path,
        "fingerprint": images.fingerprint,
        "n_images": len(images),
        "n_duplicates": images.n_duplicates,
        "skipped": images.skipped,
        **({"levels": {kind: list(pair) for kind, pair in images.levels.items()}} if images.levels else {}),
    }


def check_same(folder: Path, plan: Plan) -> None:
    there, wanted = config_of(folder), plan.to_json()
    changed = [f"{name}: {there.get(name)}, now {wanted[name]}" for name in ("method", "seed") if there.get(name) != wanted[name]]
    changed += config.differences(*({"seeds": told.get("seeds", 1)} for told in (there, wanted)))
    before, now = (told.get("clusters", {}).get("asked") for told in (there, wanted))  # what was counted follows from the rest
    of_both = ({name: value for name, value in told["settings"].items() if name != "n_clusters"} for told in (there, wanted))
    changed += config.differences(*of_both) if before or now else config.differences(there["settings"], wanted["settings"])
    if before != now:
        changed.append(
            "clusters: " + ", now ".join(str(one or told["settings"]["n_clusters"]) for one, told in ((before, there), (now, wanted)))
        )
    if there["source"]["fingerprint"] != wanted["source"]["fingerprint"]:
        before, now = (f"{made['source']['n_images']} of {made['source']['name']}" for made in (there, wanted))
        changed.append(f"the pictures ({before}, now {now})")
    if there["source"].get("levels") != wanted["source"].get("levels"):
        changed.append(f"black and white of its pictures: {there['source'].get('levels')}, now {wanted['source'].get('levels')}")
    if changed:
        raise InputError(f"{folder} holds a fit with other settings ({'; '.join(changed)}); repeat those, or choose another folder")
