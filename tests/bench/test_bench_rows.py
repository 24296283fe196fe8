"""The csv of a table: it grows by a row a run, survives a kill in the middle of a line, and refuses rows of another shape."""

import pytest

from coterie.bench.rows import Rows
from coterie.errors import InputError

ROW = {"method": "scan", "options": '{"a": 1, "b": "x,y"}', "seed": 100, "acc": 0.5}


def test_what_was_appended_is_found_again(tmp_path):
    rows = Rows(tmp_path / "t.csv")
    assert rows.all == [] and not rows.has({"seed": 100})
    rows.append(ROW)
    rows.append(ROW | {"seed": 101})
    again = Rows(tmp_path / "t.csv")
    assert again.all == rows.all == [{name: str(value) for name, value in (ROW | {"seed": seed}).items()} for seed in (100, 101)]
    assert again.has({"seed": 101, "options": ROW["options"]}) and not again.has({"seed": 102})


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_row_that_was_cut_short_is_made_again(tmp_path, cut):
    rows = Rows(tmp_path / "t.csv")
    rows.append(ROW)
    whole = rows.path.read_bytes()
    rows.append(ROW | {"seed": 101})
    rows.path.write_bytes(rows.path.read_bytes()[:-cut] if cut < len(rows.path.read_bytes()) - len(whole) else whole)
    again = Rows(rows.path)
    assert again.has({"seed": 100}) and not again.has({"seed": 101}) and rows.path.read_bytes() == whole
    again.append(ROW | {"seed": 101})
    assert len(Rows(rows.path).all) == 2


def test_a_header_that_was_cut_short_is_no_table(tmp_path):
    (tmp_path / "t.csv").write_text("method,opt")
    rows = Rows(tmp_path / "t.csv")
    rows.append(ROW)
    assert Rows(rows.path).all == rows.all and len(rows.all) == 1


def test_another_shape_is_refused(tmp_path):
    rows = Rows(tmp_path / "t.csv")
    rows.append(ROW)
    with pytest.raises(InputError, match="has the columns method, options, seed, acc, this row method"):
        rows.append({"method": "scan"})
    (tmp_path / "bad.csv").write_text("a,b\n1,2,3\n")
    with pytest.raises(InputError, match="bad.csv is no table of ours"):
        Rows(tmp_path / "bad.csv")
