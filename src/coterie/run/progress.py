"""What a person sees while a run goes on: a line a stage on a terminal, nothing elsewhere."""

import sys
import time
from typing import Any

MINUTE = 60  # seconds between two lines of a stage that goes on


class Silent:
    """Shows nothing: pipes, notebooks without a terminal, Python callers, all ranks but the first."""

    def message(self, text: str) -> None: ...
    def advance(self, stage: str, done: float, total: float, detail: str = "") -> None: ...
    def close(self) -> None: ...


class Plain(Silent):
    """For a pipe or a log file, on stderr: messages, a line when a stage is done, and one a minute while it goes on."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._said = time.monotonic()

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def advance(self, stage: str, done: float, total: float, detail: str = "") -> None:
        now = time.monotonic()
        begun = self._begun.setdefault(stage, now)
        if done >= total:
            self.message(f"{stage}: done, {_time(now - begun)}")
        elif now - self._said >= MINUTE:
            self.message(f"{stage}: {int(done):,} of {total:,}{'  ' if detail else ''}{detail}")
        else:
            return
        self._said = now


class Terminal(Silent):
    """One live bar for the stage under way: epoch, images/s, time left, health."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, markup=False, highlight=False)
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        self._bars = Progress(*columns, console=self._console)
        self._bars.start()
        self._tasks: dict[str, Any] = {}
        self._shown = 0.0

    def message(self, text: str) -> None:
        self._console.print(text)

    def advance(self, stage: str, done: float, total: float, detail: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, count="", detail="")
        now = time.monotonic()
        if not detail and done < total and now - self._shown < 0.1:
            return
        self._shown = now
        self._bars.update(self._tasks[stage], completed=done, count=f"{int(done):>5,}/{total:,}")
        if detail:
            self._bars.update(self._tasks[stage], detail=detail)

    def close(self) -> None:
        self._bars.stop()


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def choose(quiet: bool = False) -> Silent:
    """Bars on a terminal, messages on a pipe, nothing when quiet."""
    if quiet:
        return Silent()
    return Terminal() if sys.stderr.isatty() else Plain()
