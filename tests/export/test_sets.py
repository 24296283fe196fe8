"""What other programs read: train and validation folders, COCO, Label Studio, FiftyOne."""

import json
from collections import Counter
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.report.fake_run import blobs, drawings, fake_run

from coterie.errors import InputError
from coterie.export import export
from coterie.export.folders import sides_of
from coterie.images.decode import shown_size

LABELS = np.array([0] * 10 + [1] * 5 + [2] + [-1] * 2)
NAMES = [f"in/{i:02d}.png" for i in range(15)] + ["other/00.png", "one.png", "one.jpg"]


@pytest.fixture
def run(tmp_path):
    """18 pictures: 10, 5 and 1 in clusters, 2 unsure; two are called 00.png, two `one`; the first is twice as wide as high."""
    pixels = drawings(np.abs(LABELS), 20)
    pixels[0] = np.concatenate([pixels[0], pixels[0]], axis=1)
    for name, picture in zip(NAMES, pixels):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / name)
    features, p = blobs(np.abs(LABELS), 3)
    source = {"kind": "folder", "path": str(tmp_path / "photos")}
    return fake_run(tmp_path / "run", NAMES, drawings(np.abs(LABELS), 20), LABELS, p, features, source=source)


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


# ---- train and val


def test_every_cluster_is_split(run, tmp_path):
    done = export(run, "imagefolder", tmp_path / "out", val=0.2)
    assert done.n_images == 16 and {path for path, _ in done.aside} == {"one.png", "one.jpg"}
    counts = Counter(tuple(Path(name).parts[:2]) for name in files(tmp_path / "out"))
    wanted = {("train", "cluster_00"): 8, ("val", "cluster_00"): 2, ("train", "cluster_01"): 4, ("val", "cluster_01"): 1}
    assert counts == wanted | {("train", "cluster_02"): 1}
    for side in ("train", "val"):
        assert sorted(path.name for path in (tmp_path / "out" / side).iterdir()) == ["cluster_00", "cluster_01", "cluster_02"]
    before = files(tmp_path / "out")
    assert export(run, "imagefolder", tmp_path / "out", val=0.2) == done and files(tmp_path / "out") == before
    export(run, "imagefolder", tmp_path / "all", val=0)
    assert not (tmp_path / "all" / "val").exists() and len(files(tmp_path / "all")) == 16


def test_torchvision_reads_it(run, tmp_path):
    from torchvision.datasets import ImageFolder

    export(run, "imagefolder", tmp_path / "out")
    train = ImageFolder(str(tmp_path / "out" / "train"))
    val = ImageFolder(str(tmp_path / "out" / "val"), allow_empty=True)
    assert train.class_to_idx == val.class_to_idx == {"cluster_00": 0, "cluster_01": 1, "cluster_02": 2}
    assert len(train) + len(val) == 16


def test_the_seed_decides_and_nothing_else():
    clusters, digests = [0] * 50 + [1] * 50, [f"d{i}" for i in range(100)]
    one = sides_of(clusters, digests, digests, 0.3, 0)
    assert one == sides_of(clusters, digests, [f"elsewhere/{i}" for i in range(100)], 0.3, 0)
    assert one != sides_of(clusters, digests, digests, 0.3, 1)
    assert one.count("val") == 30 and one[:50].count("val") == 15
    order = np.random.default_rng(0).permutation(100)
    shuffled = sides_of([clusters[i] for i in order], [digests[i] for i in order], digests, 0.3, 0)
    assert [one[i] for i in order] == shuffled


def test_copies_stay_on_one_side_and_none_is_left_without_training():
    digests = ["same"] * 6 + [f"d{i}" for i in range(4)]
    for seed in range(20):
        sides = sides_of([0] * 10, digests, digests, 0.2, seed)
        assert len(set(sides[:6])) == 1 and "train" in sides and "val" in sides
    assert sides_of([0] * 6, ["same"] * 6, [""] * 6, 0.5, 0) == ["train"] * 6
    assert sides_of([-1, 0], ["a", "b"], ["", ""], 0.5, 0) == [None, "train"]


@pytest.mark.parametrize("val", [-0.1, 1, float("nan")])
def test_a_share_that_cannot_be(run, tmp_path, val):
    with pytest.raises(InputError, match="--val"):
        export(run, "imagefolder", tmp_path / "out", val=val)


# ---- COCO


