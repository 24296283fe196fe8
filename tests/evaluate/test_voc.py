import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from coterie.errors import InputError
from coterie.evaluate.voc import CLASSES, judged, read


def xml(*objects, width=20, height=10):
    inner = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, hard in objects
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size>{inner}</annotation>"


@pytest.fixture
def home(tmp_path):
    """VOCdevkit with the pictures a, b, c of 20 x 10 px: a cat, a cat and a difficult dog, nothing."""
    home = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationClass"):
        (home / folder).mkdir(parents=True)
    what = {"a": [("cat", (1, 1, 20, 10), 0)], "b": [("cat", (3, 2, 8, 9), 0), ("dog", (5, 5, 9, 9), 1)], "c": []}
    for name, objects in what.items():
        Image.fromarray(np.full((10, 20, 3), 50, np.uint8)).save(home / "JPEGImages" / f"{name}.jpg")
        (home / "Annotations" / f"{name}.xml").write_text(xml(*objects))
        mask = Image.fromarray(np.full((10, 20), 8 if objects else 0, np.uint8)).convert("P")
        mask.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])  # colours are no class numbers
        mask.save(home / "SegmentationClass" / f"{name}.png")
    (home / "ImageSets/Main/test.txt").write_text("a  1\nb -1\nc -1\n")
    (home / "ImageSets/Segmentation/test.txt").write_text("a\nb\n")
    return home


def test_reads_folders_and_zips(home, tmp_path):
    with zipfile.ZipFile(tmp_path / "voc.zip", "w") as archive:
        for file in sorted(home.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    for source in (home, home.parent, tmp_path, tmp_path / "voc.zip"):
        found = read(source, "test")
        assert [image.name for image in found.images] == ["a", "b", "c"] and not found.problems and found.classes == CLASSES
        assert found.images[0].boxes.corners.tolist() == [[0, 0, 20, 10]], "the whole picture"
        assert found.images[1].boxes.corners.tolist() == [[2, 1, 8, 9], [4, 4, 9, 9]]
        present = found.present()
        assert present[:, CLASSES.index("cat")].tolist() == [1, 1, 0] and present[:, CLASSES.index("dog")].tolist() == [0, -1, 0]
        assert present.sum() == 1 and found.picture(0, 10).shape == (3, 5, 10) and 0 <= found.picture(0, 10).max() <= 1
        masked = read(source, "test", masks=True)
        assert [image.name for image in masked.images] == ["a", "b"] and masked.mask(0).tolist() == [[8] * 20] * 10
    assert judged(np.array([0, 20, 21, 255]), 20).tolist() == [0, 20, 255, 255]


def test_the_published_set_has_a_name(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path / "data"))
    with pytest.raises(InputError, match="voc2007: there is no folder .*VOCdevkit/VOC2007; unpack the set there, or .* COTERIE_DATA"):
        read("voc2007", "test")
    shutil.copytree(home, tmp_path / "data" / "VOCdevkit" / "VOC2007")
    named, plain = read("voc2007", "test"), read(home, "test")
    assert named.fingerprint == plain.fingerprint and len(named) == len(plain) > 0


def test_own_classes_and_strange_ones(home):
    (home / "Annotations/a.xml").write_text(xml(("raccoon", (1, 1, 5, 5), 0)))
    assert read(home, "test").classes == ["cat", "dog", "raccoon"]
    found = read(home, "test", classes=["cat"])
    assert len(found) == 3 and len(found.images[0].boxes.labels) == 0
    assert sorted(p.reason for p in found.problems) == [f"no class is called {c}; box left out" for c in ("dog", "raccoon")]


