"""Which rows of the golden README have a test, and which wait for the system that uses them."""

import ast
import re
from pathlib import Path

import pytest

from .conftest import GOLDEN, absent

WAITING: dict[str, str] = {  # row -> what will use it; a row leaves this list with the commit that tests it
    "dc_linear_lr": "the rate of a linear classifier on frozen features: the linear protocol",
}


def with_a_test() -> set[str]:
    """The names given to `golden` in this folder's tests."""
    calls = [node for path in Path(__file__).parent.glob("test_*.py") for node in ast.walk(ast.parse(path.read_text()))]
    return {
        node.args[0].value
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "golden"
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_row_is_tested_or_waits():
    if not GOLDEN.is_dir():
        absent("anything")
    rows = {path.stem for path in GOLDEN.iterdir() if path.suffix in (".npz", ".json")}
    named = set(re.findall(r"^\| (\w+) \|", (GOLDEN / "README.md").read_text(), re.MULTILINE)) - {"file"}
    assert named <= rows, "the README names what is not there"
    assert rows - with_a_test() == set(WAITING), "a row without a test, or a waiting one that has its test now"


def test_rows_that_wait():
    """Seen in the summary of every run (`-rs`), so that nobody takes parity for whole."""
    pytest.skip(f"{len(WAITING)} golden rows wait for the system that uses them: {', '.join(sorted(WAITING))}")
