"""Methods that other packages bring: each an entry point of the group `coterie.methods`, whose name is the method's.

It names a module, or an object in one, with what a method of ours has: `Config`, a frozen dataclass on PretextConfig, and
`fit(images, config, run) -> Fitted`; and perhaps PRESETS, {name: settings}. Nothing of a package is imported before somebody asks for its
method. docs/adding-a-method.md builds one.
"""

import dataclasses
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from coterie.errors import InputError

GROUP = "coterie.methods"


def points(name: str = "") -> dict[str, list[EntryPoint]]:
    """What installed packages offer by the method's name, or for this one alone; what is there twice, but the same, once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        same = found.setdefault(point.name, [])
        if point.value not in [one.value for one in same]:
            same.append(point)
    return {known: some for known, some in found.items() if name in ("", known)}


def summary(some: list[EntryPoint]) -> str:
    """Who brings a method, without importing it."""
    told = []
    for point in some:
        metadata = point.dist.metadata if point.dist else None
        what = f": {metadata['Summary']}" if metadata and metadata["Summary"] else ""
        told.append(f"of the package {package(point)}{what}")
    return "; ".join(told)


def package(point: EntryPoint) -> str:
    """The name and version of who brings it."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def load(name: str) -> Any:
    """What has the `Config` and the `fit` of the method. InputError, with the package's name, where it has none or cannot be loaded."""
    some = points(name).get(name, [])
    if len(some) != 1:
        raise InputError(f"the method {name} is brought by several packages ({', '.join(map(package, some))}); uninstall all but one")
    return _loaded(some[0])


@cache
def _loaded(point: EntryPoint) -> Any:
    from coterie.methods.pretext import PretextConfig

    what = f"the method {point.name} of the package {package(point)}"
    try:
        found = point.load()
    except Exception as error:  # whatever the package's own code raises while it is imported
        raise InputError(f"{what} could not be loaded ({type(error).__name__}: {error}); mend or uninstall it") from error
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, PretextConfig) and dataclasses.is_dataclass(config)):
        raise InputError(f"{what} has no Config, a frozen dataclass on coterie.methods.pretext.PretextConfig")
    if not callable(getattr(found, "fit", None)):
        raise InputError(f"{what} has no fit(images, config, run)")
    presets = getattr(found, "PRESETS", {})
    if not (isinstance(presets, dict) and all(isinstance(settings, dict) for settings in presets.values())):
        raise InputError(f"{what}: its PRESETS are no dict of settings by name")
    return found
