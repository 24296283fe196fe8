"""Files, lists and arrays as strangers have them: read, or refused in one line that says what to do; never waited for."""

import os
import socket
import warnings
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from coterie.errors import InputError
from coterie.images import open_images
from coterie.images.collection import open_rows
from coterie.images.names import listed_names


@pytest.fixture
def arrays():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)


@pytest.fixture
def pngs(tmp_path, arrays):
    (tmp_path / "photos").mkdir()
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / "photos" / f"bild ä{i}.png")
    return sorted((tmp_path / "photos").iterdir())


def refused(source, *words, **options):
    with pytest.raises(InputError) as error:
        open_images(source, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


def quietly(source, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_images(source, **options)


# ---- what is no file


@pytest.mark.parametrize("name", ["x", "x.txt", "x.zip", "x.parquet", "x.npy", "x.npz"])
def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    os.mkfifo(name)
    refused(name, name, "pipe")
    os.unlink(name)
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind(name)
        refused(name, name)
    os.unlink(name)
    os.symlink("/dev/zero", name)
    refused(name, name)


def test_pipes_among_files_are_problems(tmp_path, pngs, monkeypatch):
    os.mkfifo(tmp_path / "photos" / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "photos" / "zero.png")
    images = open_images(tmp_path / "photos", 8, tmp_path / "cache")
    assert [problem.path for problem in images.problems] == ["pipe.png", "zero.png"] and len(images) == 5
    images = open_images([pngs[0], tmp_path / "photos" / "pipe.png"], 8, tmp_path / "cache")
    assert images.ids_of_items.tolist() == [0, -1]


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "\ud800.zip", "~nobody-of-this-name/x", "a/" * 3000])
def test_names_that_are_none(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "in the current folder.png")
    refused(name, "empty name" if not name else "does not exist" if len(name) < 100 else "x/"[name[1] == "/"])


def test_names_in_a_list_that_are_none(tmp_path, pngs):
    images = open_images([pngs[0], "a\0b.png", "\ud800.png", "", "x" * 5000, None], 8, tmp_path / "cache")
    assert images.ids_of_items.tolist() == [0, -1, -1, -1, -1, -1] and len(images.problems) == 5
    assert all("\ud800" not in problem.path for problem in images.problems)


# ---- lists


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("between", ["\n", "\r\n", "\0"])
def test_lists_in_any_encoding(tmp_path, pngs, encoding, between):
    if between == "\0" and encoding.startswith(("utf-16-", "utf-32")):
        pytest.skip("nobody writes it")
    names = [str(path) for path in pngs]
    (tmp_path / "list.txt").write_bytes((between.join(names) + between).encode(encoding))
    images = open_images(tmp_path / "list.txt", 8, tmp_path / "cache")
    assert images.paths == names and not images.problems


def test_windows_marks_lists_that_are_big_endian():
    assert listed_names("\ufeffä.png\r\nb.png".encode("utf-16-be"), "l") == ["ä.png", "b.png"]
    assert listed_names(b"a\nb.png\0c.png\0", "l") == ["a\nb.png", "c.png"], "a name may hold a line break where NULs part names"
    assert listed_names("Ā.png\nb.png".encode(), "l") == ["Ā.png", "b.png"]


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xfe\xff\xd8\x00", b"\xff\xfe\0\0abc", bytes(range(256)), b"\0\0\0", b"\n\n"])
def test_lists_of_nonsense(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    refused(tmp_path / "list.txt", "list.txt", cache=tmp_path / "cache")


# ---- arrays


@pytest.mark.parametrize("shape", [(32, 24, 3), (32, 24, 1), (32, 24, 4), (32, 24)])
def test_one_picture_is_not_taken_for_many(shape):
    refused(np.zeros(shape, np.uint8), str(shape), "one picture", "array[None]")


@pytest.mark.parametrize("shape", [(5, 8, 12, 4), (5, 4, 8, 12), (5, 8, 12, 2), (5, 1, 1, 8, 12), (5,), (5, 0, 12), (0, 8, 12)])
def test_shapes_that_are_refused(shape):
    refused(np.zeros(shape, np.uint8), str(shape) if len(shape) > 1 else "shape")


def test_channels_first_and_grey(arrays):
    for grey in (arrays[:, None, :, :, 0], arrays[..., :1], arrays[..., 0], torch.from_numpy(arrays[:, None, :, :, 0].copy())):
        assert np.array_equal(open_images(grey).pixels.numpy(), np.repeat(arrays[..., :1], 3, 3))
    assert np.array_equal(open_images(arrays.transpose(0, 3, 1, 2)).pixels.numpy(), arrays)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_floats_numpy_lacks(arrays, kind):
    values = torch.from_numpy(arrays).double() / 255
    images = quietly(values.to(kind).requires_grad_())
    assert (images.pixels.int() - torch.from_numpy(arrays).int()).abs().max() <= 1
    assert torch.equal(open_rows(values[:, 0, 0].to(kind)).pixels, values[:, 0, 0].to(kind).float())


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, 8, 8).to_sparse(), torch.zeros(2, 8, 8, dtype=torch.complex64), torch.zeros(2, 8, 8, device="meta")],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_without_plain_values(tensor):
    refused(tensor, "plain numbers" if tensor.dtype == torch.float32 else "floats in [0, 1]")


