"""When neighbours are searched for approximately, and what is said."""

import pytest
import torch

from coterie.errors import InputError
from coterie.fitting import config
from coterie.methods import METHODS, method, near
from coterie.run import Run
from coterie.run.devices import Devices


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, devices=Devices("cpu", "fp32", 1))


@pytest.fixture(autouse=True)
def many(monkeypatch):
    monkeypatch.setattr(near, "MANY", 50)


def notes(run) -> list[str]:
    return [row["text"] for row in run.history if row["stage"] == "note"]


def test_many_rows_are_searched_approximately_and_it_is_said(run):
    assert near.approximately("auto", torch.zeros(50, 3), run) and "50 images" in notes(run)[0] and "approximate=false" in notes(run)[0]


def test_few_rows_are_compared_with_all_and_nothing_is_said(run):
    assert not near.approximately("auto", torch.zeros(49, 3), run) and not notes(run)


def test_what_was_said_is_done(run):
    assert near.approximately("true", torch.zeros(4, 3), run) and not near.approximately("false", torch.zeros(90, 3), run)


@pytest.mark.parametrize("name", METHODS)
def test_runs_of_before_said_true_or_false(name):
    """Their config.json has truths, where a word stands now."""
    if "approximate" in vars(method(name).Config()):
        for before, now in ((False, "false"), (True, "true"), ("true", "true"), ("auto", "auto")):
            assert config.change(method(name).Config(), {"approximate": before}).approximate == now
    with pytest.raises(InputError, match="there are"):
        config.change(method(name).Config(), {"pretext": True})
