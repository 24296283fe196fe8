"""Every measurement in the README and in docs/ is a row of benchmarks/results, or the mean, median or deviation of rows that are repeats.

A measurement is a number with three decimals, one with two in a section called Numbers, and any with a unit of `UNITS`; but not in `code`,
in what tells of a paper ("(paper: 0.736)", the sections Differences and Settings), or in `GIVEN`. It must stand in a csv that its paragraph
names, or the last one before it in the section, rounded as the page has it; in a table under a head of `HEADS`, in those columns. That sees
most wrong numbers, not all: the tables that matter most are made again in test_docs_tables.py.
"""

import csv
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

HOME = Path(__file__).parents[1]
RESULTS = HOME / "benchmarks" / "results"
PAGES = [HOME / "README.md", HOME / "benchmarks" / "README.md", *sorted((HOME / "docs").rglob("*.md"))]
REPEATS = {
    "date",
    "device",
    "cores",
    "python",
    "torch",
    "coterie",
    "commit",
    "stages",
    "returned",
    "seed",
    "draw",
    "pair",
    "load",
}  # columns in which repeats may differ
SETTINGS = {"images", "threads", "k", "n", "d", "size", "batch", "epoch", "pseudo_clusters", "rows", "dimensions", "epochs", "classes"}
UNITS = {  # what follows numbers -> the columns they may stand in, and the column's unit in that unit
    "s": ("seconds|best|median", 1), "seconds": ("seconds|best|median", 1), "minutes": ("seconds", 60), "MB": ("peak_mb", 1),
    "times": ("ratio", 1), "images a second": ("images_per_second|ours", 1),
}  # fmt: skip
HEADS = {  # words in the head of a table's column -> the columns
    "images a second": "images_per_second|ours", "NMI(t": "nmi_first|nmi_last", "NMI": "^nmi$", "ARI": "^ari$", "kNN": "^knn_acc$",
    "second": "seconds", ", s": "seconds", "on pixels": "^baseline_acc$", "oracle": "oracle$|^clustering_acc$|^train_acc$",
    "features": "^(features_kmeans_)?acc$", "ACC": "^acc$", "worst": "^acc$", "ratio": "^ratio$",
}  # fmt: skip
ROWS = {  # how a row begins, where its head says nothing or ACC -> the columns
    "`kmeans`": "^baseline_acc$", "k-means on pixels": "^baseline_acc$", "k-means on": "^(features_kmeans_)?acc$",
    "weighted kNN": "^knn_acc$", "ACC": "^acc$", "NMI(t": "nmi_first|nmi_last", "time": "^ratio$", "inertia": "^quality, ratio$",
}  # fmt: skip
WHOLE = ("seconds", "images_per_second|ours")  # columns of a page in which every number counts
OTHERS = ("Differences", "Settings")  # sections of what papers, their code and ours set
GIVEN = {  # what was not measured
    "README.md": ["brings a pretrained encoder for photographs as a package (17 MB)"],
    "docs/pictures.md": ["at most 32 MB of whole files"],
    "docs/methods/turtle.md": ["2.5 times the root of N / K", "1.6 times as many for every second head"],
}


class Claim(NamedTuple):
    written: str
    columns: str  # a pattern
    unit: float
    names: tuple[str, ...]  # the csvs that it may stand in


NUMBER = r"(?<![\w.,^-])\d[\d,]*(?:\.\d+)?(?![\w^]|[.,]\d)"
WITH_UNIT = re.compile(rf"({NUMBER}(?:(?:,| to| and| or)+ {NUMBER})*) ({'|'.join(sorted(UNITS, key=len, reverse=True))})\b")


def claims(text: str) -> Iterator[Claim]:
    """What a page says was measured."""
    for section in re.split(r"^(?=#{1,2} )", re.sub(r"^    .*", "", text, flags=re.M), flags=re.M):
        title = section.partition("\n")[0].strip("# ")
        decimals = r"\d\.\d{2,}" if title == "Numbers" else r"\d\.\d{3,}"
        names: tuple[str, ...] = ()
        for paragraph in [] if title in OTHERS else re.split(r"\n\s*\n|\n(?=- |#)", section):
            names = tuple(re.findall(r"[\w/-]+\.csv", paragraph.replace("benchmarks/results/", ""))) or names
            lines = paragraph.split("\n")
            table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
            for line in table:
                for head, cell in zip(table[0], line, strict=True):
                    columns = next((columns for word, columns in HEADS.items() if word in head), "")
                    if columns in ("", "^acc$"):
                        columns = next((columns for word, columns in ROWS.items() if line[0].startswith(word)), columns)
                    some = r"\d[\d,]*(?:\.\d+)?" if columns in WHOLE and line is not table[0] else decimals
                    yield from numbers(cell, some, columns, names)
            yield from numbers(" ".join(line for line in lines if not line.startswith("|")), decimals, "", names)


