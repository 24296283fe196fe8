"""Figures of the docs, drawn from the tables in benchmarks/results."""

import csv
import io
from pathlib import Path

from PIL import Image

from benchmarks.record import RESULTS

DOCS = Path(__file__).parent.parent / "docs" / "methods"
COLOURS, SOFT = ("#3a6fb0", "#c2571a", "#2f8f5b"), "#68686e"
LEAST_SPAN = 0.1  # of accuracy: one point more or less must not fill the figure
Curves = dict[str, list[tuple[float, float]]]  # name -> (x, y) in order of x


def rows_of(table: str) -> list[dict[str, str]]:
    with (RESULTS / f"{table}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def curves(name: str, title: str, across: str, up: str, lines: Curves, logarithmic: bool = True) -> None:
    """Draws docs/methods/<name>.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT}
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for (label, points), colour in zip(lines.items(), COLOURS):
        axes.plot(*zip(*points), "o-", color=colour, label=label)
    axes.set(xscale="log" if logarithmic else "linear", xlabel=across, ylabel=up)
    low, high = axes.get_ylim()
    spare = max(0.0, LEAST_SPAN - (high - low)) / 2
    axes.set_ylim(low - spare, high + spare)
    axes.set_title(title, loc="left", fontsize=9.5)
    figure.legend(loc="outside lower left", ncols=len(lines), frameon=False)
    drawn, path = io.BytesIO(), DOCS / f"{name}.png"
    figure.savefig(drawn, dpi=110)
    Image.open(drawn).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")
