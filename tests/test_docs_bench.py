"""The pages of docs/benchmarks are those of the rows in benchmarks/results, letter by letter."""

from pathlib import Path

import pytest

from coterie.bench import TABLES, table
from coterie.bench.rows import Rows

HOME = Path(__file__).parents[1]
RESULTS, PAGES = HOME / "benchmarks" / "results", HOME / "docs" / "benchmarks"
MADE = [name for name in TABLES if (RESULTS / f"{name}.csv").exists()]


@pytest.mark.parametrize("name", MADE)
def test_the_page_is_that_of_its_rows(name):
    rows, pairs = (Rows(RESULTS / f"{name}{end}.csv").all for end in ("", "_pairs"))
    assert (PAGES / f"{name}.md").read_text(encoding="utf-8") == table(name).text(rows, pairs)
    assert (PAGES / f"{name}.png").exists() == (table(name).draw is not None)


def test_no_page_is_without_rows():
    assert {page.stem for page in PAGES.glob("*.md")} - {"README"} == set(MADE)
    readme = (PAGES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}.md]({name}.md)" in readme for name in MADE)
