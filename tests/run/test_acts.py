"""What acts do to a sorting, each by a case made by hand, and that what cannot be is refused."""

import numpy as np
import pytest

from coterie.errors import InputError
from coterie.run.acts import complete, replay

SORTED_N = np.array([0, 0, 0, 1, 1, 2, -1])


def done(*acts, start=SORTED_N, k=None):
    """Each act completed as it is written, then all replayed."""
    written = []
    for act in acts:
        written.append(complete(act, lambda: replay(start, written, k)))
    return replay(start, written, k)


def rename(cluster, name):
    return {"act": "rename", "cluster": cluster, "name": name}


def move(ids, cluster):
    return {"act": "move", "ids": ids, "cluster": cluster}


def merge(*clusters, **more):
    return {"act": "merge", "clusters": list(clusters), **more}


def split(cluster, *parts):
    return {"act": "split", "cluster": cluster, "parts": list(parts)}


UNDO, REDO = {"act": "undo"}, {"act": "redo"}


def test_nothing_done_is_what_the_method_said():
    found = done()
    np.testing.assert_array_equal(found.cluster_N, SORTED_N)
    assert found.clusters == (0, 1, 2) and found.following == 3 and not found.names and not found.confirmed_N.any()
    assert done(k=5).clusters == (0, 1, 2, 3, 4), "empty clusters are there too"


def test_the_sorting_that_was_given_stays_as_it_is():
    given = SORTED_N.copy()
    replay(given, [move([0], 1)])
    np.testing.assert_array_equal(given, SORTED_N)


def test_names():
    assert done(rename(1, "  grey\n seals ")).names == {1: "grey seals"}
    assert done(rename(1, "seals"), rename(1, "")).names == {}
    assert done(rename(1, "seals"), rename(1, "Seals")).names == {1: "Seals"}, "its own name is no other's"
    assert done(rename(0, "seals"), rename(0, "cats"), rename(1, "seals")).names == {0: "cats", 1: "seals"}


def test_merging_keeps_the_number_of_the_largest_and_a_name():
    found = done(rename(2, "cats"), merge(2, 0))
    assert found.cluster_N.tolist() == [0, 0, 0, 1, 1, 0, -1]
    assert found.clusters == (0, 1) and found.names == {0: "cats"}
    assert done(rename(2, "cats"), rename(0, "dogs"), merge(2, 0)).names == {0: "dogs"}, "its own name goes first"
    assert done(merge(0, 2, into=2)).clusters == (1, 2)


def test_splitting_makes_new_numbers():
    found = done(rename(0, "cats"), split(0, [2], [1, 0]))
    assert found.cluster_N.tolist() == [3, 3, 0, 1, 1, 2, -1]
    assert found.clusters == (0, 1, 2, 3) and found.names == {0: "cats"} and found.following == 4
    assert done(split(0, [0], [1], [2])).cluster_N[:3].tolist() == [0, 3, 4]


def test_moving_confirms_and_unsure_does_not():
    found = done(move([5, 0], 1))
    assert found.cluster_N.tolist() == [1, 0, 0, 1, 1, 1, -1] and found.confirmed_N.nonzero()[0].tolist() == [0, 5]
    found = done(move([0], 1), move([0], -1))
    assert found.cluster_N[0] == -1 and not found.confirmed_N.any()
    found = done(move([6, 3], 3))
    assert found.cluster_N.tolist() == [0, 0, 0, 3, 1, 2, 3] and found.clusters == (0, 1, 2, 3), "a cluster of their own"


def test_what_is_no_kind_confirms_nothing():
    found = done({"act": "confirm", "cluster": 0}, {"act": "not_a_kind", "cluster": 0}, move([5], 0))
    assert found.not_kinds == {0} and not found.confirmed_N.any()
    found = done({"act": "not_a_kind", "cluster": 0}, {"act": "confirm", "cluster": 0})
    assert not found.not_kinds and found.confirmed_N.tolist() == [True] * 3 + [False] * 4
    assert not done({"act": "confirm", "ids": [3]}, {"act": "not_a_kind", "cluster": 0}, merge(0, 1)).confirmed_N.any()
    assert not done({"act": "not_a_kind", "cluster": 1}, merge(0, 1)).not_kinds


