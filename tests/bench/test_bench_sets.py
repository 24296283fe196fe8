"""Sets of a table: packed files are read as they were packed, and what is missing is said with what to do."""

import io

import numpy as np
import pytest
from PIL import Image

from coterie.bench.sets import Missing, known, prepared, title
from coterie.errors import InputError
from coterie.images.sheets import load_sheets


def sheets(path, n: int = 11, side: int = 8, rows: int = 2, columns: int = 3) -> np.ndarray:
    """A packed colour set of flat tiles, which JPEG keeps; the pictures that went in."""
    colours = np.linspace(20, 230, 3 * n).reshape(n, 3).round()
    pictures = np.broadcast_to(colours[:, None, None], (n, side, side, 3)).astype(np.uint8)
    each, blobs = rows * columns, []
    for start in range(0, n, each):
        some = pictures[start : start + each]
        some = np.concatenate([some, np.zeros((each - len(some), side, side, 3), np.uint8)])
        sheet = some.reshape(rows, columns, side, side, 3).transpose(0, 2, 1, 3, 4).reshape(rows * side, columns * side, 3)
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=100, subsampling=0)
        blobs.append(np.frombuffer(file.getvalue(), np.uint8))
    labels = np.arange(n) % 3
    np.savez(
        path, tile=np.array([side, side]), grid=np.array([rows, columns]), train_bytes=np.concatenate(blobs),
        train_offsets=np.cumsum([0, *map(len, blobs)]), train_labels=labels.astype(np.uint8), class_names=np.array(["a", "b", "c"]),
        train_coarse_labels=(labels // 2).astype(np.uint8), coarse_names=np.array(["ab", "c"]),
    )  # fmt: skip
    return pictures


def test_tiles_come_back_in_order(tmp_path):
    pictures = sheets(tmp_path / "cifar10.npz")
    found, labels, names = load_sheets(tmp_path / "cifar10.npz")
    assert found.shape == pictures.shape and np.abs(found.astype(int) - pictures).max() <= 3
    assert labels.tolist() == (np.arange(11) % 3).tolist() and names == ["a", "b", "c"]
    assert load_sheets(tmp_path / "cifar10.npz", labels="coarse_labels")[2] == ["ab", "c"]


def test_a_set_is_written_once_with_its_labels_beside(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_BENCH_DATA", str(tmp_path))
    pictures = sheets(tmp_path / "cifar10.npz")
    made = prepared("cifar10:7", None, tmp_path / "sets")
    assert np.load(made.pictures, allow_pickle=False).shape == pictures[:7].shape
    assert made.labels.read_text().split() == ["path,label", *(f"#{i},{'abc'[i % 3]}" for i in range(7))]
    (tmp_path / "cifar10.npz").unlink()
    assert prepared("cifar10:7", None, tmp_path / "sets") == made, "what is there is taken"


def test_what_is_missing_is_said_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("COTERIE_BENCH_DATA", raising=False)
    monkeypatch.delenv("COTERIE_DATA", raising=False)
    for data in (None, tmp_path):
        with pytest.raises(
            Missing, match="no mnist.npz in .*--data or COTERIE_BENCH_DATA is to name .*COTERIE_DATA a folder with torchvision's"
        ):
            prepared("mnist", data, tmp_path / "sets")
    (tmp_path / "mnist.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="mnist.npz is no packed set with a part train"):
        prepared("mnist", tmp_path, tmp_path / "sets")


@pytest.mark.parametrize("name", ["nowhere", "digits:", "digits:-1", "digits:0", "digits:x", ""])
def test_a_name_that_is_none(name):
    if name == "digits:":
        assert known(name) == known("digits")
        return
    with pytest.raises(InputError, match="no set is called .*there are digits, mnist"):
        known(name)


def test_names_as_a_page_has_them():
    assert title("fashion_mnist:10000") == "10,000 of Fashion-MNIST" and title("digits") == "digits"
