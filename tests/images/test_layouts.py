"""CUB-200-2011, ImageNet by wnids and STL-10 with its unlabelled part, from files that the test writes below COTERIE_DATA."""

import hashlib

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from coterie.errors import InputError
from coterie.images import named, open_images


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (shade, 0, 0)).save(path)


@pytest.fixture
def cub(root):
    home = root / "CUB_200_2011"
    names = ["001.Albatross/a.jpg", "001.Albatross/b.jpg", "002.Auklet/c.jpg", "002.Auklet/d.jpg"]
    for i, name in enumerate(names):
        picture(home / "images" / name, 60 * i)
    (home / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (home / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 2\n")
    (home / "train_test_split.txt").write_text("1 1\n2 0\n3 0\n4 1\n")
    return home


def test_cub_by_its_own_split(cub):
    images = open_images("cub200/test", size=16)
    assert len(images) == 2 and images.kind == "named" and images.size == (16, 16)
    assert named.load_named("cub200/test").labels.tolist() == [0, 1]
    assert named.load_named("cub200/all").labels.tolist() == [0, 0, 1, 1]
    assert [path[-5:] for path in named.load_named("cub200").pictures] == ["a.jpg", "d.jpg"], "train, where no part is named"
    shades = images.pixels.float().mean((1, 2))[:, 0]
    assert abs(shades[0] - 60) < 4 and abs(shades[1] - 120) < 4, "b and c, in the order of images.txt"


def test_what_is_wrong_with_cub_is_one_line(cub):
    (cub / "images" / "002.Auklet" / "c.jpg").unlink()
    with pytest.raises(InputError, match="1 of its 2 images are missing"):
        named.load_named("cub200/test")
    (cub / "train_test_split.txt").write_text("1 1\n")
    with pytest.raises(InputError, match="do not name the same images"):
        named.load_named("cub200/test")
    (cub / "images.txt").unlink()
    with pytest.raises(InputError, match="images.txt cannot be read"):
        named.load_named("cub200/test")
    with pytest.raises(InputError, match="val is none of train"):
        named.load_named("cub200/val")


def test_without_files_it_says_where_they_belong(root):
    with pytest.raises(InputError, match="COTERIE_DATA"):
        named.load_named("cub200/train")


def test_classes_of_imagenet_in_the_order_of_the_list(root, tmp_path):
    for shade, wnid in enumerate(("n00000001", "n00000002", "n00000003")):
        for i in range(2):
            picture(root / "imagenet" / "val" / wnid / f"{i}.JPEG", 60 * shade)
    listed = tmp_path / "two.txt"
    listed.write_text("# two of them\nn00000003 a thing\nn00000001\n")
    found = named.load_named(f"wnids:{listed}/val")
    assert found.labels.tolist() == [0, 0, 1, 1] and found.n_classes == 2
    assert all("n00000003" in path for path in found.pictures[:2])
    assert len(open_images(f"wnids:{listed}/val", size=16)) == 4
    for text, says in (("dog\n", "no list of wnids"), ("n00000001\nn00000001\n", "each once"), ("n00000009\n", "no images in")):
        listed.write_text(text)
        with pytest.raises(InputError, match=says):
            named.load_named(f"wnids:{listed}/val")
    with pytest.raises(InputError, match="wnids:FILE/train"):
        named.load_named(f"wnids:{listed}/magic")


def test_stl10_with_its_unlabelled_part(root, monkeypatch):
    home = root / "stl10_binary"
    home.mkdir(parents=True)
    rng, sums = np.random.default_rng(0), {}
    written = {"train_X.bin": 3, "unlabeled_X.bin": 2, "test_X.bin": 1}
    files = {name: rng.integers(0, 255, (n, 3, 96, 96), dtype=np.uint8) for name, n in written.items()}
    files |= {"train_y.bin": np.array([1, 10, 2], np.uint8), "test_y.bin": np.array([3], np.uint8)}
    for name, values in files.items():
        values.tofile(home / name)
        sums[name] = hashlib.md5((home / name).read_bytes()).hexdigest()
    (home / "class_names.txt").write_text("\n".join("abcdefghij"))
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(datasets.STL10, part, [[name, sums.get(name, "")] for name, _ in getattr(datasets.STL10, part)])
    found = named.load_named("torchvision:STL10/train+unlabeled")
    assert found.labels.tolist() == [0, 9, 1, -1, -1] and len(open_images("torchvision:STL10/train+unlabeled")) == 5
    (home / "unlabeled_X.bin").write_bytes(b"damaged")
    with pytest.raises(InputError, match="is not in"):
        named.load_named("torchvision:STL10/train+unlabeled")