def test_a_split_takes_confirmation_back():
    assert not done({"act": "confirm", "cluster": 0}, split(0, [0], [1, 2])).confirmed_N.any()


def test_undo_and_redo_without_end():
    acts = [rename(0, "cats"), move([5], 0), split(0, [0, 1], [2, 5]), merge(1, 2)]
    written = []
    for act in acts:
        written.append(complete(act, lambda: replay(SORTED_N, written)))
    states = [replay(SORTED_N, written[:i]) for i in range(5)]
    for back in range(5):
        found = replay(SORTED_N, written + [UNDO] * back)
        np.testing.assert_array_equal(found.cluster_N, states[4 - back].cluster_N)
        assert found.names == states[4 - back].names and found.clusters == states[4 - back].clusters
        again = replay(SORTED_N, written + [UNDO] * back + [REDO] * back)
        np.testing.assert_array_equal(again.cluster_N, states[4].cluster_N)
        assert again.applied == written and not again.undone
    for cannot in ([UNDO], [*written, REDO], [*written, UNDO, rename(1, "x"), REDO]):
        with pytest.raises(InputError, match="nothing to"):
            replay(SORTED_N, cannot)


def test_no_number_is_given_twice():
    found = done(split(0, [0], [1, 2]), UNDO, split(0, [0, 1], [2]))
    assert found.clusters == (0, 1, 2, 4) and found.following == 5
    with pytest.raises(InputError, match="no cluster 3"):
        done(split(0, [0], [1, 2]), UNDO, move([1], 3))


@pytest.mark.parametrize(
    "acts, why",
    [
        ([{"act": "paint"}], "no act paint"),
        ([{}], "no act None"),
        ([{"act": ["undo"]}], "no act"),
        ([{"act": "undo", "ids": [1]}], "wanted nothing"),
        ([{"act": "rename", "cluster": 0}], "wanted cluster, name"),
        ([{"act": "rename", "cluster": True, "name": "x"}], "no cluster True"),
        ([rename(7, "x")], "no cluster 7"),
        ([rename(-1, "x")], "no cluster -1"),
        ([rename(0, 3)], "printable"),
        ([rename(0, "x" * 101)], "100"),
        ([rename(0, "a\x00b")], "printable"),
        ([rename(0, "\udc80")], "printable"),
        ([rename(0, "Cats"), rename(1, "cats")], "cluster 0 is called Cats"),
        ([merge(0)], "two different"),
        ([merge(0, 0)], "each once"),
        ([merge(0, 9)], "no cluster 9"),
        ([merge(0, 1, into=2)], "one of them"),
        ([merge(0, 1), move([0], 1)], "no cluster 1"),
        ([split(0, [0, 1, 2])], "two parts"),
        ([split(0, [0, 1, 2], [])], "two parts"),
        ([split(0, [0], [1])], "not its pictures"),
        ([split(0, [0, 1], [1, 2])], "not its pictures"),
        ([split(0, [0, 1], [2, 3])], "not its pictures"),
        ([split(0, [0, 1], [2]) | {"into": [0, 7]}], "from 3"),
        ([move([], 1)], "one or more"),
        ([move([7], 1)], "0 to 6"),
        ([move([-1], 1)], "0 to 6"),
        ([move([1.0], 1)], "whole numbers"),
        ([move([True], 1)], "whole numbers"),
        ([move("01", 1)], "whole numbers"),
        ([move([0], 4)], "no cluster 4"),
        ([move([0], -2)], "no cluster -2"),
        ([{"act": "confirm"}], "wanted cluster or ids"),
        ([{"act": "confirm", "ids": [6]}], "of no kind"),
        ([{"act": "not_a_kind", "cluster": 1}, {"act": "confirm", "ids": [3]}], "of no kind"),
    ],
)
def test_what_cannot_be_is_refused(acts, why):
    with pytest.raises(InputError, match=why):
        done(*acts)
