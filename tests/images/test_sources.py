"""Every kind of SOURCE gives the same pictures in a stable order; every oddity is read, counted, set aside or named."""

import io
import os
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coterie.errors import InputError
from coterie.images import Images, named, open_images, real_path
from coterie.images.names import shown


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, arrays):
    root = tmp_path / "pictures"
    (root / "b").mkdir(parents=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(root / ("b" if i > 3 else ".") / f"{i}.png")
    return root


NAMES = ["0.png", "1.png", "2.png", "3.png", "b/4.png", "b/5.png"]


def same(images, arrays):
    return np.array_equal(images.pixels.numpy(), arrays)


def test_a_folder(folder, arrays, cache):
    images = open_images(folder, 16, cache)
    assert images.paths == NAMES and images.kind == "folder" and images.name == str(folder)
    assert same(images, arrays) and images.pixels.dtype == torch.uint8 and images.problems == []


def test_home_is_expanded(folder, cache, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_images("~/pictures", 16, cache)) == 6


def test_what_is_no_picture_is_ignored_or_counted(folder, cache):
    for name in ("notes.txt", ".DS_Store", "._0.png", ".hidden.png", "a.mp4", "b.MOV", "c.CR2"):
        (folder / name).write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.png").write_bytes(b"x")
    images = open_images(folder, 16, cache)
    assert images.paths == NAMES and images.skipped == {"video": 2, "raw": 1} and not images.problems


def test_link_loops_are_followed_once_and_links_to_files_are_read(folder, tmp_path, cache):
    (tmp_path / "other").mkdir()
    os.symlink(folder / "0.png", folder / "z.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "y.png")
    os.symlink(folder, folder / "a loop")
    os.symlink(folder / "b", folder / "a link to b")
    os.symlink(folder / "b", folder / "y link to b")
    os.symlink(tmp_path / "other", folder / "c")
    os.symlink(tmp_path / "other", folder / "d")
    os.symlink("self.png", folder / "self.png")
    images = open_images(folder, 16, cache)
    assert [path for path in images.paths if path[0] not in "cd"] == [*NAMES, "z.png"]
    assert sum("y.png" in path for path in images.paths) == 1
    assert [problem.path for problem in images.problems] == ["self.png"]
    assert images.n_duplicates == 1


def test_a_pipe_is_not_waited_for(folder, cache):
    os.mkfifo(folder / "pipe.png")
    assert [problem.path for problem in open_images(folder, 16, cache).problems] == ["pipe.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_closed_files_and_folders_are_problems_until_they_are_opened(folder, cache):
    (folder / "0.png").chmod(0)
    (folder / "b").chmod(0)
    assert [problem.path for problem in open_images(folder, 16, cache).problems] == ["0.png", "b/"]
    (folder / "b").chmod(0o755)
    (folder / "0.png").chmod(0o644)
    assert open_images(folder, 16, cache).paths == NAMES


def test_bad_pictures_are_set_aside_and_ids_close_up(folder, arrays, cache):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").write_bytes(b"")
    (folder / "b" / "5.png").write_text("not a picture")
    images = open_images(folder, 16, cache)
    assert images.paths == ["0.png", "3.png", "b/4.png"] and same(images, arrays[[0, 3, 4]])
    assert [problem.path for problem in images.problems] == ["1.png", "2.png", "b/5.png"]
    assert all(problem.reason for problem in images.problems)
    assert [int(thumb[0, 0, 0]) for thumb in images.thumbnails([1, 2], 16)] == arrays[[3, 4], 0, 0, 0].tolist()


def test_names_that_are_not_utf8_survive_and_lead_back(tmp_path, cache):
    names = [b"\xff\xe9.png", b"\\xff.png", b"back\\slash.png", b"\\x5cxff.png", "é[b].png".encode(), b"new\nline.png", b"\\\\xffa.png"]
    root = tmp_path / "odd"
    root.mkdir()
    for i, name in enumerate(names):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            Image.new("RGB", (8, 8), (i, i, i)).save(file, "PNG")
    images = open_images(root, 8, cache)
    assert len(set(images.paths)) == len(names) and not images.problems
    assert r"\xff\xe9.png" in images.paths and r"back\slash.png" in images.paths
    for i, path in enumerate(images.paths):
        path.encode("utf-8")
        assert np.asarray(Image.open(real_path(root, path)))[0, 0, 0] == images.pixels[i, 0, 0, 0]


def test_shown_names_are_invertible():
    for name in (b"\\", b"\\x", b"\\xa", b"\\xab", b"\\\xab", b"\\x5c", b"\\x5c\\xff", b"\xff\\", "日本".encode()):
        assert os.fsencode(real_path("", shown(os.fsdecode(name)))) == name


def test_a_zip_is_read_in_place(folder, arrays, tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in NAMES:
            archive.write(folder / name, f"inside/{name}")
        archive.write(folder / "0.png", "../escape.png")
        archive.writestr("/absolute.png", (folder / "0.png").read_bytes())
        archive.writestr("__MACOSX/._0.png", b"x")
        archive.writestr("film.mp4", b"x")
    before = set(tmp_path.rglob("*"))
    images = open_images(tmp_path / "p.zip", 16, cache)
    assert images.paths == ["../escape.png", "/absolute.png", *(f"inside/{name}" for name in NAMES)]
    assert same(images[2:], arrays) and images.kind == "zip" and images.skipped == {"video": 1} and images.n_duplicates == 2
    assert all(cache in path.parents or path == cache for path in set(tmp_path.rglob("*")) - before)
    assert images.thumbnails([2], 16)[0].shape == (16, 16, 3)


def test_a_damaged_zip_member_is_a_problem(folder, tmp_path, cache):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(folder / "0.png", "0.png")
        archive.write(folder / "1.png", "1.png")
    raw = bytearray((tmp_path / "p.zip").read_bytes())
    raw[200] ^= 255
    (tmp_path / "p.zip").write_bytes(bytes(raw))
    images = open_images(tmp_path / "p.zip", 16, cache)
    assert images.paths == ["1.png"] and images.problems[0].path == "0.png"


def test_a_list_as_written(folder, arrays, tmp_path, cache, monkeypatch):
    monkeypatch.chdir(folder.parent)
    lines = ["pictures/1.png", str(folder / "0.png"), "", "beside.png", "gone.png", "film.avi"]
    (tmp_path / "lists").mkdir()
    Image.fromarray(arrays[5]).save(tmp_path / "lists" / "beside.png")
    (tmp_path / "lists" / "l.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    images = open_images("lists/l.txt", 16, cache)
    assert images.paths == sorted([str(folder / "0.png"), "beside.png", "pictures/1.png"]) and images.kind == "list"
    assert same(images, arrays[[0, 5, 1]]) and images.skipped == {"video": 1}
    assert [problem.path for problem in images.problems] == ["gone.png"]


def test_a_python_list_keeps_its_order(folder, arrays, cache):
    images = open_images([folder / "3.png", str(folder / "1.png")], 16, cache)
    assert same(images, arrays[[3, 1]]) and images.paths == [str(folder / "3.png"), str(folder / "1.png")]


@pytest.mark.parametrize("struct", [False, True])
def test_parquet(folder, arrays, tmp_path, cache, struct):
    data = [(folder / name).read_bytes() for name in NAMES] + [None]
    column = [{"bytes": one, "path": None} for one in data] if struct else data
    pq.write_table(pa.table({"label": [1] * 7, "image": column}), tmp_path / "a.parquet", row_group_size=2)
    images = open_images(tmp_path / "a.parquet", 16, cache)
    assert images.paths == [f"#{i}" for i in range(6)] and same(images, arrays) and images.kind == "parquet"
    assert images.problems == [("#6", "empty file")]


@pytest.mark.parametrize("size", [None, 8, 32])
def test_arrays(tmp_path, arrays, size):
    np.save(tmp_path / "a.npy", arrays)
    np.savez(tmp_path / "a.npz", images=arrays, labels=np.arange(6))
    found = [open_images(one, size) for one in (tmp_path / "a.npy", tmp_path / "a.npz", arrays, torch.from_numpy(arrays))]
    found.append(open_images(torch.from_numpy(arrays).permute(0, 3, 1, 2), size))
    found.append(open_images(arrays.astype(np.float32) / 255, size))
    for images in found:
        assert images.pixels.shape == (6, size or 16, size or 16, 3) and torch.equal(images.pixels, found[0].pixels)
        assert images.paths == [f"#{i}" for i in range(6)] and images.kind == "array"
        assert images.fingerprint == open_images(arrays).fingerprint
    assert size or same(found[0], arrays)
    assert size != 8 or abs(float(found[0].pixels.float().mean()) - arrays.mean()) < 1


def test_grey_and_wide_arrays():
    grey = np.random.default_rng(0).integers(0, 256, (3, 8, 12), dtype=np.uint8)
    assert same(open_images(grey), np.repeat(grey[..., None], 3, 3))
    assert same(open_images(grey, 8), np.repeat(grey[:, :, 2:10, None], 3, 3))
    assert same(open_images(grey > 100), np.repeat((grey[..., None] > 100) * np.uint8(255), 3, 3))


def test_digits():
    images = open_images("digits")
    assert images.pixels.shape == (1797, 8, 8, 3) and images.n_classes == 10 and images.kind == "named"
    assert int(images.pixels.max()) == 255 and int(images.pixels[0, 0, 2, 0]) == round(5 * 255 / 16)
    larger = open_images("digits", 16)
    assert larger.pixels.shape[1:] == (16, 16, 3) and larger.fingerprint == images.fingerprint
    assert larger.thumbnails([0], 64)[0].shape == (8, 8, 3)
    assert not any("label" in name for name in vars(images))


class Pairs(torch.utils.data.Dataset):
    def __init__(self, pictures):
        self.pictures = pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        return self.pictures[i], 7


def test_lists_and_datasets_of_pictures(arrays):
    pictures = [Image.fromarray(array) for array in arrays]
    tensors = [torch.from_numpy(array).permute(2, 0, 1).float() / 255 for array in arrays]
    for source, kind in (
        (pictures, "array"),
        (list(arrays), "array"),
        (Pairs(pictures), "dataset"),
        (Pairs(tensors), "dataset"),
        ([{"image": picture, "label": 0} for picture in pictures], "array"),
    ):
        images = open_images(source)
        assert same(images, arrays) and images.kind == kind and images.fingerprint == open_images(pictures, 8).fingerprint
    assert open_images([*pictures, Image.new("RGB", (30, 20))]).size == (96, 96)
    broken = io.BytesIO()
    pictures[0].save(broken, "PNG")
    images = open_images([Image.open(io.BytesIO(broken.getvalue()[:500])), *pictures], 16)
    assert same(images, arrays) and images.paths[0] == "#1" and images.problems[0].path == "#0"


def test_images_pass_through(arrays):
    images = open_images(arrays)
    assert open_images(images) is images and isinstance(images, Images)
    with pytest.raises(InputError, match="size=8"):
        open_images(images, 8)


def refused(source, *words, **options):
    with pytest.raises(InputError) as error:
        open_images(source, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_mistakes_are_named(tmp_path, cache):
    (tmp_path / "none").mkdir()
    refused(tmp_path / "nowhere", "nowhere", "does not exist")
    refused(tmp_path / "none", "none", "no pictures", cache=cache)
    (tmp_path / "none" / "a.mp4").write_bytes(b"")
    refused(tmp_path / "none", "none", "video", cache=cache)
    (tmp_path / "none" / "a.png").write_bytes(b"")
    refused(tmp_path / "none", "none", "a.png", "empty", cache=cache)
    refused(tmp_path / "none" / "a.png", "a.png", "folder")
    for name in ("a.zip", "a.parquet", "a.npy", "a.npz"):
        (tmp_path / name).write_bytes(b"nonsense")
        refused(tmp_path / name, name)
    (tmp_path / "a.txt").write_text("\n\n")
    refused(tmp_path / "a.txt", "a.txt")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    refused(tmp_path / "b.parquet", "b.parquet", "image", "x")
    for name, array, word in (
        ("shape.npy", np.zeros((5, 4)), "shape"),
        ("nan.npy", np.full((40, 8, 8), np.nan), "NaN"),
        ("range.npy", np.full((4, 8, 8), 3.0), "[0, 1]"),
        ("ints.npy", np.full((4, 8, 8), 300), "0..255"),
        ("empty.npy", np.zeros((0, 8, 8)), "no pictures"),
        ("object.npy", np.array([{}]), "plain numbers"),
    ):
        np.save(tmp_path / name, array, allow_pickle=True)
        refused(tmp_path / name, name, word)
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 4, 4)), b=np.zeros((2, 4, 4)))
    refused(tmp_path / "two.npz", "two.npz", "a, b")
    refused([], "list")
    refused(3, "int")
    refused("digits", "size=0", size=0)


def test_sets_that_cannot_be_had_say_what_to_do(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.CIFAR10, "download", offline)
    refused("torchvision:CIFAR10/test", "CIFAR10", str(tmp_path), "COTERIE_DATA", "no network")
    refused("torchvision:CIFAR11", "CIFAR11", "CIFAR10")
    refused("torchvision:CIFAR10/dev", "dev", "train")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused("hf:some/thing", "hf:some/thing", "pip install coterie[hf]")


def test_a_torchvision_set_is_found_below_coterie_data(tmp_path, monkeypatch, arrays):
    from torchvision import datasets

    class Tiny:
        classes = ["a", "b"]

        def __init__(self, root, train=True, download=False):
            assert root == str(tmp_path) and not download
            self.data, self.targets = (arrays[:4], [0, 1, 0, 1]) if train else (arrays[4:], [1, 0])

    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "MNIST", Tiny)
    images = open_images("torchvision:MNIST/all")
    assert same(images, arrays) and images.n_classes == 2 and images.name == "torchvision:MNIST/all"
    assert same(open_images("torchvision:MNIST/test"), arrays[4:]) and same(open_images("torchvision:MNIST"), arrays[:4])
    assert named.load_named("torchvision:MNIST/all").labels.tolist() == [0, 1, 0, 1, 1, 0]


def test_names_with_line_breaks_are_told_in_one_line(tmp_path):
    """A stray NUL makes a list one of NUL-separated names: none of them is there."""
    (tmp_path / "list.txt").write_bytes(b"a.png\nb.png\0c.png\nd.png\n")
    with pytest.raises(InputError, match="list.txt") as error:
        open_images(tmp_path / "list.txt", 16, tmp_path / "cache")
    assert "\n" not in str(error.value) and "a.png" in str(error.value)
