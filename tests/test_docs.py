"""The settings tables of the docs say what the code says."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from coterie import methods

DOCS = Path(__file__).parents[1] / "docs" / "methods"


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_setting_stands_in_the_page_of_its_method_with_its_default(name):
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| `(.*?)` \|", (DOCS / f"{name}.md").read_text(), re.M))
    shared = dict(re.findall(r"^\| `(\w+)` \| \w+ \| `(.*?)` \|", (DOCS / "scan.md").read_text(), re.M))
    for field in dataclasses.fields(methods.method(name).Config):
        told = rows.get(field.name, shared.get(field.name))
        assert told == _shown(field.default), f"{name}.md says {field.name} = {told}, the code {_shown(field.default)}"


def _shown(default: object) -> str:
    return json.dumps(default) if isinstance(default, str) else str(default)
