"""The decoded store: made once, shared, continued after a kill, never half; and what Images does with it."""

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from coterie.errors import InputError
from coterie.images import Images, cache_entries, clear_cache, decode, default_cache, open_images, sources, store, workers


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "pictures")


def pictures(root, n=40):
    root.mkdir()
    for i, array in enumerate(np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)):
        Image.fromarray(array).save(root / f"{i:03}.png")
    return root


def plain(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())])


def forbid_reading(monkeypatch):
    def read(*args):
        raise AssertionError("a source was read although the store is complete")

    monkeypatch.setattr(sources.Files, "__call__", read)


def test_a_complete_store_is_used_without_reading(folder, cache, monkeypatch):
    first = open_images(folder, 16, cache)
    forbid_reading(monkeypatch)
    again = open_images(folder, 16, cache)
    assert torch.equal(first.pixels, again.pixels) and np.array_equal(again.pixels.numpy(), plain(folder))
    assert first.fingerprint == again.fingerprint and first.paths == again.paths and first.digests == again.digests
    with pytest.raises(AssertionError, match="was read"):
        open_images(folder, 8, cache)


def test_a_changed_file_is_read_again(folder, cache):
    first = open_images(folder, 16, cache)
    Image.new("RGB", (16, 16), "red").save(folder / "003.png")
    again = open_images(folder, 16, cache)
    assert again.pixels[3, 0, 0].tolist() == [255, 0, 0] and again.fingerprint != first.fingerprint


def test_two_folders_that_look_alike_do_not_share(tmp_path, cache):
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "x.bmp")
        os.utime(tmp_path / name / "x.bmp", ns=(0, 0))
    assert [open_images(tmp_path / name, 8, cache).pixels[0, 0, 0].tolist() for name in "ab"] == [[255, 0, 0], [0, 0, 255]]


def test_the_fingerprint_is_of_the_content(folder, tmp_path, cache):
    first = open_images(folder, 16, cache)
    assert open_images(folder, 8, cache).fingerprint == first.fingerprint
    moved = shutil.move(folder, tmp_path / "moved")
    for path in moved.iterdir():
        os.utime(path, ns=(1, 1))
    assert open_images(moved, 16, cache).fingerprint == first.fingerprint
    os.rename(moved / "000.png", moved / "0.png")
    assert open_images(moved, 16, cache).fingerprint != first.fingerprint


def fail_after(monkeypatch, n, error):
    """Decoding raises `error` at the n-th picture; returns the list of pictures decoded since."""
    decoded, square = [], decode.square

    def counted(data, size, max_pixels):
        if len(decoded) == n:
            raise error
        decoded.append(data)
        return square(data, size, max_pixels)

    monkeypatch.setattr(decode, "square", counted)
    return decoded


