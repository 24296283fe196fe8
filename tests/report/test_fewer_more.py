"""The section on fewer or more kinds: in words, in order, and only where there is something to say."""

import json
import shutil

import pytest

from coterie.errors import InputError
from coterie.report import page
from coterie.report.fewer_more import MOST, fewer_more
from coterie.report.page import read

MERGES = [{"a": 1, "b": 3, "overlap": 0.41, "alike": 0.8}, {"a": 0, "b": 1, "overlap": 0.05, "alike": 0.2}]
MERGES += [{"a": 0, "b": 2, "overlap": 0.0, "alike": -1.0}]
SPLITS = [{"cluster": 2, "sizes": [30, 1200], "apart": 0.62, "gain": 0.1}, {"cluster": 0, "sizes": [4, 1], "apart": 0.1, "gain": 0.02}]


def test_in_words():
    found = fewer_more({"merges": MERGES, "splits": SPLITS}, 4)
    assert [(one.left, one.clusters) for one in found.fewer] == [(3, [1, 3]), (2, [0, 1, 3]), (1, [0, 1, 2, 3])]
    assert "one kind" in found.fewer[0].why and "few" in found.fewer[1].why and "do not touch" in found.fewer[2].why
    assert found.fewer[0].overlap.startswith("41")
    assert [(one.cluster, one.sizes) for one in found.more] == [(2, "30 and 1,200 pictures"), (0, "4 and 1 pictures")]
    assert found.more[0].why == "two clear groups" and "hardly" in found.more[1].why


def test_only_where_there_is_something_to_say():
    assert fewer_more(None, 4) is None and fewer_more({"merges": [], "splits": []}, 1) is None
    many = [{"a": 0, "b": i, "overlap": 1.2, "alike": 0.0} for i in range(1, 9)]
    found = fewer_more({"merges": many, "splits": []}, 9)
    assert len(found.fewer) == MOST and found.more == [] and found.fewer[0].overlap.startswith("100")


def test_on_the_page(plain_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(plain_run, run)
    assert 'id="otherwise"' not in page.page(read(run)), "a run of before"
    k = len(read(run).clusters)
    merges = [{"a": 0, "b": i, "overlap": 0.3, "alike": 0.0} for i in range(1, k)]
    (run / "hierarchy.json").write_text(json.dumps({"merges": merges, "splits": SPLITS[1:]}))
    text = page.page(read(run))
    assert 'id="otherwise"' in text and 'href="#otherwise"' in text and "coterie recut RUN --clusters NUMBER -o RUN2" in text
    assert f"<b>{k - 1} kinds</b>" in text and "into 4 and 1 pictures" in text
    (run / "hierarchy.json").write_text(json.dumps({"merges": merges[1:], "splits": []}))
    with pytest.raises(InputError, match="hierarchy.json is damaged"):
        read(run)
