"""Pictures below urls: as in a folder, whatever file system answers."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from coterie import fitting
from coterie.cli import verbs  # noqa: F401  (so that an error here is no error of the import in a verb)
from coterie.errors import InputError
from coterie.images import open_images, opening, remote
from coterie.images.originals import originals
from coterie.images.stream import open_stream
from coterie.run.devices import Devices

fsspec = pytest.importorskip("fsspec")


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, drawn):
    """Pictures in folders, one without an ending; a hidden one, a text, a film and a damaged one."""
    for i, picture in enumerate(drawn(12, 20)):
        path = tmp_path / "pictures" / f"kind{i % 4}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture))
    (tmp_path / "pictures" / "kind0" / "plain").write_bytes((tmp_path / "pictures" / "kind0" / "00.png").read_bytes())
    (tmp_path / "pictures" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "pictures" / "notes.txt").write_text("x")
    (tmp_path / "pictures" / "film.mp4").write_bytes(b"x")
    (tmp_path / "pictures" / "bad.png").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.fixture
def memory(folder):
    """The same files on memory://."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe_file(f"/bucket/photos/{path.relative_to(folder)}", path.read_bytes())
    yield "memory://bucket/photos"
    files.store.clear()


@pytest.mark.parametrize("slash", ["", "/"])
def test_urls_are_as_a_folder(folder, memory, tmp_path, slash):
    want = open_images(folder, 16, tmp_path / "cache")
    for url in (memory, folder.as_uri()):
        got = open_images(url + slash, 16, tmp_path / "cache")
        assert got.paths == want.paths and bool((got.pixels == want.pixels).all()) and got.digests == want.digests
        assert got.skipped == want.skipped == {"video": 1} and got.kind == "url" and len(got) == 13
        assert [(one.path, one.reason) for one in got.problems] == [(one.path, one.reason) for one in want.problems]
        assert got.fingerprint == want.fingerprint


def test_a_changed_object_is_read_again(memory, drawn, tmp_path):
    before = open_images(memory, 16, tmp_path / "cache")
    fsspec.filesystem("memory").pipe_file("/bucket/photos/kind0/00.png", png(drawn(30, 20)[29]))
    after = open_images(memory, 16, tmp_path / "cache")
    assert after.digests != before.digests and after.paths == before.paths


def test_an_object_that_is_gone_is_a_problem_and_asked_for_again(memory, tmp_path, monkeypatch):
    read = remote.Objects.__call__
    monkeypatch.setattr(remote.Objects, "__call__", lambda self, i: read(self, 99 if i == 2 else i))
    images = open_images(memory, 16, tmp_path / "cache")
    assert len(images) == 12 and any("cannot be read" in problem.reason for problem in images.problems)
    monkeypatch.undo()
    assert len(open_images(memory, 16, tmp_path / "cache")) == 13


def test_a_late_file_system_is_asked_several_times_at_once(memory, monkeypatch):
    monkeypatch.setattr(remote, "NEAR", ())
    assert remote.below(memory).at_once == remote.AT_ONCE
    (images,) = open_stream(memory, 16).blocks([range(14)])
    assert len(images) == 13


def test_fit_and_predict_from_a_url(memory, folder, tmp_path):
    images, plan = fitting.plan(
        memory, "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 1}, cache=tmp_path / "c"
    )
    fitting.fit(images, plan, tmp_path / "run", devices=Devices("cpu", "fp32", 1), cache=tmp_path / "c")
    assert plan.source["path"] == memory and plan.source["name"] == "photos"
    found, _, p_NK = fitting.predict(tmp_path / "run", folder.as_uri(), Devices("cpu", "fp32", 1), tmp_path / "c")
    assert found.paths == images.paths and p_NK.shape == (13, 4)
    with pytest.raises(InputError, match="uses no network.*--source"):
        originals(plan.source, None, images.paths)
    assert [one.read() for one in originals(plan.source, folder, images.paths)] == [(folder / path).read_bytes() for path in images.paths]


@pytest.mark.parametrize(
    "url, said",
    [
        ("memory://nothing/here", "holds no pictures, or is not there"),
        ("memory://bucket/photos/kind0/00.png", "is one file"),
        ("nosuch://bucket", "no url that can be read"),
        ("file:///nowhere/at/all", "not there|cannot be reached"),
    ],
)
def test_what_is_no_folder_is_one_line(memory, url, said):
    with pytest.raises(InputError, match=said):
        opening.files_named(url)


def test_a_missing_library_is_named(monkeypatch):
    import fsspec.core

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InputError, match="Install s3fs to access S3.*s3:// is read by s3fs"):
        opening.files_named("s3://bucket/photos")


def test_names_stay_names(tmp_path):
    """A colon alone makes no url."""
    assert not any(remote.is_url(name) for name in ("digits", "hf:mnist/train", "a:b", "torchvision:CIFAR10/test", "//host/x", "x/y://"))
    assert all(remote.is_url(name) for name in ("s3://b/p", "gs://b", "file:///x", "memory://x", "gcs+x://y"))
    shutil.rmtree(tmp_path)