def test_an_interrupted_build_continues(folder, cache, monkeypatch):
    (folder / "005.png").write_bytes(b"broken")
    with monkeypatch.context() as patch:
        fail_after(patch, 25, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            open_images(folder, 16, cache)
    (part,) = cache.iterdir()
    assert part.suffix == ".part"
    with open(part / "journal.jsonl", "ab") as journal:
        journal.write(b'{"rows": 3, "cr')  # cut while it was written
    done = sum(len(json.loads(line)["reads"]) for line in (part / "journal.jsonl").read_text().splitlines()[:-1])
    decoded = fail_after(monkeypatch, -1, None)
    images = open_images(folder, 16, cache)
    assert 0 < done < 40 and len(decoded) == 40 - done
    (folder / "005.png").unlink()
    assert np.array_equal(images.pixels.numpy(), plain(folder)) and [entry.suffix for entry in cache.iterdir()] == [""]


def test_rows_that_never_reached_the_disk_are_decoded_again(folder, cache, monkeypatch):
    with monkeypatch.context() as patch:
        fail_after(patch, 25, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            open_images(folder, 16, cache)
    (part,) = cache.iterdir()
    with open(part / "pixels.u8", "r+b") as pixels:
        pixels.seek(0)
        pixels.write(bytes(768))
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


SLOW = """
import sys, time
from coterie.images import decode, open_images
square = decode.square
def slow(*args):
    time.sleep(0.02)
    return square(*args)
decode.square = slow
open_images(sys.argv[1], 16, sys.argv[2])
"""


def test_a_killed_build_continues(folder, cache, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", SLOW, folder, cache])
    deadline = time.time() + 30
    while not any(path.stat().st_size for path in cache.glob("*.part/journal.jsonl")) and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not any(path.suffix == "" for path in cache.iterdir())
    decoded = fail_after(monkeypatch, -1, None)
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))
    assert 0 < len(decoded) < 40


def open_and_sum(folder, cache, results):
    results.put(int(open_images(folder, 16, cache).pixels.sum()))


def test_parallel_openers_make_one_store(folder, cache, monkeypatch):
    square = decode.square
    monkeypatch.setattr(decode, "square", lambda *args: (time.sleep(0.01), square(*args))[1])
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=open_and_sum, args=(folder, cache, results)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert {results.get() for _ in processes} == {int(plain(folder).sum())}
    assert len(list(cache.iterdir())) == 1


def test_a_damaged_store_is_made_again(folder, cache):
    open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    os.truncate(entry / "pixels.u8", 100)
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


def test_a_full_disk_is_named_before_and_while_writing(folder, cache, monkeypatch):
    usage = shutil.disk_usage(folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(InputError, match=r"cache .* is full.*need 0\.0 MB.*0\.0 MB are free.*--cache"):
            open_images(folder, 16, cache)
    with monkeypatch.context() as patch:
        fail_after(patch, 30, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(InputError, match="is full"):
            open_images(folder, 16, cache)
    assert len(open_images(folder, 16, cache)) == 40


def test_a_cache_that_is_no_folder_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written"):
        open_images(folder, 16, tmp_path / "file")


def test_entries_and_clearing(folder, cache, monkeypatch):
    images = open_images(folder, 16, cache)
    open_images(folder, 8, cache)
    (cache / "mine.txt").write_text("kept")
    (cache / "data").mkdir()
    entries = cache_entries(cache)
    assert [(entry.source, entry.n) for entry in entries] == [(str(folder), 40)] * 2
    assert sorted(entry.bytes for entry in entries)[1] > 40 * 16 * 16 * 3
    assert clear_cache(cache) == sum(entry.bytes for entry in entries)
    assert sorted(path.name for path in cache.iterdir()) == ["data", "mine.txt"] and clear_cache(cache) == 0
    assert np.array_equal(images.pixels.numpy(), plain(folder)) and cache_entries(cache / "nowhere") == []


def test_a_store_being_built_is_not_cleared(folder, cache):
    open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    with store._locked(entry) as mine:
        assert mine and clear_cache(cache) == 0
    assert clear_cache(cache) > 0


def test_the_mapped_store_is_private(folder, cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = open_images(folder, 16, cache)
    assert np.array_equal(images.pixels.numpy(), plain(folder))
    images.pixels[0] = 0  # private: the store keeps what it has
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("COTERIE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(default_cache()) == "/x/coterie"


def test_progress_counts_up(folder, cache):
    seen = []
    open_images(folder, 16, cache, progress=lambda *told: seen.append(told))
    assert seen[-1] == ("decode", 40, 40) and [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_processes_give_the_same_store_as_threads(folder, tmp_path, monkeypatch):
    (folder / "005.png").write_bytes(b"broken")
    (folder / "006.png").write_bytes(b"")
    os.symlink("nowhere", folder / "007.png.png")
    threads = open_images(folder, 16, tmp_path / "a")
    monkeypatch.setattr(workers, "MANY", 0)
    processes = open_images(folder, 16, tmp_path / "b")
    assert torch.equal(threads.pixels, processes.pixels) and threads.digests == processes.digests
    assert threads.problems == processes.problems and len(threads.problems) == 3


def test_a_process_that_dies_is_an_error_and_the_build_continues(folder, cache, monkeypatch):
    monkeypatch.setattr(workers, "MANY", 0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(RuntimeError, match="ended with status 1"):
            open_images(folder, 16, cache)
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


def test_a_decoding_process_needs_no_torch():
    code = "import sys, coterie.images.workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture(scope="module")
def images():
    return open_images(np.random.default_rng(0).integers(0, 256, (23, 8, 6, 3), dtype=np.uint8))


def test_a_batch(images):
    batch = images.batch(torch.tensor([3, 1]))
    assert batch.pixels_B3HW.shape == (2, 3, 8, 6) and batch.pixels_B3HW.dtype == torch.float32
    assert batch.pixels_B3HW.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.pixels_B3HW, images.pixels[[3, 1]].permute(0, 3, 1, 2) / 255)


def order(images, *args, **options):
    return [batch.index_B.tolist() for batch in images.batches(*args, **options)]


def test_batches_take_all_once(images):
    assert order(images, 5) == [list(range(i, min(i + 5, 23))) for i in range(0, 23, 5)]
    assert [len(ids) for ids in order(images, 5, drop_last=True)] == [5] * 4
    assert [len(ids) for ids in order(images, 5, drop_last=True, ids=range(15))] == [5] * 3, "a whole last batch stays"
    assert order(images, 2, ids=[4, 9, 4]) == [[4, 9], [4]] and order(images, 5, ids=[]) == []
    shuffled = sum(order(images, 5, torch.Generator().manual_seed(0)), [])
    assert sorted(shuffled) == list(range(23)) and shuffled != list(range(23))
    assert sorted(sum(order(images, 2, torch.Generator().manual_seed(0), ids=[4, 9, 6]), [])) == [4, 6, 9]
    with pytest.raises(ValueError, match="size=0"):
        next(images.batches(0))


def test_the_order_is_the_generators(images):
    first = order(images, 5, torch.Generator().manual_seed(0))
    torch.manual_seed(99)
    assert order(images, 5, torch.Generator().manual_seed(0)) == first
    assert order(images, 5, torch.Generator().manual_seed(1)) != first


def test_a_subset_is_numbered_anew(folder, cache):
    images = open_images(folder, 16, cache)
    part = images[torch.tensor([7, 2])]
    assert isinstance(part, Images) and part.paths == ["007.png", "002.png"] and list(part.ids) == [0, 1]
    assert torch.equal(part.pixels, images.pixels[[7, 2]]) and part.fingerprint != images.fingerprint
    assert torch.equal(images[5:].pixels, images.pixels[5:]) and images[[7, 2]].fingerprint == part.fingerprint
    assert len(images[torch.arange(40) < 3]) == 3
    assert np.array_equal(part.thumbnails([0], 16)[0], images.pixels[7].numpy())


def test_a_subset_shows_its_own_originals(tmp_path, cache):
    (tmp_path / "p").mkdir()
    for level, name in enumerate("abc"):
        Image.new("RGB", (200, 100), (100 * level, 0, 0)).save(tmp_path / "p" / f"{name}.png")
    found = open_images(tmp_path / "p", 16, cache)[[2, 0]].thumbnails(range(2), 64)
    assert [(thumb.shape, int(thumb[0, 0, 0])) for thumb in found] == [((32, 64, 3), 200), ((32, 64, 3), 0)]


def test_thumbnails_come_from_the_original_while_it_is_the_same(tmp_path, cache):
    (tmp_path / "p").mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (200, 100), "red").save(tmp_path / "p" / f"{name}.png")
    images = open_images(tmp_path / "p", 16, cache)
    (tmp_path / "p" / "b.png").unlink()
    Image.new("RGB", (200, 100), "blue").save(tmp_path / "p" / "c.png")
    found = images.thumbnails(range(3), 64)
    assert [thumb.shape for thumb in found] == [(32, 64, 3), (16, 16, 3), (16, 16, 3)]
    assert all((thumb == [255, 0, 0]).all() and thumb.dtype == np.uint8 for thumb in found)


def test_images_pickle(folder, cache):
    images = open_images(folder, 16, cache)
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again.pixels, images.pixels) and np.array_equal(again.thumbnails([1], 16)[0], images.thumbnails([1], 16)[0])


# ---- damage


def damaged_at_random(path, rng):
    whole = bytearray(path.read_bytes())
    whole[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
    path.write_bytes(whole)


@pytest.mark.parametrize("name", ["pixels.u8", "journal.jsonl"])
def test_every_flipped_bit_of_a_store_is_noticed(folder, cache, name):
    first = open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    rng, pixels = np.random.default_rng(0), first.pixels.clone()  # the first are mapped from the file that is damaged here
    for _ in range(60):
        damaged_at_random(entry / name, rng)
        again = open_images(folder, 16, cache)
        assert torch.equal(pixels, again.pixels) and again.digests == first.digests and again.fingerprint == first.fingerprint


def test_noise_of_the_same_size_is_no_store(folder, cache):
    open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    size = (entry / "pixels.u8").stat().st_size
    (entry / "pixels.u8").write_bytes(np.random.default_rng(1).bytes(size))
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


SHAPES = [b"{}", b"[]", b"null", b"3", b'"x"', b"{", b"\xff\xfe", b"", b'{"rows": "x", "crc": [], "reads": {}}', b"[" * 100_000]


@pytest.mark.parametrize("content", SHAPES, ids=lambda content: repr(content[:20]))
def test_a_journal_of_another_shape_is_none(folder, cache, content, monkeypatch):
    with monkeypatch.context() as patch:
        fail_after(patch, 25, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            open_images(folder, 16, cache)
    (part,) = cache.iterdir()
    (part / "journal.jsonl").write_bytes(content + b"\n")
    (part / "about.json").write_bytes(content)
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))
    (entry,) = cache.iterdir()
    (entry / "journal.jsonl").write_bytes(content + b"\n")
    assert np.array_equal(open_images(folder, 16, cache).pixels.numpy(), plain(folder))


@pytest.mark.parametrize("content", [*SHAPES, b'{"source": 3, "items": "x"}', None], ids=lambda content: repr(content)[:20])
def test_a_store_with_a_damaged_about_is_used_listed_and_cleared(folder, cache, content):
    open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    (entry / "about.json").unlink() if content is None else (entry / "about.json").write_bytes(content)
    open_images(folder, 16, cache)
    (listed,) = cache_entries(cache)
    assert listed.key == entry.name and "damaged" in listed.source and listed.bytes >= 40 * 16 * 16 * 3
    assert clear_cache(cache) == listed.bytes and list(cache.iterdir()) == []


def test_a_cache_that_keeps_nothing_right_is_named(folder, cache, monkeypatch):
    monkeypatch.setattr(store.journal, "_agree", lambda *args: False)
    with pytest.raises(InputError, match="does not keep what is written to it.*--cache"):
        open_images(folder, 16, cache)


# ---- what could not be read is tried again


def test_pictures_that_went_away_while_they_were_decoded_are_there_again(folder, tmp_path, cache, monkeypatch):
    square, count = decode.square, [0]

    def square_and_hide(*args):
        count[0] += 1
        if count[0] == 10:
            folder.rename(tmp_path / "hidden")
        return square(*args)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "square", square_and_hide)
        images = open_images(folder, 16, cache)
    assert 0 < len(images) < 40 and len(images) + len(images.problems) == 40
    (tmp_path / "hidden").rename(folder)
    again = open_images(folder, 16, cache)
    assert len(again) == 40 and again.problems == [] and np.array_equal(again.pixels.numpy(), plain(folder))
    forbid_reading(monkeypatch)
    assert len(open_images(folder, 16, cache)) == 40


def test_an_interrupted_build_tries_again_what_it_could_not_read(folder, cache, monkeypatch):
    read, counted = sources.Files.__call__, [0]

    def absent(self, i):
        counted[0] += 1
        if i < 5:
            raise OSError(errno.EIO, "Input/output error")
        return read(self, i)

    with monkeypatch.context() as patch:
        patch.setattr(sources.Files, "__call__", absent)
        fail_after(patch, 25, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            open_images(folder, 16, cache)
    assert len(open_images(folder, 16, cache)) == 40


def test_what_still_cannot_be_read_costs_one_try_and_no_build(folder, cache, monkeypatch):
    def absent(self, i):
        tried.append(i)
        if i in (3, 7):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(self, i)

    read, tried = sources.Files.__call__, []
    monkeypatch.setattr(sources.Files, "__call__", absent)
    first = open_images(folder, 16, cache)
    tried.clear()
    again = open_images(folder, 16, cache)
    assert tried == [3, 7] and again.problems == first.problems and len(again) == 38


def test_broken_bytes_are_remembered(folder, cache, monkeypatch):
    (folder / "005.png").write_bytes(b"broken")
    (folder / "006.png").write_bytes(b"")
    assert len(open_images(folder, 16, cache).problems) == 2
    forbid_reading(monkeypatch)
    assert len(open_images(folder, 16, cache).problems) == 2


def test_want_of_memory_is_not_remembered(folder, cache, monkeypatch):
    load = Image.Image.load
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda self: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(InputError, match="not enough memory"):
            open_images(folder, 16, cache)
    assert Image.Image.load is load and len(open_images(folder, 16, cache)) == 40


def zipped(path, members, encrypted=False):
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data)
    if encrypted:  # the flag alone: it is what a reader stops at
        data = bytearray(path.read_bytes())
        for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = -1
            while (start := data.find(mark, start + 1)) >= 0:
                data[start + at] |= 1
        path.write_bytes(data)


def test_a_zip_that_was_encrypted_and_one_that_was_mended_are_read(folder, tmp_path, cache):
    members = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    zipped(tmp_path / "a.zip", members, encrypted=True)
    with pytest.raises(InputError, match="encrypted"):
        open_images(tmp_path / "a.zip", 16, cache)
    zipped(tmp_path / "a.zip", members)
    assert len(open_images(tmp_path / "a.zip", 16, cache)) == 40

    zipped(tmp_path / "b.zip", members)
    whole = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(whole.replace(members[3][1], bytes(len(members[3][1]))))
    assert [path for path, _ in open_images(tmp_path / "b.zip", 8, cache).problems] == ["003.png"]
    (tmp_path / "b.zip").write_bytes(whole)
    assert open_images(tmp_path / "b.zip", 8, cache).problems == []


# ---- power loss


def test_a_store_takes_its_name_after_its_content_is_on_the_disk(folder, cache, monkeypatch):
    did = []
    fsync, rename = os.fsync, os.rename

    def synced(handle):
        did.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", lambda a, b: (did.append("rename"), rename(a, b))[1])
    open_images(folder, 16, cache)
    (entry,) = cache.iterdir()
    before, after = did[: did.index("rename")], did[did.index("rename") :]
    assert {"about.json.part", "journal.jsonl", "pixels.u8", entry.name + ".part"} <= set(before) and cache.name in after
