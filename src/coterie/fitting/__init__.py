"""From a source to a run folder: settings resolved, pictures opened, a method run, results written. What every door calls.

The names are imported when they are first used, so that `coterie presets` starts without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coterie.fitting.new_pictures import novelty
    from coterie.fitting.planning import Plan, config_of, describe, plan, schedule_of
    from coterie.fitting.running import fit, is_finished, predict, show, summary

__all__ = ["Plan", "config_of", "describe", "fit", "is_finished", "novelty", "plan", "predict", "schedule_of", "show", "summary"]

_ROOMS = dict.fromkeys(("Plan", "config_of", "describe", "plan", "schedule_of"), "planning") | {"novelty": "new_pictures"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS.get(name, 'running')}"), name)
