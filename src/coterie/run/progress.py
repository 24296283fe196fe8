"""What a person sees while a run goes on: a bar a stage on a terminal, lines in a notebook or a pipe, nothing when quiet."""

import sys
import time
from typing import Any

MINUTE = 60  # seconds between two lines of a stage that goes on
OFTEN = 0.2  # seconds between two states of a line that is written over


class Silent:
    """Shows nothing: Python callers who did not ask, `--json`, all ranks but the first."""

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


class Notebook(Silent):
    """In a notebook: a line for each stage below the cell, the last one written over while it goes on."""

    def __init__(self) -> None:
        from IPython.display import display

        self._display = display
        self._handle: Any = None
        self._begun: dict[str, float] = {}
        self._lines: dict[str, str] = {}
        self._shown = -OFTEN

    def message(self, text: str) -> None:
        self._show(text, text)

    def advance(self, stage: str, done: float, total: float, detail: str = "") -> None:
        now = time.monotonic()
        begun = self._begun.setdefault(stage, now)
        if done >= total:
            self._show(stage, f"{stage}: done, {_time(now - begun)}")
        elif now - self._shown >= OFTEN:
            self._shown = now
            self._show(stage, f"{stage}: {int(done):,} of {total:,}{'  ' if detail else ''}{detail}")

    def _show(self, key: str, line: str) -> None:
        self._lines[key] = line
        told = {"text/plain": "\n".join(self._lines.values())}
        if self._handle is None:
            self._handle = self._display(told, raw=True, display_id=True)
        else:
            self._handle.update(told, raw=True)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def choose(quiet: bool = False) -> Silent:
    """Bars on a terminal, lines in a notebook, messages on a pipe, nothing when quiet."""
    if quiet:
        return Silent()
    if in_notebook():
        return Notebook()
    return Terminal() if sys.stderr.isatty() else Plain()


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel. Loads nothing: a kernel has loaded IPython itself."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
