"""An export gives what was fitted, from the source and nowhere else, whatever the files of a run say; it never uses the network."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from coterie import KMeans
from coterie.cli import main
from coterie.errors import InputError
from coterie.evaluate.labels import labels_of
from coterie.export import export
from coterie.images import named, open_images
from coterie.images.items import FILE


@pytest.fixture
def files(tmp_path, drawn, monkeypatch):
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(drawn(6)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "broken.png").write_text("x")
    return sorted((tmp_path / "photos").iterdir())


def fitted(source, run):
    model = KMeans(2, settings={"image_size": 16, "restarts": 1}, device="cpu", precision="fp32", threads=1, run=str(run))
    model.fit(source)
    return run


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def crafted(run, paths=None, **source):
    """A run as a stranger may send it: other paths, another source, whole in itself."""
    (run / "manifest.json").unlink(missing_ok=True)
    for name in ("assignments.parquet", FILE):
        table = pq.read_table(run / name)
        if paths is not None:
            changed = [paths.get(path, path) for path in table["path"].to_pylist()]
            table = table.set_column(table.column_names.index("path"), "path", pa.array(changed))
        pq.write_table(table, run / name)
    made = json.loads((run / "config.json").read_text())
    made["source"] |= source
    (run / "config.json").write_text(json.dumps(made))
    return run


# ---- what was fitted


@pytest.mark.parametrize("link", ["copy", "hard", "symlink"])
def test_a_replaced_picture_is_set_aside(files, tmp_path, link):
    run = fitted(tmp_path / "photos", tmp_path / "run")
    files[1].write_bytes(files[0].read_bytes())
    files[2].write_text("no picture any more")
    n, aside = export(run, "folders", tmp_path / "sorted", link=link)
    assert n == 4 and [path for path, _ in aside] == ["1.png", "2.png"] and all("other content" in why for _, why in aside)
    assert names(tmp_path / "sorted") == ["0.png", "3.png", "4.png", "5.png"]
    assert export(run, "folders", tmp_path / "sorted", link=link) == (n, aside)


def test_replaced_members_and_arrays_are_set_aside(files, tmp_path, drawn):
    pictures = drawn(6)
    np.save(tmp_path / "a.npy", pictures)
    pq.write_table(pa.table({"image": [path.read_bytes() for path in files[:6]]}), tmp_path / "a.parquet")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "photos")
    runs = {name: fitted(tmp_path / name, tmp_path / f"run.{name}") for name in ("a.npy", "a.parquet", "a.zip")}
    for name, run in runs.items():
        assert export(run, "folders", tmp_path / f"before.{name}") == (6, [])
    pictures[3] //= 2
    np.save(tmp_path / "a.npy", pictures)
    Image.fromarray(pictures[3]).save(files[3])
    pq.write_table(pa.table({"image": [path.read_bytes() for path in files[:6]]}), tmp_path / "a.parquet")
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "photos")
    for name, run in runs.items():
        n, aside = export(run, "folders", tmp_path / f"after.{name}")
        assert n == 5 == len(names(tmp_path / f"after.{name}")) and aside[0][0] in ("#3", "3.png"), name


def test_a_list_from_python_is_exported_while_it_holds_what_it_held(files, tmp_path):
    run = fitted(files, tmp_path / "run")
    assert export(run, "folders", tmp_path / "sorted") == (6, [])
    files[4].write_bytes(files[0].read_bytes())
    n, aside = export(run, "folders", tmp_path / "again")
    assert n == 5 and aside[0][0] == str(files[4])
    (run / FILE).unlink()
    (run / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="--source"):
        export(run, "folders", tmp_path / "third")


def test_the_command_line_says_what_was_set_aside(files, tmp_path, capsys, monkeypatch):
    run = fitted(tmp_path / "photos", tmp_path / "run")
    files[1].write_bytes(files[0].read_bytes())
    monkeypatch.setattr("sys.argv", ["coterie", "export", str(run), str(tmp_path / "sorted"), "--to", "folders", "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    assert not end.value.code and json.loads(out)["n_images"] == 5 and json.loads(out)["n_set_aside"] == 1
    assert err.count("\n") == 1 and "set aside: 1.png" in err


# ---- from the source and from nowhere else


@pytest.mark.parametrize(
    "path", ["../secret.png", "{}/secret.png", r"\x2e\x2e/secret.png", r"\x2e\x2e\x2fsecret.png", "a/../../secret.png", "./../secret.png"]
)
def test_paths_that_leave_the_source(files, tmp_path, path):
    secret = tmp_path / "secret.png"
    shutil.copy(files[0], secret)  # with the very content that the run names
    run = crafted(fitted(tmp_path / "photos", tmp_path / "run"), {"0.png": path.format(tmp_path)})
    with pytest.raises(InputError, match="leaves the source"):
        export(run, "folders", tmp_path / "sorted")
    assert not (tmp_path / "sorted").exists()


@pytest.mark.parametrize("path", ["0.txt", ".", "", "photos", "nowhere.png"])
def test_what_is_no_picture_of_the_source(files, tmp_path, path):
    (tmp_path / "photos" / "0.txt").write_text("secret")
    run = crafted(fitted(tmp_path / "photos", tmp_path / "run"), {"0.png": path})
    with pytest.raises(InputError, match="no longer in"):
        export(run, "folders", tmp_path / "sorted")


def test_a_picture_of_the_source_that_was_not_fitted(files, tmp_path):
    run = crafted(fitted(tmp_path / "photos", tmp_path / "run"), {"0.png": "broken.png"})
    n, aside = export(run, "folders", tmp_path / "sorted")
    assert n == 5 and [path for path, _ in aside] == ["broken.png"]


def test_a_list_gives_only_what_it_names(files, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(map(str, files[1:])))
    run = crafted(fitted(tmp_path / "list.txt", tmp_path / "run"), {str(files[1]): str(files[0])})
    with pytest.raises(InputError, match="leaves the source"):
        export(run, "folders", tmp_path / "sorted")
    crafted(run, kind="list", path=None)
    n, aside = export(run, "folders", tmp_path / "sorted")
    assert n == 4 and [path for path, _ in aside] == [str(files[0])], "a stranger does not know the content of another file"


def test_tables_that_disagree(files, tmp_path):
    run = fitted(tmp_path / "photos", tmp_path / "run")
    (run / "manifest.json").unlink(missing_ok=True)
    table = pq.read_table(run / FILE)
    pq.write_table(table.set_column(1, "path", pa.array(["x", *table["path"].to_pylist()[1:]])), run / FILE)
    with pytest.raises(InputError, match="different pictures"):
        export(run, "folders", tmp_path / "sorted")


def test_a_pipe_as_the_source(files, tmp_path):
    os.mkfifo(tmp_path / "pipe.zip")
    run = fitted(tmp_path / "photos", tmp_path / "run")
    for kind in ("zip", "parquet", "list", "folder", "array", "named", "nonsense"):
        with pytest.raises(InputError):
            export(crafted(run, kind=kind, path=str(tmp_path / "pipe.zip"), name="pipe.zip"), "folders", tmp_path / "sorted")


# ---- never the network


def test_names_in_a_run_download_nothing(files, tmp_path, monkeypatch, capsys):
    from torchvision import datasets

    asked = []
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: asked.append("torchvision"))
    name = "torchvision:CIFAR10/test"
    run = crafted(fitted(tmp_path / "photos", tmp_path / "run"), kind="named", name=name, path=name)
    for words in (
        ["export", run, tmp_path / "sorted", "--to", "folders"],
        ["evaluate", run],
        ["evaluate", run, "--labels", "superclasses"],
    ):
        monkeypatch.setattr("sys.argv", ["coterie", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1 and "downloaded only by a command that names it" in said, said
    assert not asked and not (tmp_path / "data").exists()
    with pytest.raises(InputError, match="CIFAR10"):
        open_images(name)  # typed: it is tried
    assert asked == ["torchvision"]


def test_hugging_face_is_offline_unless_it_was_typed(monkeypatch, tmp_path):
    import sys
    import types

    seen = []
    config = types.ModuleType("datasets.config")
    config.HF_HUB_OFFLINE = config.HF_DATASETS_OFFLINE = False  # type: ignore[attr-defined]
    package = types.ModuleType("datasets")

    def load_dataset(title, split):
        seen.append((config.HF_HUB_OFFLINE, config.HF_DATASETS_OFFLINE))  # type: ignore[attr-defined]
        raise ConnectionError("none")

    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setitem(sys.modules, "datasets.config", config)
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))
    for ask in (lambda: named.load_named("hf:x/y"), lambda: labels_of({"kind": "named", "path": "hf:x/y", "name": "hf:x/y"}, ["#0"], None)):
        with pytest.raises(InputError, match="hf:x/y"):
            ask()
    with pytest.raises(InputError, match="hf:x/y"):
        open_images("hf:x/y")
    assert seen == [(True, True), (True, True), (False, False)] and not config.HF_HUB_OFFLINE  # type: ignore[attr-defined]
