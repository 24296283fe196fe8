"""The page of a table of fits, made of its rows alone: mean, deviation, worst, what papers report, scores without labels beside ACC."""

import json
from collections.abc import Callable
from statistics import fmean, stdev

from scipy.stats import spearmanr

from coterie.bench import OWN
from coterie.bench.fits import BLIND
from coterie.bench.published import paper
from coterie.bench.sets import known, title
from coterie.errors import InputError
from coterie.report.wording import count

LEAST = 3  # runs, from which a deviation is told
RANKED = 5  # rows of a set, from which a rank correlation is told
GROUP = ("method", "features", "options")  # what one line of a page is; its rows differ by the seed
SECTION = ("set", "preset", "schedule", "budget", "protocol")
Row = dict[str, str]
OVER = "many-to-one"  # a column of sections where a line has more clusters than there are kinds
COLUMNS = ("", "runs", "ACC", "worst", "NMI", "ARI", "oracle", "k-means on its features", "k-means returned", "seconds", "")


def grouped(rows: list[Row], columns: tuple[str, ...]) -> dict[tuple[str, ...], list[Row]]:
    """The rows by what they have in these columns, in the order in which they come first."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in columns), []).append(row)
    return found


def text(rows: list[Row], pairs: list[Row], heading: str, about: str, named: Callable[[Row], str], csv: str) -> str:
    """The page. pairs: rows of lines against the best one; about: what was run, in a paragraph; named: what a line is called; csv: the file
    that the rows are in.

    Raises InputError where the rows have other columns than those of a table of fits.
    """
    if missing := {*GROUP, *SECTION, *BLIND, "acc", "seed", "commit", "seconds", "device"} - set(rows[0]):
        raise InputError(f"{csv} has no column {', '.join(sorted(missing))}; move it away")
    parts = [
        f"# {heading}\n",
        about,
        LEGEND,
        f"![ACC of each line]({csv.replace('.csv', '.png')})\n",
        *(_section(some, pairs, named, csv) for some in grouped(rows, SECTION).values()),
    ]
    ranks = _ranks(rows)
    return "\n".join([*parts, *([ranks] if ranks else [])])


LEGEND = f"""
ACC, NMI and ARI by the true labels, which no fit saw; mean ± deviation over seeds, each with a training of its own.
Below {LEAST} runs no deviation is told, and a `single` run is called so.
*oracle*: the best epoch and head by the labels, which nobody can choose without them.
*k-means returned*: runs in which the label-free score preferred k-means on the same features, and it was returned in the method's place.
Papers' numbers are landmarks: larger networks, all pictures, hundreds of times the computing.
"""


def _section(rows: list[Row], pairs: list[Row], named: Callable[[Row], str], csv: str) -> str:
    first = rows[0]
    how = "the set's own preset" if first["preset"] == OWN else f"preset `{first['preset']}`"
    how += ", its schedule for a GPU" if first["schedule"] == "gpu" else ""
    how += f", at most {float(first['budget']):g} s a fit" if first["budget"] else ""
    kinds = known(first["set"])[0].n_classes
    over = any(int(row["clusters"]) > kinds for row in rows)
    columns = [*COLUMNS[:6], *([OVER] if over else []), *COLUMNS[6:]]
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(_line(some, named, over) for some in grouped(rows, GROUP).values()),
    ]
    seeds = sorted({int(row["seed"]) for row in rows})
    places = "; ".join(
        f"{device}, {count(int(cores), 'core')}, {precision}, {count(int(threads), 'thread')}"
        for device, cores, precision, threads in grouped(rows, ("device", "cores", "precision", "threads"))
    )
    versions = "; ".join(f"coterie {ours}, torch {torch}" for ours, torch in grouped(rows, ("coterie", "torch")))
    told = f"Rows: `{csv}`. {count(int(first['images']), 'picture')}, {kinds} kinds; {how}; "
    told += f"fitted and scored on the same pictures ({first['protocol']}). Seeds {', '.join(map(str, seeds))}. {places}; {versions}."
    return "\n".join([f"## {title(first['set'])}, {how}\n", told, "", *lines, "", *_behind(rows, pairs, named, csv)])


def _behind(rows: list[Row], pairs: list[Row], named: Callable[[Row], str], csv: str) -> list[str]:
    """How far the lines are behind the best one, by its newest pairs: those of the most seeds."""
    mine = [pair for pair in pairs if all(pair[name] == rows[0][name] for name in SECTION)]
    most = max((len(pair["seeds"].split()) for pair in mine), default=0)
    mine = [pair for pair in mine if len(pair["seeds"].split()) == most]
    if not mine:
        return []
    best = {name: mine[-1][f"best_{name}"] for name in GROUP}
    mine = [pair for pair in mine if all(pair[f"best_{name}"] == best[name] for name in GROUP)]
    told = (
        f"Behind {named(rows[0] | best)}, in ACC, and where 95 of 100 draws lie of as many of these pictures and seeds, the same for both"
    )
    head = [f"{told} (`{csv.replace('.csv', '_pairs.csv')}`):", "", "| | behind | from | to |", "|---|---|---|---|"]
    lines = [
        f"| {named(rows[0] | pair)} | {' | '.join(f'{float(pair[name]):.3f}' for name in ('difference', 'low', 'high'))} |" for pair in mine
    ]
    return [*head, *lines, ""]


def _line(rows: list[Row], named: Callable[[Row], str], over: bool) -> str:
    first, runs = rows[0], str(len(rows)) if len(rows) > 1 else "1, single"
    replaced = sum(row["returned"] != row["method"] for row in rows)
    accs = _numbers(rows, "acc")
    acc = f"{fmean(accs):.3f}" + (f" ± {stdev(accs):.3f}" if len(accs) >= LEAST else "")
    cells = [named(first), runs, acc, f"{min(accs):.3f}", *(f"{fmean(_numbers(rows, name)):.3f}" for name in ("nmi", "ari"))]
    cells += [f"{fmean(_numbers(rows, 'many_to_one')):.3f}"] if over else []
    oracle = _numbers(rows, "oracle")
    cells += [f"{fmean(oracle):.3f}" if oracle else "", f"{fmean(_numbers(rows, 'features_kmeans_acc')):.3f}"]
    cells += [f"{replaced} of {len(rows)}" if replaced else "", f"{fmean(_numbers(rows, 'seconds')):.0f}"]
    return f"| {' | '.join([*cells, paper(first['method'], first['set']) if not first['features'] else ''])} |"


def _numbers(rows: list[Row], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def options(row: Row) -> str:
    """`final=heads, whiten=true`."""
    return ", ".join(
        f"{name}={json.dumps(value) if not isinstance(value, str) else value}" for name, value in json.loads(row["options"]).items()
    )


def correlations(rows: list[Row]) -> dict[str, float]:
    """Spearman's rank correlation of each label-free score with ACC over these rows, of those that are there and vary."""
    found = {}
    for name in BLIND:
        pairs = [(float(row[name]), float(row["acc"])) for row in rows if row[name]]
        if len(pairs) >= RANKED and all(len(set(values)) > 1 for values in zip(*pairs)):
            found[name] = float(spearmanr(*zip(*pairs)).statistic)
    return found


def _ranks(rows: list[Row]) -> str:
    """The section on what scores without labels tell of ACC."""
    lines = []
    for (name, *_), some in grouped(rows, SECTION).items():
        if told := correlations(some):
            cells = [f"{told[score]:.2f}" if score in told else "" for score in BLIND]
            lines.append(f"| {title(name)}, preset {some[0]['preset']} | {len(some)} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = f"| | rows | {' | '.join(BLIND)} |\n|---|---|{'---|' * len(BLIND)}"
    about = "Spearman's rank correlation of what the verdict sees, without labels, with ACC, over all rows of a set."
    return "\n".join(["## Scores without labels\n", about, "", head, *lines, ""])