def damage(home, what):
    if what == "clipped":
        (home / "Annotations/a.xml").write_text(xml(("cat", (-5, 1, 40, 10), 0)))
    elif what == "outside":
        (home / "Annotations/a.xml").write_text(xml(("cat", (30, 1, 40, 10), 0)))
    elif what == "backwards":
        (home / "Annotations/a.xml").write_text(xml(("cat", (9, 1, 3, 10), 0)))
    elif what == "words":
        (home / "Annotations/a.xml").write_text(xml(("cat", (1, "x", 3, 10), 0)))
    elif what == "infinite":
        (home / "Annotations/a.xml").write_text(xml(("cat", (1, 1, "inf", 10), 0)))
    elif what == "broken xml":
        (home / "Annotations/a.xml").write_text(xml(("cat", (1, 1, 3, 10), 0))[:-20])
    elif what == "bomb":
        (home / "Annotations/a.xml").write_text(
            "<!DOCTYPE a [<!ENTITY x0 '"
            + "x" * 100
            + "'>"
            + "".join(f"<!ENTITY x{i + 1} '{f'&x{i};' * 50}'>" for i in range(9))
            + "]><a>&x9;</a>"
        )
    elif what == "encoding":
        (home / "Annotations/a.xml").write_bytes(b"<?xml version='1.0' encoding='nosuch'?><annotation/>")
    elif what == "no xml":
        (home / "Annotations/a.xml").unlink()
    elif what == "xml of another size":
        (home / "Annotations/a.xml").write_text(xml(("cat", (1, 1, 3, 10), 0), width=40))
    elif what == "no picture":
        (home / "JPEGImages/a.jpg").unlink()
    elif what == "cut picture":
        whole = (home / "JPEGImages/a.jpg").read_bytes()
        (home / "JPEGImages/a.jpg").write_bytes(whole[: len(whole) // 2])
    elif what == "path":
        for file in ("Main", "Segmentation"):
            (home / f"ImageSets/{file}/test.txt").write_text("../JPEGImages/a\nb\nc\n")
    elif what == "mask of another size":
        Image.fromarray(np.zeros((20, 10), np.uint8)).save(home / "SegmentationClass/a.png")
    elif what == "mask in colours":
        Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(home / "SegmentationClass/a.png")
    elif what == "no mask":
        (home / "SegmentationClass/a.png").unlink()


@pytest.mark.parametrize(
    "what, said, boxes",  # boxes: of the first picture, None where it is left out
    [
        ("clipped", "clipped", 1), ("outside", "nothing inside", 0), ("backwards", "nothing inside", 0), ("words", "four numbers", 0),
        ("infinite", "four numbers", 0), ("broken xml", "broken XML", None), ("bomb", "broken XML", None), ("encoding", "broken XML", None),
        ("no xml", "no annotation", None), ("xml of another size", "another size", None), ("no picture", "no picture", None),
        ("cut picture", "cannot be read", None), ("path", "no picture", None), ("mask of another size", "mask is of another size", None),
        ("mask in colours", "mask cannot be read", None), ("no mask", "no mask", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_counted_problem_and_the_rest_serves(home, what, said, boxes):
    damage(home, what)
    found = read(home, "test", masks="mask" in what)
    (problem,) = found.problems
    assert said in problem.reason and found.notes == [f"1 x {problem.reason} (first: {problem.path})"]
    assert found.images[-1].name == ("b" if "mask" in what else "c")
    assert (found.images[0].name == "b") if boxes is None else (len(found.images[0].boxes.labels) == boxes)
    if what == "clipped":
        assert found.images[0].boxes.corners.tolist() == [[0, 0, 20, 10]]


def test_nothing_usable_is_one_line(home, tmp_path):
    for source, part, said in (
        (tmp_path / "nowhere", "test", "no such folder"),
        (home / "JPEGImages", "test", "no folder ImageSets"),
        (home, "train", "no ImageSets/Main/train.txt"),
        (home / "JPEGImages/a.jpg", "test", "neither a folder nor"),
    ):
        with pytest.raises(InputError, match=said):
            read(source, part)
    shutil.rmtree(home / "Annotations")
    with pytest.raises(InputError, match="no picture of test can be used; a: no annotation"):
        read(home, "test")
