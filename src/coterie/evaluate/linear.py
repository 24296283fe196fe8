"""A linear classifier on the frozen features of each block."""

from dataclasses import dataclass

from coterie.evaluate.task import Task


@dataclass(frozen=True)
class Settings:
    solver: str = "lbfgs"


def judge(task: Task, settings: Settings) -> None:
    raise NotImplementedError
