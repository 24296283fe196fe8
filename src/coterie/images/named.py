"""Named sets: `digits`, `torchvision:NAME/split`, `hf:NAME/split`, `cub200/split`, `wnids:FILE/split`. The one place that may use the
network, and only when asked by name.

A name in the file of a run was asked for by nobody: then `download` is False, and only what is on this machine is read.
"""

import contextlib
import difflib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coterie.errors import InputError
from coterie.images import layouts
from coterie.images.store import default_cache

_PARTS = ("train", "test", "validation", "val", "unlabeled", "all")


@dataclass(frozen=True)
class NamedSet:
    """What a name stands for: `pictures`, an array or indexable, in the set's own order; `labels` (N,) int64, for evaluation only."""

    pictures: Any
    labels: np.ndarray | None
    n_classes: int | None


def is_named(name: str) -> bool:
    return name in ("digits", "cub200") or name.startswith(("torchvision:", "hf:", "wnids:", "cub200/"))


def load_named(name: str, download: bool = False) -> NamedSet:
    """The set called `name`, from `data_root()` when it is there, else downloaded to it where `download` allows it. InputError, and what to
    do, when neither works."""
    if name == "digits":
        return _digits()
    if name.startswith(("cub200", "wnids:")):
        files = (
            layouts.wnids(name, name.removeprefix("wnids:"), data_root())
            if name.startswith("wnids:")
            else layouts.cub200(name, name.partition("/")[2] or "train", data_root())
        )
        return NamedSet(files.paths, files.labels, files.n_classes)
    family, _, rest = name.partition(":")
    return _torchvision(name, rest, download) if family == "torchvision" else _hugging_face(name, rest, download)


def data_root() -> Path:
    """$COTERIE_DATA, else `data` in the cache folder."""
    chosen = os.environ.get("COTERIE_DATA")
    return Path(chosen).expanduser() if chosen else default_cache() / "data"


def _digits() -> NamedSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return NamedSet(np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target.astype(np.int64), 10)


def _torchvision(name: str, rest: str, download: bool) -> NamedSet:
    from torchvision import datasets

    kind, _, part = rest.partition("/")
    make = getattr(datasets, kind, None)
    taken = inspect.signature(make).parameters if inspect.isclass(make) else {}
    if make is None or "download" not in taken or not ({"train", "split"} & set(taken)):
        near = difflib.get_close_matches(kind, datasets.__all__, 1)
        raise InputError(
            f"{name}: torchvision has no data set {kind} with train and test parts" + (f"; did you mean {near[0]}?" if near else "")
        )
    parts = ["train", "test"] if part == "all" else [part or "train"]
    if "train" in taken and not set(parts) <= {"train", "test"}:
        raise InputError(f"{name}: {part} is none of train, test, all")
    sets = [_fetched(name, make, {"train": part == "train"} if "train" in taken else {"split": part}, download) for part in parts]
    labels = [_labels(one) for one in sets]
    pictures = [_pictures(one) for one in sets]
    whole: Any = pictures[0] if len(sets) == 1 else _joined(pictures)
    classes = getattr(sets[0], "classes", None)
    known = None if any(label is None for label in labels) else np.concatenate([label for label in labels if label is not None])
    return NamedSet(whole, known, len(classes) if classes else None if known is None else len(np.unique(known)))


def _fetched(name: str, make: Any, part: dict[str, Any], download: bool) -> Any:
    """The part of a torchvision set: from the disk, else downloaded. Its talk goes to stderr; stdout is the caller's."""
    root = data_root()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return make(root=str(root), download=False, **part)
        except (RuntimeError, FileNotFoundError):  # not there yet
            pass
        except ValueError as error:
            raise InputError(f"{name}: {error}") from error
        if not download:
            raise InputError(
                f"{name} is not in {root}, and is downloaded only by a command that names it, such as fit, predict or evaluate --on; "
                "name the folder of its files in COTERIE_DATA, or do that first"
            )
        try:
            root.mkdir(parents=True, exist_ok=True)
            return make(root=str(root), download=True, **part)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{name} is not in {root} and could not be downloaded ({error}); "
                "put torchvision's files there, or name their folder in COTERIE_DATA"
            ) from error


def _pictures(dataset: Any) -> Any:
    """The array of a torchvision set where it has one, else the set."""
    data = getattr(dataset, "data", None)
    if data is None or isinstance(data, list):
        return dataset
    return np.asarray(data)


def _joined(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    from torch.utils.data import ConcatDataset

    return ConcatDataset(parts)


def _labels(dataset: Any) -> np.ndarray | None:
    for attribute in ("targets", "labels", "_labels"):
        if (found := getattr(dataset, attribute, None)) is not None:
            return np.asarray(found, dtype=np.int64)
    return None


def _hugging_face(name: str, rest: str, download: bool) -> NamedSet:
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{name} needs the package datasets: pip install coterie[hf]") from error
    before, _, last = rest.rpartition("/")
    title, split = (before, last) if before and (last in _PARTS or "[" in last) else (rest, "train")
    here = data_root() / title
    try:
        with contextlib.nullcontext() if download else _offline():
            loaded = datasets.load_dataset(str(here) if here.is_dir() else title, split=split)
    except Exception as error:  # the package raises many classes of its own for one cause: the set cannot be had
        raise InputError(f"{name} could not be loaded ({error}); put its files into {here}, or check the name and the network") from error
    label = next((key for key in ("label", "labels", "fine_label") if key in loaded.features), None)
    n_classes = getattr(loaded.features[label], "num_classes", None) if label else None
    return NamedSet(loaded, np.asarray(loaded[label], dtype=np.int64) if label and n_classes else None, n_classes)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Inside, Hugging Face's packages read their caches and never ask the hub: the switches that HF_HUB_OFFLINE=1 sets at their import."""
    switches = [
        (sys.modules[module], switch)
        for module in ("huggingface_hub.constants", "datasets.config")
        for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
        if hasattr(sys.modules.get(module), switch)
    ]
    before = [getattr(module, switch) for module, switch in switches]
    try:
        for module, switch in switches:
            setattr(module, switch, True)
        yield
    finally:
        for (module, switch), value in zip(switches, before):
            setattr(module, switch, value)
