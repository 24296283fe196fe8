"""What a person sees of a fit: the bars while it goes on, and before it begins what was found, what will be done, and how long it takes."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coterie.errors import printable


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A progress display that is closed whatever happens."""
    from coterie.run.progress import choose

    display = choose(quiet)
    try:
        yield display
    finally:
        display.close()


def before(images: Any, plan: Any, devices: Any, cache: Path, budget: float | None = None, asked: bool = False) -> list[str]:
    """The pictures, those set aside, the encoder, the method and its stages, and an estimate of time, memory and disk: some lines.
    Where features are kept an estimate would take hardly less than the fit: none then, unless it is asked for."""
    from coterie.methods import summary
    from coterie.networks import kept
    from coterie.report.wording import count

    apart = f", {count(len(images.problems), 'file')} set aside: {_reasons(images)}" if images.problems else ""
    skipped = "".join(f", {number:,} {kind} passed over" for kind, number in images.skipped.items())
    lines = [f"{count(len(images), 'picture')} in {printable(images.name)}{apart}{skipped}, seen at {images.size[0]} px"]
    lines += [f"encoder: {plan.encoder or plan.config.encoder}"]
    found = {"": f"{plan.config.n_clusters} clusters", "auto": "as many clusters as it finds"}
    kinds = found.get(plan.asked) or f"{plan.asked.replace(':', ' to ')} clusters, as many as it finds"
    lines += [f"method: {plan.method}: {summary(plan.method)}; {kinds}"]
    lines[-1] += f"; {plan.seeds} seeds, and what they agree on" if plan.seeds > 1 else ""
    if not asked and plan.config.pretext == "frozen" and kept.likely(cache, images.name, plan.config.encoder, len(images)):
        return lines
    return [*lines, _estimated(images, plan, devices, cache, budget)]


def _estimated(images: Any, plan: Any, devices: Any, cache: Path, budget: float | None) -> str:
    from coterie.fitting.estimate import estimate
    from coterie.report.wording import duration

    told = estimate(images, plan, devices, cache)
    stages = ", ".join(f"{name} {duration(seconds)}" for name, seconds in told.stages.items() if seconds >= 0.05 * told.seconds)
    ends = f", ended by --time-budget at {duration(budget)}" if budget is not None and budget < told.seconds else ""
    return f"about {duration(told.seconds)}{ends} ({stages}), {told.memory / 1e9:.1f} GB of memory, {told.disk / 1e6:.1f} MB of disk"


def plain(text: str) -> str:
    """With common spaces in the place of the narrow ones that pages have between a number and its unit."""
    return text.replace("\u202f", " ")


MOST_ASIDE = 20  # files told one by one for one reason


def say_aside(problems: Sequence[tuple[str, str]]) -> None:
    """On stderr, the files that were set aside, each with the reason; of many for one reason how many more."""
    times: dict[str, int] = {}
    for path, reason in problems:
        times[reason] = times.get(reason, 0) + 1
        if times[reason] <= MOST_ASIDE:
            print(f"set aside: {printable(path)}: {printable(reason)}", file=sys.stderr)
    for reason, n in times.items():
        if n > MOST_ASIDE:
            print(f"set aside: {n - MOST_ASIDE:,} more: {printable(reason)}", file=sys.stderr)


def _reasons(images: Any) -> str:
    """The most frequent reason, and that there are more."""
    reasons: dict[str, int] = {}
    for _, reason in images.problems:
        reasons[reason] = reasons.get(reason, 0) + 1
    most = max(reasons, key=lambda reason: reasons[reason])
    return printable(most) + (", and others (problems.csv)" if len(reasons) > 1 else " (problems.csv)")
