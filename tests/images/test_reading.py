"""Whole files in memory are bounded by bytes; what decoders say, and how they die, stays with the picture it is about."""

import io
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from coterie.errors import InputError
from coterie.images import open_images, reading, sources, store, workers


def picture(size=16, kind="PNG", shade=100):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


class Counted(bytes):
    """Bytes that are counted while they are alive."""

    held = most = 0
    lock = threading.Lock()

    def __new__(cls, data):
        made = super().__new__(cls, data)
        with cls.lock:
            cls.held += len(made)
            cls.most = max(cls.most, cls.held)
        return made

    def __del__(self):
        with type(self).lock:
            type(self).held -= len(self)


@pytest.fixture
def counted(monkeypatch):
    read = sources.Files.__call__
    monkeypatch.setattr(sources.Files, "__call__", lambda self, i: Counted(read(self, i)))
    monkeypatch.setattr(store.machine, "cores", lambda: 2)
    Counted.held = Counted.most = 0
    return Counted


def links(folder, data, n):
    folder.mkdir()
    (folder / "original").write_bytes(data)
    for i in range(n):
        os.link(folder / "original", folder / f"{i:03}.bmp")
    (folder / "original").unlink()
    return folder


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("side, n", [(20, 300), (120, 60), (400, 12)])
def test_files_in_memory_are_bounded_by_bytes(tmp_path, monkeypatch, counted, side, n, few):
    monkeypatch.setattr(reading, "PER_CORE", 100_000)
    monkeypatch.setattr(reading, "PIECE", 25_000)
    monkeypatch.setattr(workers, "MANY", 10**6 if few else 0)
    data = picture(side, "BMP")
    images = open_images(links(tmp_path / "p", data, n), 8, tmp_path / "cache")
    assert len(images) == n and (images.pixels == images.pixels[0]).all()
    assert 0 < counted.most <= max(2 * 100_000, len(data)) and counted.held == 0


def test_rows_of_a_table_whose_sizes_are_unknown_are_bounded_too(monkeypatch):
    data, held = picture(120, "BMP"), []
    source = sources.Source("rows", "parquet", [sources.Item(f"#{i}", -1) for i in range(40)], lambda i: Counted(data))
    Counted.held = Counted.most = 0
    monkeypatch.setattr(reading, "PIECE", 3 * len(data))
    chunk = reading.decoded(
        source, 0, 40, 10**9, reading.Budget(10**9), lambda files: held.append(len(files)) or workers.Chunk(b"", b"", [])
    )
    assert sum(held) == 40 and max(held) == 3 and Counted.most <= 4 * len(data) and chunk.rows == 0


def test_a_budget_waits_and_lets_one_large_file_through():
    budget, order = reading.Budget(100), []
    assert budget.take(60, wait=False) and not budget.take(50, wait=False)
    thread = threading.Thread(target=lambda: (budget.take(1000, wait=True), order.append("large"), budget.give(1000)))
    thread.start()
    time.sleep(0.05)
    order.append("given back")
    budget.give(60)
    thread.join(10)
    assert order == ["given back", "large"] and budget.take(100, wait=False)


