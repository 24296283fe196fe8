"""A table that is a list of fits, put together: its rows, its pairs of lines, its page, its plot."""

from collections.abc import Callable, Iterator
from functools import partial

from coterie.bench import Asked, Table, fits, page, pairs, plot
from coterie.bench.fits import Fit


def listed(name: str, heading: str, about: str, runs: Callable[[Asked], Iterator[Fit]], named: Callable[[page.Row], str]) -> Table:
    """`runs` yields the fits, `named` says what a line is called, `about` stands under the heading of the page."""
    return Table(
        name, heading,
        fill=partial(fits.fill, fits=runs),
        text=partial(page.text, heading=heading, about=about, named=named, csv=f"{name}.csv"),
        draw=partial(plot.draw, named=named),
        compare=partial(pairs.compare, fits=runs),
    )  # fmt: skip
