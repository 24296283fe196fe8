"""What a package index and a container builder are given."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads toml itself")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def links(text: str) -> list[str]:
    """Where the links and pictures of a page in markdown lead, code left out."""
    text = re.sub(r"```.*?```|^    .*?$|`[^`]*`", "", text, flags=re.S | re.M)
    return re.findall(r"\]\(([^)\s]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def test_the_long_description_leads_nowhere_on_an_index():
    """A relative link of it would be a dead one on the page of the package."""
    found = links((ROOT / PROJECT["readme"]).read_text(encoding="utf-8"))
    assert found and all(link.startswith("https://") for link in found), found


def test_the_reader_sees_links():
    text = '[a](docs/x.md) ![b](y.png) `[c](z)` <img src="w.png">\n\n    [code](no)\n'
    assert links(text) == ["docs/x.md", "y.png", "w.png"]


def test_relative_links_of_the_readme_are_there():
    for link in links((ROOT / "README.md").read_text(encoding="utf-8")):
        assert link.startswith(("https://", "#")) or (ROOT / link.split("#")[0]).exists(), link


def test_classifiers_and_urls():
    assert f"Programming Language :: Python :: {PROJECT['requires-python'].removeprefix('>=')}" in PROJECT["classifiers"]
    assert PROJECT["classifiers"] == sorted(PROJECT["classifiers"], key=lambda one: [part.zfill(3) for part in re.split(r"[ .]+", one)])
    assert not any(one.startswith("License ::") for one in PROJECT["classifiers"]), "license = says it; indexes refuse both"
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())


def test_extras_that_messages_name_are_there():
    named = set()
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        named |= set(re.findall(r"coterie\[(\w+)\]", file.read_text(encoding="utf-8")))
    assert {"notebook", "onnx", "photos"} <= named <= set(PROJECT["optional-dependencies"])


def test_the_container_is_ten_lines_of_what_there_is():
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) <= 10 and lines[0].startswith("FROM ") and lines[-1] == 'ENTRYPOINT ["coterie"]'
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in lines:
        if line.startswith("COPY "):
            *sources, _ = line.removeprefix("COPY ").split()
            assert all((ROOT / source).exists() and source in allowed for source in sources), line