def test_a_file_that_is_too_large_takes_no_room(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(4):
        with open(tmp_path / "p" / f"{i}.png", "wb") as file:
            file.truncate(1 << 40)  # a hole
    (tmp_path / "p" / "z.png").write_bytes(picture())
    images = open_images(tmp_path / "p", 8, tmp_path / "cache")
    assert images.paths == ["z.png"] and all("more than a picture" in problem.reason for problem in images.problems)


def damaged_tiff(compression, fill):
    """A TIFF of which two thirds of the data are `fill`: libtiff complains on file descriptor 2, and reads it nevertheless or not."""
    file = io.BytesIO()
    stripes = Image.fromarray(np.add.outer(np.arange(64), np.arange(64)) % 7 > 2)
    (stripes if compression == "group4" else stripes.convert("L")).save(file, "TIFF", compression=compression)
    data = bytearray(file.getvalue())
    tags = Image.open(io.BytesIO(bytes(data))).tag_v2
    start, end = tags[273][0] + tags[279][0] // 3, tags[273][0] + tags[279][0]
    data[start:end] = bytes([fill]) * (end - start)
    return bytes(data)


@pytest.mark.parametrize("few", [True, False])
def test_what_libtiff_says_is_kept_with_the_file_and_not_on_the_terminal(tmp_path, monkeypatch, capfd, few):
    monkeypatch.setattr(workers, "MANY", 10**6 if few else 0)
    (tmp_path / "p").mkdir()
    for name, compression, fill in (("a", "group4", 0x55), ("b", "tiff_lzw", 255), ("c", "tiff_deflate", 255)):
        (tmp_path / "p" / f"{name}.tif").write_bytes(damaged_tiff(compression, fill))
    (tmp_path / "p" / "d.png").write_bytes(picture())
    images = open_images(tmp_path / "p", 32, tmp_path / "cache")
    told = dict([*images.problems, *images.remarks])
    assert list(dict(images.remarks)) == ["a.tif"] and list(told) == ["b.tif", "c.tif", "a.tif"]
    assert "Fax4Decode" in told["a.tif"] and "ZIPDecode" in told["c.tif"] and "the decoder said: " in told["b.tif"]
    images.thumbnails(range(len(images)), 32)
    assert capfd.readouterr() == ("", "")


def test_what_is_read_although_something_was_said_is_no_problem(tmp_path, monkeypatch):
    decoded = workers.decoded

    def saying(files, *args):
        chunk = decoded(files, *args)
        return chunk._replace(reads=[read._replace(said="odd tag") for read in chunk.reads])

    monkeypatch.setattr(workers, "decoded", saying)
    (tmp_path / "p").mkdir()
    for i in range(2):
        (tmp_path / "p" / f"{i}.png").write_bytes(picture(40))
    for _ in range(2):  # the second from the store
        images = open_images(tmp_path / "p", 8, tmp_path / "cache")
        assert len(images) == 2 and not images.problems and images.remarks == [("0.png", "odd tag"), ("1.png", "odd tag")]
    assert images.thumbnails([0], 20)[0].shape == (8, 8, 3), "the store's: the original is not decoded again"
    assert images[[1]].thumbnails([0], 20)[0].shape == (20, 20, 3), "a subset is free to"


KILLED = "import os, sys; from coterie.images import decode, workers; square = decode.square\ndef died(data, *args):\n"


def dying(monkeypatch, name, also=""):
    """Processes that end by a signal when they meet a picture that has `seven` in it."""
    code = f"{KILLED}    if b'seven' in data{also}: os.kill(os.getpid(), {int(getattr(signal, name))})\n    return square(data, *args)\n"
    monkeypatch.setattr(workers, "MANY", 0)
    init = workers.Processes.__init__

    def changed(self, *args):
        init(self, *args)
        self._start = self._start.replace(
            "from coterie.images.workers import serve", f"exec({code!r}); decode.square = died; serve = workers.serve"
        )

    monkeypatch.setattr(workers.Processes, "__init__", changed)


def folder(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(20):
        (tmp_path / "p" / f"{i:02}.png").write_bytes(picture() + b"seven" * (i == 7))
    return tmp_path / "p"


def test_a_process_that_was_killed_is_one_line_and_the_same_command_continues(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dying(patch, "SIGKILL")
        with pytest.raises(InputError, match="ended from outside .SIGKILL.*memory.*the same command continues") as error:
            open_images(folder(tmp_path), 8, tmp_path / "cache")
        assert "\n" not in str(error.value)
    images = open_images(tmp_path / "p", 8, tmp_path / "cache")
    assert len(images) == 20 and not images.problems


def test_a_picture_that_kills_its_decoder_is_set_aside_alone(tmp_path, monkeypatch):
    dying(monkeypatch, "SIGSEGV")
    images = open_images(folder(tmp_path), 8, tmp_path / "cache")
    assert len(images) == 19 and [problem.path for problem in images.problems] == ["07.png"]
    assert "crashed (SIGSEGV)" in images.problems[0].reason


def test_a_defect_of_ours_in_a_process_keeps_its_traceback(tmp_path, monkeypatch):
    dying(monkeypatch, "SIGSEGV", also=" and 1 / 0")
    with pytest.raises(RuntimeError, match="(?s)status 1.*Traceback.*ZeroDivisionError"):
        open_images(folder(tmp_path), 8, tmp_path / "cache")
