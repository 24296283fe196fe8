"""Pictures of several sources in one run: which came from where, and what they are called."""

from coterie.images.parts import named, parts, prefix_of, split

OLD = {"kind": "folder", "name": "old", "path": "/a/old", "n_images": 3}
NEW = {"kind": "folder", "name": "new", "path": "/b/new", "n_images": 2}
BOTH = {"kind": "folder", "name": "old + new", "n_images": 5, "parts": [OLD | {"prefix": ""}, NEW | {"prefix": "new"}]}


def test_a_source_is_its_own_only_part():
    assert parts(OLD) == [OLD | {"prefix": ""}]
    assert split(OLD, ["a", "b", "new/c"]) == [(OLD | {"prefix": ""}, ["a", "b", "new/c"])]


def test_paths_as_each_part_has_them():
    told = split(BOTH, ["x/1", "x/2", "new/1", "new/x/1", "/c/absolute"])
    assert [mine for _, mine in told] == [["x/1", "x/2", "new/1"], ["x/1", "/c/absolute"]]
    assert all(named(part["prefix"], path) for part, mine in told for path in mine)


def test_names_are_told_apart():
    assert prefix_of(OLD, NEW, ["x/1", "newer/2"]) == "new"
    assert prefix_of(OLD, NEW, ["x/1", "new/2"]) == "new-2"
    assert prefix_of(BOTH, NEW | {"path": "/c/new"}, ["x/1", "new/2", "new-2/1"]) == "new-3"
    assert prefix_of(BOTH, NEW, ["x/1", "new/2"]) == "new" and prefix_of(BOTH, OLD, ["x/1", "new/2"]) == ""
    assert prefix_of(OLD, {"kind": "array", "name": "array"}, ["#0"]) == "array"
    assert prefix_of(OLD, {"kind": "folder", "name": ".", "path": "/c/here"}, ["x/1"]) == "here"
    assert (
        prefix_of(OLD, {"kind": "named", "name": "torchvision:MNIST/test", "path": "torchvision:MNIST/test"}, [])
        == "torchvision:MNIST/test"
    )


def test_absolute_paths_stay():
    assert named("new", "x/1") == "new/x/1" and named("", "x/1") == "x/1" and named("new", "/c/1") == "/c/1"
