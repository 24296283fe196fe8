"""Runs of the same pictures side by side, against loops and hand-made cases."""

import re
from html.parser import HTMLParser
from itertools import permutations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.report.fake_run import blobs, drawings, fake_run, metrics

from coterie import compare
from coterie.compare.page import sentence
from coterie.errors import InputError
from coterie.run.edits import append


def made(folder, labels, k, paths=None, digests=None, **more):
    labels = np.asarray(labels)
    features, p = blobs(np.maximum(labels, 0), k)
    paths = [f"{i:02d}.png" for i in range(len(labels))] if paths is None else paths
    run = fake_run(folder, paths, drawings(np.maximum(labels, 0), 20), labels, p, features, **more)
    if digests is not None:
        rows = {"id": pa.array(range(len(labels)), pa.int64()), "path": paths, "size": pa.array([1] * len(labels), pa.int64())}
        pq.write_table(pa.table(rows | {"digest": digests}), run / "items.parquet")
    return run


def naive(a, b, k):
    """The matching that lets as many stay as possible, by trying all; and who moves, with -1 in no cluster."""
    both = [(x, y) for x, y in zip(a, b) if x >= 0 and y >= 0]
    stay = max(sum(x == to[y] for x, y in both) for to in permutations(range(k)))
    return stay, len(both) - stay


@pytest.mark.parametrize("seed", range(5))
def test_who_stays_as_a_loop_over_all_matchings_says(tmp_path, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(-1, 4, 40)
    b = np.where(rng.random(40) < 0.6, (a + 1) % 4, rng.integers(-1, 4, 40))
    a[:4], b[:4] = range(4), range(4)
    both = compare.pair(compare.read(made(tmp_path / "a", a, 4)), compare.read(made(tmp_path / "b", b, 4)))
    stay, moved = naive(a.tolist(), b.tolist(), 4)
    assert both.n_moved == moved and both.stay == pytest.approx(stay / (stay + moved))
    assert both.n_shared == 40 and both.unsure == ((a < 0).sum(), (b < 0).sum()) and both.only == (0, 0)
    seen = [row for move in both.moves for row in move.rows_M.tolist()]
    assert len(seen) == len(set(seen))
    for move in both.moves:
        assert (a[move.rows_M] == move.from_).all() and (b[move.rows_M] == move.to).all()
    stays = [i for i in range(40) if (both.partner.get(int(b[i]), -2) if b[i] >= 0 else -1) == a[i]]
    assert sorted(seen + stays) == list(range(40))


def test_other_numbers_are_no_difference(tmp_path):
    a = np.arange(30) % 3
    one, other = compare.read(made(tmp_path / "a", a, 3)), compare.read(made(tmp_path / "b", (a + 1) % 3, 3))
    both = compare.pair(one, other)
    assert both.ari == both.nmi == both.stay == 1 and not both.moves and both.partner == {0: 2, 1: 0, 2: 1}


def test_pictures_are_found_by_content_and_by_path(tmp_path):
    one = made(tmp_path / "a", [0, 0, 1, 1, 0], 2, ["a", "b", "c", "d", "e"], ["A", "B", "C", "D", "E"])
    other = made(tmp_path / "b", [0, 1, 1, 0, 1, 0], 2, ["b", "new/a", "c", "e", "d", "f"], ["B", "A", "other", "E", "D", "F"])
    rows, theirs = compare.shared(compare.read(one), compare.read(other))
    assert list(zip(rows.tolist(), theirs.tolist())) == [(0, 1), (1, 0), (3, 4), (4, 3)], "c holds another picture now"
    old = compare.read(made(tmp_path / "c", [0, 1, 1], 2, ["d", "b", "x"]))
    rows, theirs = compare.shared(compare.read(one), old)
    assert list(zip(rows.tolist(), theirs.tolist())) == [(1, 1), (3, 0)], "a run that tells no content goes by the path"


def test_copies_are_found_once_each(tmp_path):
    one = compare.read(made(tmp_path / "a", [0, 0, 1], 2, ["a", "b", "c"], ["A", "A", "A"]))
    other = compare.read(made(tmp_path / "b", [0, 1], 2, ["c", "x"], ["A", "A"]))
    rows, theirs = compare.shared(one, other)
    assert sorted(theirs.tolist()) == [0, 1] and len(set(rows.tolist())) == 2 and (2, 0) in zip(rows.tolist(), theirs.tolist())


def test_nothing_in_common(tmp_path):
    one, other = made(tmp_path / "a", [0, 1], 2, ["a", "b"]), made(tmp_path / "b", [0, 1], 2, ["c", "d"])
    with pytest.raises(InputError, match="no picture in common"):
        compare.pair(compare.read(one), compare.read(other))


def test_none_in_a_cluster_of_both(tmp_path):
    one, other = compare.read(made(tmp_path / "a", [-1, 0], 2)), compare.read(made(tmp_path / "b", [0, -1], 2))
    both = compare.pair(one, other)
    assert np.isnan(both.ari) and np.isnan(both.stay) and both.n_moved == 0 and len(both.moves) == 2
    assert "none of them in a cluster of both" in sentence(both)


def test_what_is_known_of_a_run(tmp_path):
    labels = np.arange(20) % 2
    run = made(tmp_path / "a", labels, 2, measured=metrics(labels, labels, ["x", "y"]))
    told = compare.told(compare.read(run))
    assert told["acc"] == 1.0 and told["stability"] == 0.8 and told["n_clusters"] == 2 and told["sizes"] == {0: 10, 1: 10}
    assert compare.told(compare.read(made(tmp_path / "b", labels, 2)))["acc"] is None


def test_corrections_count_unless_left_out(tmp_path):
    a = np.arange(20) % 2
    run = made(tmp_path / "a", a, 2)
    append(run, {"act": "move", "ids": [0, 2], "cluster": 1})
    said, corrected = compare.read(run, edits=False), compare.read(run)
    both = compare.pair(said, corrected)
    assert both.n_moved == 2 and [(move.from_, move.to, move.rows_M.tolist()) for move in both.moves] == [(0, 1, [0, 2])]
    assert compare.told(corrected)["corrections"] == 1


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses, self.text, self.scripts = [], "", 0

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        self.scripts += tag == "script"

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_all_and_tells_no_place(tmp_path):
    a = np.arange(40) % 4
    b = np.where(np.arange(40) < 5, (a + 1) % 4, a)
    paths = ["<script>x</script>.png", *(f"/home/me/secret/{i}.png" for i in range(1, 40))]
    runs = [compare.read(made(tmp_path / name, labels, 4, paths)) for name, labels in (("one", a), ("<b>two", b), ("three", a))]
    compare.write(runs, tmp_path / "out" / "page.html")
    text = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    page = Reader()
    page.feed(text)
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses) and not page.scripts
    assert "secret" not in text and str(tmp_path) not in text and "<script>x</script>.png" in page.text and "<b>two" in page.text
    assert re.search(r"5 moved", page.text) and "Agreement of each two" in page.text
    assert compare.page(runs) == text
    with pytest.raises(InputError, match="is a folder"):
        compare.write(runs, tmp_path)
