"""The protocols that judge an encoder by what can be learned from its features, by name. Each is a file of this folder with

    @dataclass(frozen=True)
    class Settings: ...                             # what `--set` may change, and the defaults
    def judge(task: Task, settings: Settings) -> None       # leaves its numbers in task.scores

A new one: the file, a line here, a row in docs/evaluation.md.
"""

from importlib import import_module
from typing import Any

from coterie.evaluate.task import Task

TRANSFER = {  # name -> file
    "linear": "linear",
    "retrieval": "retrieval",
    "landmarks": "landmarks",
    "voc-classification": "voc_classification",
    "voc-detection": "voc_detection",
    "voc-segmentation": "voc_segmentation",
}
FIRST = ("accuracy", "mAP", "mean_iou")  # of the metrics, those that people look for first


def transfer(task: Task, settings: dict[str, Any]) -> None:
    """Runs protocols one after the other. settings: of each, by its name."""
    for name, mine in settings.items():
        _file(name).judge(task, mine)


def default_settings(name: str) -> Any:
    """A frozen dataclass."""
    return _file(name).Settings()


def _file(name: str) -> Any:
    return import_module(f"coterie.evaluate.{TRANSFER[name]}")
