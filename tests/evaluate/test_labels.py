import numpy as np
import pytest

from coterie.errors import InputError
from coterie.evaluate.labels import Labels, labels_of
from coterie.evaluate.protocol import cluster_scores, trusted
from coterie.evaluate.superclasses import CIFAR100, CLASSES, published
from coterie.images import named

FOLDER = {"kind": "folder", "name": "photos", "path": "/nowhere/photos"}


def table(tmp_path, text):
    file = tmp_path / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_csv_may_name_superclasses(tmp_path):
    how = table(tmp_path, "path,label,superclass\na.png,trout,fish\nb.png,rose,flower\nc.png,trout,\nd.png,stone,\n")
    found = labels_of(FOLDER, ["c.png", "b.png", "x.png", "d.png"], how)
    assert found.names == ["rose", "stone", "trout"] and found.values.tolist() == [2, 0, -1, 1]
    assert found.superclasses == ["flower", "", "fish"]


def test_a_csv_without_superclasses_has_none(tmp_path):
    assert labels_of(FOLDER, ["a.png"], table(tmp_path, "path,label\na.png,trout\n")).superclasses is None
    assert labels_of(FOLDER, ["a.png"], table(tmp_path, "path,label,superclass\na.png,trout,\n")).superclasses is None


def test_a_class_has_one_superclass(tmp_path):
    how = table(tmp_path, "path,label,superclass\na.png,trout,fish\nb.png,trout,flower\n")
    with pytest.raises(InputError, match="trout is of superclass fish and of flower"):
        labels_of(FOLDER, ["a.png"], how)


def test_the_published_superclasses_of_cifar100():
    assert len(CIFAR100) == 20 and len(CLASSES) == 100 == len({name for names in CIFAR100.values() for name in names.split()})
    assert all(len(names.split()) == 5 for names in CIFAR100.values())
    numbers = [list(CIFAR100).index(superclass) for superclass in published(CLASSES) or []]
    assert numbers[:10] == [4, 1, 14, 8, 0, 6, 7, 7, 18, 3] and numbers[-3:] == [8, 14, 13], "as the set's own files number them"
    assert published(CLASSES[::-1]) == (published(CLASSES) or [])[::-1]
    assert published(CLASSES[:-1]) is None and published([*CLASSES[:-1], "wurm"]) is None


def test_named_cifar100_knows_its_classes(monkeypatch):
    monkeypatch.setattr(named, "load_named", lambda name: named.NamedSet(None, np.arange(100), 100))
    source = {"kind": "named", "name": "CIFAR100", "path": "torchvision:CIFAR100/test"}
    found = labels_of(source, [f"#{i}" for i in range(100)], None)
    assert found.names == CLASSES and found.superclasses == published(CLASSES)
    other = labels_of(source | {"path": "torchvision:Other/test"}, [f"#{i}" for i in range(100)], None)
    assert other.names[99] == "99" and other.superclasses is None


def test_folders_named_as_cifar100s_classes():
    found = labels_of(FOLDER, [f"train/{name}/1.png" for name in CLASSES], "folders")
    assert found.superclasses == published(CLASSES)


def test_folders_of_one_name_are_told_apart():
    apart = labels_of(FOLDER, ["a/cats/1.png", "b/dogs/2.png", "a/cats/3.png"], None)
    assert apart.names == ["cats", "dogs"] and apart.values.tolist() == [0, 1, 0]
    alike = labels_of(FOLDER, ["a/cats/1.png", "b/cats/2.png", "b/dogs/3.png"], None)
    assert alike.names == ["a/cats", "b/cats", "b/dogs"] and alike.values.tolist() == [0, 1, 2]


def test_metrics_keep_superclasses_where_they_are_known():
    p_NK = np.eye(2)[[0, 1, 1]]
    values = np.array([0, 1, -1])
    assert cluster_scores(Labels(values, ["a", "b"], ["x", "y"]), p_NK)["superclasses"] == ["x", "y"]
    assert "superclasses" not in cluster_scores(Labels(values, ["a", "b"]), p_NK)


