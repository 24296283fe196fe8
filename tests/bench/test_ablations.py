"""The papers' ablations as lists of fits: every change is a setting of its method, and each line differs from the others."""

import json
from pathlib import Path

import pytest

from coterie import methods
from coterie.bench import ABLATIONS, Asked, table
from coterie.bench import ablations as room
from coterie.bench.fits import Fit
from coterie.errors import InputError
from coterie.fitting import config, presets


def asked(**more) -> Asked:
    return Asked(Path("out"), Path("page"), Path("keep"), **more)


def test_names_and_tables_agree():
    assert tuple(room.ABLATIONS) == ABLATIONS == tuple(room.TABLES)
    assert all(table(name).name == name for name in ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_line_is_another_configuration_of_its_method(name):
    one = room.ABLATIONS[name]
    made = [
        config.change(methods.method(one.method).Config(), presets.settings(one.method, "digits", 1797, False) | one.options(line))
        for line in one.lines
    ]
    assert len(set(made)) == len(made) > 1


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_fits_of_a_seed_share_their_pretext(name):
    one = room.ABLATIONS[name]
    fits = list(room.runs(asked(seeds=range(100, 102), sets=("digits",)), one))
    own = [fit for fit in fits if fit.method == one.method]
    assert [fit.seed for fit in own] == [100] * len(one.lines) + [101] * len(one.lines)
    first = [Fit("kmeans", "digits", seed, room.PRETEXT) for seed in (100, 101)]
    assert [fit for fit in fits if fit not in own] == (first if one.shared else [])
    assert all(fit.features == (first[fit.seed - 100] if one.shared else None) for fit in own)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_row_is_called_by_its_line(name):
    one = room.ABLATIONS[name]
    for line in one.lines:
        assert room.named({"method": one.method, "options": json.dumps(one.options(line), sort_keys=True)}, one) == line
    assert room.named({"method": one.method, "options": '{"n_heads": 77}'}, one) == "n_heads=77"
    assert room.named({"method": "kmeans", "options": json.dumps(room.PRETEXT)}, one) == "k-means on the pretext's features"


def test_methods_are_refused():
    with pytest.raises(InputError, match="an ablation is of one method"):
        list(room.runs(asked(methods=("scan",)), room.ABLATIONS["scan-ablation"]))