def numbers(text: str, decimals: str, columns: str, names: tuple[str, ...]) -> Iterator[Claim]:
    """Those of a paragraph or a cell."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|\(paper: [^)]*\)|https?://\S+", " . ", text)
    for some in WITH_UNIT.finditer(text):
        for written in re.findall(NUMBER, some[1]):
            yield Claim(written, *UNITS[some[2]], names)
    text = WITH_UNIT.sub(" . ", text)
    for deviation in (True, False):
        for written in re.findall(rf"± ({decimals})" if deviation else rf"(?<![\w.,^-])(?<!± ){decimals}(?![\w^]|[.,]\d)", text):
            yield Claim(written, "deviation" if deviation else columns or "^(?!.*seconds)", 1, names)


@cache
def measured(name: str) -> dict[str, list[float]]:
    """column -> what stands in it, and the means and medians of repeats; "deviation" -> their deviations."""
    with (RESULTS / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [column for column in rows[0] if column not in REPEATS | SETTINGS and all(is_number(row[column]) for row in rows)]
    repeats: dict[tuple, list[dict[str, str]]] = {}
    for row in rows:
        repeats.setdefault(tuple(value for column, value in row.items() if column not in {*REPEATS, *columns}), []).append(row)
    found: dict[str, list[float]] = {"deviation": []}
    for other in columns:  # what another program had on the same rows
        if (column := other.removesuffix("_faiss")) != other and column != "seconds":
            found[f"{column}, ratio"] = [float(row[column]) / float(row[other]) for row in rows if float(row[other] or 0)]
    for column in columns:
        for some in repeats.values():
            values = [float(row[column]) for row in some if row[column]]
            found.setdefault(column, []).extend([*values, *([statistics.fmean(values), statistics.median(values)] if values else [])])
            found["deviation"] += [statistics.stdev(values)] if values[2:] else []
    return found


def is_number(text: str) -> bool:
    return re.fullmatch(r"(-?\d+(\.\d+)?(e[-+]?\d+)?)?", text) is not None


def stands(claim: Claim) -> bool:
    written = claim.written.replace(",", "")
    half = 0.5 * 10 ** -len(written.partition(".")[2]) + 1e-9
    return any(
        abs(value / claim.unit - float(written)) <= half
        for name in claim.names
        for column, values in measured(name).items()
        if re.search(claim.columns, column) and (column == "deviation") == (claim.columns == "deviation")
        for value in values
    )


def lost(page: str, text: str) -> list[str]:
    """What the page says, and no row of the csvs that it names does."""
    for given in GIVEN.get(page, []):
        assert given in text, f"{page} no longer says {given}"
        text = text.replace(given, "")
    return [f"{claim.written} ({', '.join(claim.names) or 'no csv is named'})" for claim in claims(text) if not stands(claim)]


@pytest.mark.parametrize("page", [str(page.relative_to(HOME)) for page in PAGES])
def test_every_measurement_of_a_page_is_a_row(page):
    assert lost(page, (HOME / page).read_text()) == []


@pytest.mark.parametrize(
    ("page", "right", "wrong"),
    [
        ("README.md", "(0.686, 0.682, 0.649)", "(0.686, 0.682, 0.694)"),
        ("README.md", "| 66 to 108 |", "| 66 to 180 |"),
        ("README.md", "177 s, 0.27 of its time", "117 s, 0.27 of its time"),
        ("README.md", "13 to 17 times", "13 to 27 times"),
        ("docs/methods/scan.md", "0.969 ± 0.011", "0.969 ± 0.021"),
        ("docs/methods/kmeans.md", "| 0.16 to 0.22 |", "| 0.06 to 0.22 |"),
        ("docs/methods/pcp.md", "(`headline.csv`, `stages.csv`)", ""),
    ],
)
def test_a_wrong_number_is_seen(page, right, wrong):
    text = (HOME / page).read_text()
    assert right in text
    assert lost(page, text.replace(right, wrong))
