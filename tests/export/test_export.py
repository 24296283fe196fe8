import csv
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.report.fake_run import blobs, drawings, fake_run

from coterie.errors import InputError
from coterie.export import export

NAMES = ["a/x.png", "b/x.png", "c/X.PNG", "=1+1.png", "name with space and é.png", "@at.png", "deep/er/y.png", "z.png"]


def sorted_run(tmp_path, paths, labels, **source):
    features, p = blobs(labels, 3)
    return fake_run(tmp_path / "run", paths, drawings(labels, 20), labels, p, features, source=source)


@pytest.fixture
def photos(tmp_path):
    """A folder of eight pictures and a run over it."""
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    for name, pixels in zip(NAMES, drawings(labels, 20)):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name, format="PNG")
    return sorted_run(tmp_path, NAMES, labels, kind="folder", path=str(tmp_path / "photos")), tmp_path / "photos"


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("link", ["copy", "hard", "symlink"])
def test_pictures_go_into_folders_and_originals_stay(photos, tmp_path, link):
    run, source = photos
    before = content(source)
    assert export(run, "folders", tmp_path / "sorted", None, link).n_images == 8
    found = content(tmp_path / "sorted")
    assert sorted(found) == [
        "cluster_00/a__x.png",
        "cluster_00/b__x.png",
        "cluster_00/c__X.PNG",
        "cluster_01/=1+1.png",
        "cluster_01/name with space and é.png",
        "cluster_02/@at.png",
        "cluster_02/y.png",
        "cluster_02/z.png",
    ]
    assert sorted(found.values()) == sorted(before.values())
    assert content(source) == before
    assert export(run, "folders", tmp_path / "sorted", None, link).n_images == 8  # again: all is there, nothing to do
    assert content(tmp_path / "sorted") == found
    some = tmp_path / "sorted" / "cluster_02" / "z.png"
    assert some.is_symlink() == (link == "symlink") and (some.stat().st_ino == (source / "z.png").stat().st_ino) == (link != "copy")


def test_a_differing_file_is_never_overwritten(photos, tmp_path):
    run, _ = photos
    target = tmp_path / "sorted" / "cluster_02" / "z.png"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(InputError, match=r"z\.png.*differs"):
        export(run, "folders", tmp_path / "sorted")
    assert target.read_text() == "mine" and len(content(tmp_path / "sorted")) == 1
    for to in ("csv", "parquet"):
        (tmp_path / to).write_text("mine")
        with pytest.raises(InputError, match="differs"):
            export(run, to, tmp_path / to)
        assert (tmp_path / to).read_text() == "mine"
    assert not list(tmp_path.glob(".coterie-*"))


def test_a_file_of_the_same_size_may_differ_too(photos, tmp_path):
    run, source = photos
    export(run, "folders", tmp_path / "sorted")
    export(run, "csv", tmp_path / "t.csv")
    for target, words in (
        (tmp_path / "sorted" / "cluster_02" / "z.png", ("folders", tmp_path / "sorted")),
        (tmp_path / "t.csv", ("csv", tmp_path / "t.csv")),
    ):
        content = bytearray(target.read_bytes())
        content[-1] ^= 1
        target.write_bytes(content)
        with pytest.raises(InputError, match="differs"):
            export(run, *words)
        assert target.read_bytes() == content


def test_the_source_and_the_run_are_out_of_bounds(photos, tmp_path):
    run, source = photos
    before = content(source)
    (tmp_path / "way").symlink_to(source)
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "cluster_00").symlink_to(source / "a")
    for dest in (source, source / "sorted", tmp_path / "way" / "sorted", tmp_path / "trap"):
        with pytest.raises(InputError, match="inside the pictures' own folder"):
            export(run, "folders", dest)
    with pytest.raises(InputError, match="the run itself"):
        export(run, "folders", run)
    with pytest.raises(InputError, match="is a file"):
        export(run, "folders", source / "z.png")
    assert content(source) == before


def test_a_moved_source_is_named_and_found(photos, tmp_path):
    run, source = photos
    source.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"x\.png is no longer in"):
        export(run, "folders", tmp_path / "sorted")
    assert not (tmp_path / "sorted").exists()
    assert export(run, "folders", tmp_path / "sorted", tmp_path / "moved").n_images == 8


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_names_that_are_no_text(tmp_path):
    source = tmp_path / "photos"
    source.mkdir()
    pixels = drawings(np.zeros(1, int), 20)[0]
    file = os.fsencode(source) + b"/caf\xe9.png"
    try:
        with open(file, "wb") as handle:
            Image.fromarray(pixels).save(handle, format="PNG")
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    run = sorted_run(tmp_path, ["caf\\xe9.png"], np.zeros(1, int), kind="folder", path=str(source))
    assert export(run, "folders", tmp_path / "sorted").n_images == 1
    assert os.listdir(os.fsencode(tmp_path / "sorted" / "cluster_00")) == [b"caf\xe9.png"]