@pytest.mark.parametrize("size", [None, 8, 4])
def test_read_only_arrays(arrays, size):
    grey = arrays[..., 0].copy()
    for array in (arrays, grey, arrays.astype(np.float32) / 255):
        array.flags.writeable = False
        assert len(quietly(array, size=size)) == 5
    rows = np.zeros((5, 3), np.float32)
    rows.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_rows(rows)) == 5


def test_arrays_of_objects_are_lists(tmp_path, arrays, pngs):
    pictures = np.empty(3, object)
    pictures[:] = [Image.fromarray(arrays[0]), None, arrays[1]]
    assert open_images(pictures).ids_of_items.tolist() == [0, -1, 1]
    assert open_images(np.array([str(path) for path in pngs]), 8, tmp_path / "cache").paths == [str(path) for path in pngs]


# ---- .npy and .npz


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "shape",
    [
        "(-1, 8, 8)",
        "(True, 8, 8)",
        "(9, -8, 8)",
        "(10000000000000, 8, 8)",
        "(2.0, 8)",
        "None",
        "()",
        "(1" + "0" * 40 + ", 8, 8)",
        "((",
        "'x'",
    ],
)
def test_headers_that_promise_what_cannot_be(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(header(shape) + bytes(64))
    refused(tmp_path / "a.npy", "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header(shape) + bytes(64))
    refused(tmp_path / "a.npz", "a.npz")


def test_npz_with_other_things_beside(tmp_path, arrays):
    names = np.array(["a", None, {}], object)
    np.savez(tmp_path / "named.npz", names=names, images=arrays, x=np.zeros((5, 7)))
    np.savez(tmp_path / "alone.npz", names=names, pictures=arrays, labels=np.arange(5))
    with zipfile.ZipFile(tmp_path / "alone.npz", "a") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("torn.npy", b"\x93NUMPY")
    for name in ("named.npz", "alone.npz"):
        assert np.array_equal(open_images(tmp_path / name).pixels.numpy(), arrays)


@pytest.mark.parametrize(
    "name, content", [("images", b"no array"), ("other", b"no array"), ("images.npy", b""), ("images.npy", b"\x93NUMPY\x01\x00")]
)
def test_npz_whose_member_is_no_array(tmp_path, name, content):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(name, content)
    refused(tmp_path / "a.npz", "a.npz", "savez")


def test_npz_of_objects(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], object))
    refused(tmp_path / "a.npz", "Python objects", "uint8")


# ---- parquet


def parquet(tmp_path, column):
    pq.write_table(pa.table({"label": list(range(len(column))), "image": column}), tmp_path / "a.parquet", row_group_size=2)
    return tmp_path / "a.parquet"


def test_parquet_types(tmp_path, pngs, arrays):
    data = [path.read_bytes() for path in pngs]
    kinds = [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())]
    kinds += [pa.binary_view()] if hasattr(pa, "binary_view") else []
    kinds += [pa.struct({"bytes": kind, "path": pa.string()}) for kind in (pa.binary(), pa.large_binary())]
    for kind in kinds:
        values = [{"bytes": one, "path": "x"} for one in data] if pa.types.is_struct(kind) else data
        column = pa.array(values, pa.binary()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(values, kind)
        images = open_images(parquet(tmp_path, column), 8, tmp_path / "cache")
        assert np.array_equal(images.pixels.numpy(), arrays[:, :, 2:10]), kind


@pytest.mark.parametrize("kind", [pa.binary(), pa.null()])
def test_parquet_with_paths_in_place_of_bytes(tmp_path, pngs, kind):
    column = pa.array([{"bytes": None, "path": str(path)} for path in pngs], pa.struct({"bytes": kind, "path": pa.string()}))
    refused(parquet(tmp_path, column), "none of its 5", "only the path", "embedded", cache=tmp_path / "cache")


@pytest.mark.parametrize("column", [["a.png"], [[1, 2]], [3], [{"x": b"1"}]], ids=str)
def test_parquet_whose_image_is_something_else(tmp_path, column):
    refused(parquet(tmp_path, pa.array(column)), "no column `image`", "image (", cache=tmp_path / "cache")


# ---- zip


def packed(path, **changes):
    """A zip of one picture and one text, its bytes changed at every place where `old` stands."""
    with zipfile.ZipFile(path, "w") as archive:
        Image.new("RGB", (8, 8)).save(path.with_suffix(".png"))
        archive.write(path.with_suffix(".png"), "ä.png")
    data = path.read_bytes()
    for old, new in changes.values():
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def test_zip_names_and_versions(tmp_path):
    assert len(open_images(packed(tmp_path / "a.zip"), 8, tmp_path / "cache")) == 1
    refused(packed(tmp_path / "b.zip", name=("ä".encode(), b"\xff\xff")), "b.zip", "make it again")
    new = packed(tmp_path / "c.zip", central=(b"PK\x01\x02\x14\x03\x14\x00", b"PK\x01\x02\x14\x03\xff\x00"))
    refused(new, "c.zip", cache=tmp_path / "cache")
    odd = packed(tmp_path / "d.zip", method=(b"\x00\x08\x00\x00", b"\x00\x08\x63\x00"))  # compressed in a way nobody knows
    refused(odd, "d.zip", cache=tmp_path / "cache")
