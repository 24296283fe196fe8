"""When neighbours are searched for through faiss, and what is said."""

import importlib.util

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


@pytest.fixture
def faiss(monkeypatch):
    """(there) -> as if faiss were installed, or not."""

    def say(there: bool) -> None:
        monkeypatch.setattr(near, "find_spec", lambda name: importlib.util.find_spec("torch") if there else None)

    monkeypatch.setattr(near, "MANY", 50)
    return say


def notes(run) -> list[str]:
    return [row["text"] for row in run.history if row["stage"] == "note"]


def test_many_rows_are_searched_through_faiss_where_it_is(run, faiss):
    faiss(True)
    assert near.approximately("auto", torch.zeros(50, 3), run) and "50 images" in notes(run)[0] and "approximate=false" in notes(run)[0]


def test_few_rows_are_compared_with_all_and_nothing_is_said(run, faiss):
    faiss(True)
    assert not near.approximately("auto", torch.zeros(49, 3), run) and not notes(run)


def test_without_faiss_all_pairs_are_compared_and_one_line_says_so(run, faiss):
    faiss(False)
    assert not near.approximately("auto", torch.zeros(50, 3), run)
    assert len(notes(run)) == 1 and "pip install coterie[faiss]" in notes(run)[0]


def test_what_was_said_is_done(run, faiss):
    faiss(True)
    assert near.approximately("true", torch.zeros(4, 3), run) and not near.approximately("false", torch.zeros(90, 3), run)


@pytest.mark.parametrize("name", METHODS)
def test_runs_of_before_said_true_or_false(name):
    """Their config.json has truths, where a word stands now."""
    if "approximate" in vars(method(name).Config()):
        for before, now in ((False, "false"), (True, "true"), ("true", "true"), ("auto", "auto")):
            assert config.change(method(name).Config(), {"approximate": before}).approximate == now
    with pytest.raises(InputError, match="there are"):
        config.change(method(name).Config(), {"pretext": True})