def test_a_zip_gives_its_bytes_and_stays_inside(tmp_path):
    names = ["../escape.png", "inside/a.png", "other/a.png"]
    packed = []
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name, pixels in zip(names, drawings(np.arange(3), 20)):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            packed.append(file.getvalue())
            archive.writestr(name, file.getvalue())
    run = sorted_run(tmp_path, names, np.zeros(3, int), kind="zip", path=str(tmp_path / "p.zip"))
    assert export(run, "folders", tmp_path / "out" / "sorted").n_images == 3
    found = content(tmp_path / "out")
    assert found == dict(zip(["sorted/cluster_00/escape.png", "sorted/cluster_00/inside__a.png", "sorted/cluster_00/other__a.png"], packed))
    with pytest.raises(InputError, match="--link copy"):
        export(run, "folders", tmp_path / "links", link="symlink")


def test_names_that_still_collide_become_numbers(tmp_path):
    names = ["a/x.png", "a__x.png", "b/x.png", "c/" + "y" * 240 + ".png"]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, str(i))
    run = sorted_run(tmp_path, names, np.zeros(4, int), kind="zip", path=str(tmp_path / "p.zip"))
    export(run, "folders", tmp_path / "sorted")
    found = {name.removeprefix("cluster_00/"): data for name, data in content(tmp_path / "sorted").items()}
    assert found == {"picture_000000.png": b"0", "picture_000001.png": b"1", "b__x.png": b"2", "picture_000003.png": b"3"}


def test_lists_are_read_where_they_point(tmp_path):
    pictures = drawings(np.zeros(2, int), 20)
    (tmp_path / "lists").mkdir()
    for path, pixels in zip([tmp_path / "far.png", tmp_path / "lists" / "near.png"], pictures):
        Image.fromarray(pixels).save(path)
    listed = [str(tmp_path / "far.png"), "near.png"]
    (tmp_path / "lists" / "list.txt").write_text("\n".join(listed))
    run = sorted_run(tmp_path, listed, np.zeros(2, int), kind="list", path=str(tmp_path / "lists" / "list.txt"))
    assert export(run, "folders", tmp_path / "sorted").n_images == 2
    assert sorted(content(tmp_path / "sorted")) == ["cluster_00/far.png", "cluster_00/near.png"]


def test_arrays_become_png_and_parquet_keeps_its_bytes(tmp_path):
    pictures = drawings(np.arange(3), 20)
    np.save(tmp_path / "a.npy", np.stack(pictures))
    run = sorted_run(tmp_path, ["#0", "#1", "#2"], np.arange(3), kind="array", path=str(tmp_path / "a.npy"))
    assert export(run, "folders", tmp_path / "sorted").n_images == 3
    for i, pixels in enumerate(pictures):
        with Image.open(tmp_path / "sorted" / f"cluster_0{i}" / f"row_00000{i}.png") as image:
            assert np.array_equal(np.asarray(image), pixels)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(InputError, match=r"a\.npy"):
        export(run, "folders", tmp_path / "again")

    file = io.BytesIO()
    Image.fromarray(pictures[0]).save(file, "JPEG")
    pq.write_table(pa.table({"image": [file.getvalue()]}), tmp_path / "a.parquet")
    run = sorted_run(tmp_path / "second", ["#0"], np.zeros(1, int), kind="parquet", path=str(tmp_path / "a.parquet"))
    assert export(run, "folders", tmp_path / "rows").n_images == 1
    assert content(tmp_path / "rows") == {"cluster_00/row_000000.jpg": file.getvalue()}


def test_a_csv_that_no_spreadsheet_runs(photos, tmp_path):
    run, _ = photos
    assert export(run, "csv", tmp_path / "out" / "t.csv").n_images == 8
    with open(tmp_path / "out" / "t.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "path", "cluster", "confidence", "p_0", "p_1", "p_2"]
    assert [row["path"] for row in rows] == ["'" + name if name[0] in "=@" else name for name in NAMES]
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert abs(sum(float(rows[0][f"p_{k}"]) for k in range(3)) - 1) < 1e-5
    assert export(run, "csv", tmp_path / "out" / "t.csv").n_images == 8
    assert os.listdir(tmp_path / "out") == ["t.csv"]


def test_parquet_is_the_same_table(photos, tmp_path):
    run, _ = photos
    export(run, "parquet", tmp_path / "t.parquet")
    export(run, "parquet", tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").equals(pq.read_table(run / "assignments.parquet"))


def test_mistakes_are_named(photos, tmp_path):
    run, _ = photos
    with pytest.raises(InputError, match="xml"):
        export(run, "xml", tmp_path / "x")
    with pytest.raises(InputError, match="move"):
        export(run, "folders", tmp_path / "x", link="move")
    with pytest.raises(InputError, match="is a folder"):
        export(run, "csv", tmp_path)
    with pytest.raises(InputError, match="no run folder"):
        export(tmp_path / "norun", "csv", tmp_path / "x.csv")


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_in_a_csv_is_a_formula(tmp_path, first):
    """Whatever a spreadsheet takes for the start of one is led by a quote; the name behind it is whole."""
    labels, name = np.arange(3), f"{first}1+cmd|x.png"
    assert export(sorted_run(tmp_path, ["a.png", name, "b-1.png"], labels), "csv", tmp_path / "out.csv").n_images == 3
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths == ["a.png", "'" + name, "b-1.png"]
