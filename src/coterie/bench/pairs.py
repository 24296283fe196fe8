"""Lines of a table of fits against its best one: the paired bootstrap over images and seeds, a row a pair of lines, from the folders of
their fits. A pair whose folders are gone, or that share no seed, has no row."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from coterie import fitting
from coterie.bench import Asked
from coterie.bench.fits import KEY, Fit, folder_of
from coterie.bench.page import GROUP, SECTION, Row, grouped
from coterie.bench.rows import Rows
from coterie.bench.sets import prepared
from coterie.evaluate.labels import labels_of
from coterie.evaluate.metrics import right
from coterie.evaluate.paired import paired
from coterie.run.files import probabilities, read_assignments, read_config


def compare(asked: Asked, rows: Rows, pairs: Rows, fits: Callable[[Asked], Iterator[Fit]]) -> None:
    """Makes the rows of `pairs` that are not there, of the fits that were asked for."""
    there = {tuple(str(value) for value in one.key(asked).values()): one for one in fits(asked)}
    made = [row for row in rows.all if _key(row) in there]
    for some in grouped(made, SECTION).values():
        lines = list(grouped(some, GROUP).values())
        best = max(lines, key=lambda line: fmean(float(row["acc"]) for row in line))
        for line in lines:
            if line is not best:
                _pair(best, line, there, asked, pairs)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def _pair(best: list[Row], line: list[Row], fits: dict[tuple[str, ...], Fit], asked: Asked, pairs: Rows) -> None:
    of_best, of_line = ({row["seed"]: folder_of(fits[_key(row)], asked) for row in some} for some in (best, line))
    seeds = [seed for seed in sorted(of_best, key=int) if seed in of_line and all(map(fitting.is_finished, (of_best[seed], of_line[seed])))]
    key: dict[str, Any] = {name: best[0][name] for name in SECTION} | {f"best_{name}": best[0][name] for name in GROUP}
    key |= {name: line[0][name] for name in GROUP} | {"seeds": " ".join(seeds)}
    if not seeds or pairs.has(key):
        return
    labels = prepared(best[0]["set"], asked.data, asked.keep / "sets").labels
    one_SN, other_SN = (np.stack([_right(folders[seed], labels) for seed in seeds]) for folders in (of_best, of_line))
    pairs.append(key | {name: round(value, 4) for name, value in paired(one_SN, other_SN).items()})


def _right(run: Path, labels: Path) -> np.ndarray:
    table = read_assignments(run)
    truth = labels_of(read_config(run)["source"], table["path"].to_pylist(), str(labels))
    return right(truth.values, probabilities(table).argmax(1))
