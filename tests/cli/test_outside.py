"""A package brings a method, that of docs/adding-a-method.md, word by word: listed, fitted, opened; and what is wrong with others."""

import json
import re
import sys
from pathlib import Path

import pytest

from coterie import load, methods
from coterie.errors import InputError
from coterie.fitting import presets
from coterie.methods import outside

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-method.md").read_text()


def block(begin: str) -> str:
    """The indented block of the page that begins so."""
    lines = PAGE.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(f"    {begin}"))
    taken = []
    for line in lines[start:]:
        if line and not line.startswith("    "):
            break
        taken.append(line[4:])
    return "\n".join(taken).strip() + "\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """(code, entry, name, summary) -> a package on sys.path, as pip leaves one: a module and a dist-info folder."""

    def install(code: str, entry: str, name: str = "kinds-by-halves", summary: str = "Halves", module: str = "halving") -> None:
        home = tmp_path / f"site-{name}"
        about = home / f"{name.replace('-', '_')}-1.2.dist-info"
        about.mkdir(parents=True)
        (home / f"{module}.py").write_text(code)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\nSummary: {summary}\n")
        (about / "entry_points.txt").write_text(f"[coterie.methods]\n{entry}\n")
        monkeypatch.syspath_prepend(home)
        monkeypatch.delitem(sys.modules, module, raising=False)
        outside._loaded.cache_clear()

    yield install
    sys.modules.pop("halving", None)
    outside._loaded.cache_clear()


@pytest.fixture
def halving(package):
    found = re.search(r'^    halving = "(.*)"$', PAGE, re.M)
    assert found
    package(block('"""Bisecting'), f"halving = {found[1]}")


def test_it_has_about_forty_lines():
    assert len([line for line in block('"""Bisecting').splitlines() if line]) <= 45


def test_listed_without_being_imported(halving, coterie):
    status, out, _ = coterie("methods", "--json")
    assert status == 0 and json.loads(out)["halving"] == "of the package kinds-by-halves 1.2: Halves" and "halving" not in sys.modules
    assert list(json.loads(out))[: len(methods.METHODS)] == list(methods.METHODS), "ours stand first"


def test_fits_is_continued_and_opened(halving, coterie, drawn, tmp_path):
    import numpy as np

    np.save(tmp_path / "pictures.npy", drawn())
    words = ("fit", "pictures.npy", "--method", "halving", "--preset", "halving-pixels", "--clusters", 4, "--device", "cpu", "--threads", 1)
    status, out, err = coterie(*words, "-o", "run", "--set", "tries=3", "--json")
    assert status == 0, err
    made = json.loads((tmp_path / "run" / "config.json").read_text())
    assert made["method"] == "halving" and made["settings"]["tries"] == 3 and made["settings"]["image_size"] == 16
    assert sum(json.loads(out)["sizes"]) == 120 and len(json.loads(out)["sizes"]) == 4
    model = load(tmp_path / "run")
    assert model.method == "halving" and (model.predict(drawn()) == model.labels_).mean() > 0.95
    status, _, err = coterie(*words, "-o", "run", "--set", "tries=4")
    assert status == 2 and "tries: 3, now 4" in err
    status, _, err = coterie(*words, "-o", "other", "--set", "tries=0")
    assert status == 2 and "setting tries=0: wanted at least 1" in err


def test_presets_of_a_package(halving):
    assert presets.settings("halving", "quick", 100, False) == presets.KINDS["quick"][1](100, False) | {"tries": 2}
    assert presets.settings("halving", "halving-pixels", 100, False) == {"encoder": "pixels", "pretext": "frozen", "image_size": 16}
    assert "tries" not in presets.settings("halving", "photos", 100, False)
    with pytest.raises(InputError, match="no preset is called .nope.; there are digits, .*quick.* halving-pixels"):
        presets.settings("halving", "nope", 100, False)
    with pytest.raises(InputError, match="no preset is called 'halving-pixels'"):
        presets.settings("scan", "halving-pixels", 100, False)


@pytest.mark.parametrize(
    ("code", "entry", "said"),
    [
        ("import nowhere_at_all", "halving = halving", r"could not be loaded \(ModuleNotFoundError: No module named 'nowhere_at_all'\)"),
        ("1 / 0", "halving = halving", r"could not be loaded \(ZeroDivisionError"),
        ("", "halving = halving:Gone", r"could not be loaded \(AttributeError"),
        ("", "halving = halving", "has no Config, a frozen dataclass on coterie.methods.pretext.PretextConfig"),
        ("from coterie.methods.pretext import PretextConfig as Config", "halving = halving", "has no fit"),
        (
            "from coterie.methods.pretext import PretextConfig as Config\nfit = print\nPRESETS = {'quick': 3}",
            "halving = halving",
            "its PRESETS are no dict of settings by name",
        ),
    ],
)
def test_what_is_wrong_with_a_package_is_one_line(package, coterie, code, entry, said):
    package(code, entry)
    status, _, err = coterie("fit", "digits", "-o", "run", "--method", "halving")
    last = err.strip().splitlines()[-1]
    assert status == 2 and re.search(said, last) and "kinds-by-halves 1.2" in last and "Traceback" not in err
    assert coterie("methods")[0] == 0, "the others are still listed"


def test_two_packages_with_one_name(package):
    package("", "halving = halving")
    package("", "halving = other", name="other-halves", module="other")
    with pytest.raises(InputError, match="several packages .*other-halves 1.2.*uninstall all but one"):
        methods.method("halving")


def test_our_names_stay_ours(package):
    package("1 / 0", "scan = halving")
    assert methods.method("scan").__name__ == "coterie.methods.scan" and "Van Gansbeke" in methods.summaries()["scan"]
