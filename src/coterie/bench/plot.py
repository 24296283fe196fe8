"""The plot of a table of fits: ACC of each line, the mean and where its runs lie, a panel a set."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from coterie.bench.page import GROUP, SECTION, Row, grouped
from coterie.bench.sets import title

COLOUR, SOFT = "#3a6fb0", "#68686e"


def draw(rows: list[Row], path: Path, named: Callable[[Row], str]) -> None:
    """Writes the .png. ImportError where matplotlib is not installed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sections = list(grouped(rows, SECTION).values())
    heights = [len(grouped(some, GROUP)) for some in sections]
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT}
    with plt.rc_context(style):
        figure, panels = plt.subplots(
            len(sections), 1, figsize=(6.2, 0.24 * sum(heights) + 0.75 * len(sections)), layout="constrained", sharex=True, squeeze=False,
            height_ratios=heights,
        )  # fmt: skip
        for panel, some in zip(panels[:, 0], sections):
            lines = list(grouped(some, GROUP).values())[::-1]
            for y, runs in enumerate(lines):
                accs = [float(row["acc"]) for row in runs]
                panel.plot([min(accs), max(accs)], [y, y], color=COLOUR, linewidth=1.5)
                panel.plot(fmean(accs), y, "o", color=COLOUR)
            panel.set_yticks(range(len(lines)), [named(runs[0]).replace("`", "") for runs in lines])
            panel.set(xlim=(0, 1), ylim=(-0.6, len(lines) - 0.4))
            panel.grid(axis="x", color="#e4e4e8")
            panel.set_title(f"{title(some[0]['set'])}, preset {some[0]['preset']}", loc="left", fontsize=9.5)
        figure.supxlabel("ACC: the mean, and from the worst run to the best", fontsize=9)  # of the figure: long names leave panels narrow
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)