def test_superclasses_in_the_place_of_classes(monkeypatch):
    """CIFAR-100-20: every class counts as its superclass."""
    monkeypatch.setattr("coterie.evaluate.labels._builtin", lambda source, n: Labels(np.array([99, 0, 98, 35, 11, 4, -1]), CLASSES))
    found = labels_of({"kind": "named", "name": "CIFAR100", "path": "torchvision:CIFAR100/test"}, ["#"] * 7, "superclasses")
    assert len(found.names) == 20 and found.names == sorted(found.names)
    told = [found.names[value] for value in found.values[:-1]]  # worm, apple, woman, girl, boy, beaver
    assert told == ["non-insect invertebrates", "fruit and vegetables", "people", "people", "people", "aquatic mammals"]
    assert found.values[-1] == -1


def test_superclasses_of_a_set_that_has_none(monkeypatch):
    monkeypatch.setattr("coterie.evaluate.labels._builtin", lambda source, n: Labels(np.array([0, 1]), ["a", "b"]))
    with pytest.raises(InputError, match="only CIFAR-100 has published ones"):
        labels_of({"kind": "named", "name": "digits", "path": "digits"}, ["#0", "#1"], "superclasses")


def test_trusted_counts_only_images_with_a_pseudo_label_and_a_class():
    truth = Labels(np.array([0, 0, 1, 1, -1, 0]), ["a", "b"])
    found = trusted(truth, np.array([1, 1, 0, 1, 0, -1]))
    assert found == {"share": pytest.approx(5 / 6), "precision": pytest.approx(3 / 4)}
    assert trusted(truth, np.array([1, 1, 0, 0, 0, -1]))["precision"] == 1.0
    assert trusted(truth, np.full(6, -1)) == {"share": 0.0, "precision": 0.0}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_of_spreadsheets(tmp_path, encoding):
    (tmp_path / "labels.csv").write_bytes("path,label\nä.png,Baum\nb.png,Haus\n".encode(encoding))
    found = labels_of(FOLDER, ["ä.png", "b.png"], str(tmp_path / "labels.csv"))
    assert found.values.tolist() == [0, 1] and found.notes == ()


def test_what_does_not_serve_as_a_label_is_counted(tmp_path):
    """An empty label, a row without a comma, contradicting rows, strangers, an image that no row names."""
    text = "path,label\na.png,tree\nb.png,\nc.png\nd.png,tree\nd.png,house\nx.png,tree\ny.png,tree\ne.png,house\ne.png,house\n"
    found = labels_of(FOLDER, [f"{name}.png" for name in "abcdef"], table(tmp_path, text))
    assert found.values.tolist() == [1, -1, -1, -1, 0, -1] and found.names == ["house", "tree"]
    assert [int(note.split()[0]) for note in found.notes] == [2, 2, 1, 4]
    assert "no image of this run" in found.notes[0] and "contradicting" in found.notes[2] and "not scored" in found.notes[3]


def test_an_export_comes_back_as_labels(tmp_path):
    text = "id,path,cluster,confidence\n0,'=1+1.png,4,0.9\n1,'-b.png,2,0.8\n2,'quoted'.png,4,0.8\n"
    found = labels_of(FOLDER, ["=1+1.png", "-b.png", "'quoted'.png"], table(tmp_path, text))
    assert found.names == ["2", "4"] and found.values.tolist() == [1, 0, 1] and found.notes == ()


@pytest.mark.parametrize(
    "content", [b"", b"path\na.png\n", b"\xff\xfe\xff", b"path,label\na.png," + b"x" * 140_000, b"\x80", b"\0", b"a,b\n1,2\n"]
)
def test_a_file_that_is_no_table_of_labels(tmp_path, content):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match="labels.csv") as told:
        labels_of(FOLDER, ["a.png"], str(tmp_path / "labels.csv"))
    assert "\n" not in str(told.value)