def test_coco(run, tmp_path):
    assert export(run, "coco", tmp_path / "out").n_images == 18
    told = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [(row["id"], row["name"], row["cluster"]) for row in told["categories"]] == [
        (1, "cluster_00", 0), (2, "cluster_01", 1), (3, "cluster_02", 2),
    ]  # fmt: skip
    assert {f"images/{row['file_name']}" for row in told["images"]} | {"annotations.json"} == files(tmp_path / "out")
    sizes = {row["id"]: (row["width"], row["height"]) for row in told["images"]}
    assert sizes[1] == (40, 20) and set(list(sizes.values())[1:]) == {(20, 20)}
    for row in told["images"]:
        with Image.open(tmp_path / "out" / "images" / row["file_name"]) as image:
            assert image.size == sizes[row["id"]]
    kinds = {row["image_id"]: row["category_id"] for row in told["annotations"]}
    assert len(kinds) == len(told["annotations"]) == 16 and [kinds.get(i + 1, 0) - 1 for i in range(18)] == LABELS.tolist()
    first = told["annotations"][0]
    assert first["bbox"] == [0, 0, 40, 20] and first["area"] == 800 and first["iscrowd"] == 0 and 0 < first["score"] <= 1


@pytest.mark.parametrize("turn, size", [(1, (30, 10)), (3, (30, 10)), (6, (10, 30)), (8, (10, 30))])
def test_the_size_is_that_of_the_picture_as_it_is_shown(tmp_path, turn, size):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (30, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert shown_size((tmp_path / "x.jpg").read_bytes()) == size


# ---- Label Studio


def test_label_studio(run, tmp_path):
    assert export(run, "label-studio", tmp_path / "out").n_images == 18
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    view = ElementTree.parse(tmp_path / "out" / "labels.xml").getroot()
    choices = [choice.get("value") for choice in view.iter("Choice")]
    assert choices == ["cluster_00", "cluster_01", "cluster_02"] and view.find("Choices").get("name") == "kind"
    at = "/data/local-files/?d="
    urls = [task["data"]["image"] for task in tasks]
    assert all(url.startswith(at) and (tmp_path / "out" / unquote(url.removeprefix(at))).is_file() for url in urls)
    assert len(set(urls)) == 18 and [task["data"]["path"] for task in tasks] == NAMES
    for task, label in zip(tasks, LABELS.tolist()):
        if label < 0:
            assert "predictions" not in task
            continue
        (prediction,) = task["predictions"]
        (result,) = prediction["result"]
        assert result["value"]["choices"] == [choices[label]] and 0 < prediction["score"] <= 1
        assert (result["from_name"], result["to_name"], result["type"]) == ("kind", "image", "choices")


# ---- FiftyOne


def test_fiftyone(run, tmp_path):
    export(run, "fiftyone", tmp_path / "out", link="symlink")
    told = json.loads((tmp_path / "out" / "labels.json").read_text())
    stems = [path.stem for path in (tmp_path / "out" / "data").iterdir()]
    assert sorted(stems) == sorted(told["labels"]) and len(set(map(str.casefold, stems))) == 18, "a picture is found without its ending"
    assert told["classes"] == ["cluster_00", "cluster_01", "cluster_02"]
    sizes = Counter(None if one is None else one["label"] for one in told["labels"].values())
    assert sizes == {0: 10, 1: 5, 2: 1, None: 2}
    assert all(0 < one["confidence"] <= 1 for one in told["labels"].values() if one)


# ---- what all of them keep


@pytest.mark.parametrize("to", ["coco", "label-studio", "fiftyone", "imagefolder"])
def test_nothing_is_overwritten_and_originals_stay(run, tmp_path, to):
    source = tmp_path / "photos"
    before = {name: (source / name).read_bytes() for name in files(source)}
    done = export(run, to, tmp_path / "out")
    first = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    assert export(run, to, tmp_path / "out") == done
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == first
    with pytest.raises(InputError, match="own folder"):
        export(run, to, source / "sorted")
    name = sorted(first)[-1]
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match="differs"):
        export(run, to, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"
    assert {name: (source / name).read_bytes() for name in files(source)} == before


@pytest.mark.parametrize("to, name", [("coco", "annotations.json"), ("label-studio", "tasks.json"), ("fiftyone", "labels.json")])
def test_another_set_is_seen_before_a_picture_is_written(run, tmp_path, to, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name} is there already and differs"):
        export(run, to, tmp_path / "out")
    assert files(tmp_path / "out") == {name}
