"""The figure of how many kinds: what was tried, which number was chosen, and one plain sentence."""

import json
import shutil

import pytest

from coterie.errors import InputError
from coterie.report.data import read
from coterie.report.how_many import how_many
from coterie.report.page import page

FOUND = {"asked": "auto", "k": 3, "low": 2, "high": 4, "why": "they are clear", "scores": {"2": 0.2, "10": 0.1, "3": 0.5, "4": 0.4}}


def counted(run, folder, **changes):
    """A copy of a run whose kinds were counted."""
    shutil.copytree(run, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"clusters": FOUND | changes}))
    return folder


def test_what_the_figure_says():
    told = how_many({"clusters": FOUND})
    assert "from 2 to 10 were tried" in told.sentence and "with 3 the" in told.sentence and "could be 2 to 4" in told.sentence
    assert told.chart.epochs == (2, 10) and (told.chart.low, told.chart.high) == ("0.10", "0.50")
    assert [mark.words for mark in told.chart.marks] == ["chosen: 3 kinds"] and told.chart.marks[0].y == 2.0, "at the top"
    assert told.chart.lines[0][1].count("L") == 3


def test_one_kind_and_a_sure_number():
    one = how_many({"clusters": FOUND | {"k": 1, "low": 1, "high": 1}})
    assert "pictures of one kind" in one.sentence and one.chart.marks == []
    assert "No other number comes near" in how_many({"clusters": FOUND | {"low": 3, "high": 3}}).sentence


@pytest.mark.parametrize("config", [{}, {"clusters": {"asked": "auto"}}, {"clusters": FOUND | {"scores": {}}}])
def test_no_figure_where_nothing_was_tried(config):
    assert how_many(config) is None


def test_on_the_page(plain_run, tmp_path):
    text = page(read(counted(plain_run, tmp_path / "run")))
    assert 'id="how-many"' in text and "chosen: 3 kinds" in text and "clusters.scores" not in text
    assert 'id="how-many"' not in page(read(plain_run))


@pytest.mark.parametrize(
    "changes", [{"k": "three"}, {"scores": {"two": 0.1}}, {"scores": {"2": "much"}}, {"scores": {"2": [1]}}, {"scores": 3}]
)
def test_damage_is_named(plain_run, tmp_path, changes):
    with pytest.raises(InputError, match=r"config\.json"):
        page(read(counted(plain_run, tmp_path / "run", **changes)))
