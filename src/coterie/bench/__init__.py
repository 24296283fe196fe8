"""Tables of the docs by name: what `coterie bench TABLE` runs, writes down and shows.

A table is a module with `TABLE`: what fills its rows, and what makes a page of them. Most are lists of fits (`fits.fill`); one that
measures something else has a `fill` of its own, which asks `rows.has(key)` and calls `rows.append(row)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coterie.errors import InputError

if TYPE_CHECKING:
    from coterie.bench.rows import Rows

ABLATIONS = (
    "scan-ablation", "scan-pretext", "scan-neighbours", "scan-overcluster", "spice-main", "spice-ablation",
    "spice-augment", "spice-heads", "spice-reliable",
    "pcp-components", "pcp-filter", "pcp-clusters", "deepcluster-clusters",
)  # fmt: skip
TABLES = {  # each with its `TABLE`, or several by name in `TABLES`
    "overview": "coterie.bench.overview",
    "last-step": "coterie.bench.last_step",
    "speed": "coterie.bench.speed",
    **dict.fromkeys(ABLATIONS, "coterie.bench.ablations"),
}
SEEDS_FROM = 100  # settings were chosen on smaller seeds
OWN = "own"  # the preset of each set


@dataclass(frozen=True)
class Asked:
    """What was asked of a table: `output` holds its csv, `page` its page and plot, `keep` its run folders; `budget` in seconds a fit."""

    output: Path
    page: Path
    keep: Path
    seeds: range = range(SEEDS_FROM, SEEDS_FROM + 1)
    budget: float | None = None
    preset: str = OWN
    methods: tuple[str, ...] = ()  # none: the table's own
    sets: tuple[str, ...] = ()
    data: Path | None = None  # folder of the .npz files; none: $COTERIE_BENCH_DATA
    cache: Path | None = None
    devices: Any = None  # a run.devices.Devices
    say: Callable[[str], None] = field(default=print)


@dataclass(frozen=True)
class Table:
    """`fill` makes the rows that are not there, `compare` those of pairs of lines; `text` is the page of both, with no place of
    a file in it; `draw` its plot."""

    name: str
    title: str
    fill: Callable[[Asked, "Rows"], None]
    text: Callable[[list[dict[str, str]], list[dict[str, str]]], str]
    draw: Callable[[list[dict[str, str]], Path], None] | None = None
    compare: Callable[[Asked, "Rows", "Rows"], None] | None = None


def table(name: str) -> Table:
    """The table of that name. Raises InputError for a name that is none."""
    if name not in TABLES:
        raise InputError(f"no table is called {name!r}; there are {', '.join(TABLES)}")
    module = import_module(TABLES[name])
    found: Table = module.TABLES[name] if name in ABLATIONS else module.TABLE
    return found


def make(name: str, asked: Asked) -> dict[str, Any]:
    """Fills the table, and writes its page: {"table", "rows" (how many there are), "new" (of them made now), "csv", "page"}."""
    from coterie.bench import place
    from coterie.bench.rows import Rows
    from coterie.run import checkpoint, disk

    one = table(name)
    for folder in (asked.output, asked.page, asked.keep):
        disk.make_folder(folder)
    place.commit()  # before anything changes on the disk
    with checkpoint.locked(asked.keep):
        rows = Rows(asked.output / f"{name}.csv")
        before = len(rows.all)
        one.fill(asked, rows)
        if not rows.all:
            raise InputError(f"{name} has no row: {', '.join(asked.sets) or 'none of its sets'} could be had")
        pairs = Rows(asked.output / f"{name}_pairs.csv")
        if one.compare:
            one.compare(asked, rows, pairs)
        disk.write(asked.page / f"{name}.md", one.text(rows.all, pairs.all).encode())
        try:
            if one.draw:
                one.draw(rows.all, asked.page / f"{name}.png")
        except ImportError:
            asked.say("no plot, which needs matplotlib: pip install matplotlib, and the same command draws it")
    told = {"table": name, "rows": len(rows.all), "new": len(rows.all) - before}
    return told | {"csv": str(rows.path), "page": str(asked.page / f"{name}.md")}
