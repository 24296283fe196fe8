"""The papers' ablations as lists of fits: every change is a setting of its method, and each line differs from the others."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from coterie import methods
from coterie.bench import ABLATIONS, Asked, table
from coterie.bench import ablations as room
from coterie.bench.fits import Fit, _pretext, fitted
from coterie.bench.sets import PictureSet
from coterie.errors import InputError
from coterie.fitting import config, presets
from coterie.methods.pretext import PretextConfig
from coterie.run.devices import Devices
from coterie.run.files import read_json_lines


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
    first = [Fit("kmeans", "digits", seed, pretext_of=one.method) for seed in (100, 101)]
    assert [fit for fit in fits if fit not in own] == (first if one.shared else [])
    assert all(fit.features == (first[fit.seed - 100] if one.shared else None) for fit in own)


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_row_is_called_by_its_line(name):
    one = room.ABLATIONS[name]
    for line in one.lines:
        assert room.named({"method": one.method, "options": json.dumps(one.options(line), sort_keys=True)}, one) == line
    assert room.named({"method": one.method, "options": '{"n_heads": 77}'}, one) == "n_heads=77"
    assert room.named({"method": "kmeans", "options": '{"pretext_of": "scan"}'}, one) == "the pretext's features under k-means"


@pytest.mark.parametrize("method", ("scan", "spice"))
@pytest.mark.parametrize("preset, own", [("quick", "digits"), ("digits", "digits"), ("quick", "garments"), ("garments", "garments")])
def test_a_shared_pretext_is_the_one_of_the_method_itself(method, preset, own, tmp_path):
    np.save(tmp_path / "set.npy", np.zeros((300, 8, 8), np.uint8))
    pictures = PictureSet("some", tmp_path / "set.npy", tmp_path / "set.csv", own, 10)
    made = config.change(methods.method("kmeans").Config(), _pretext(method, preset, pictures, gpu=False))
    whole = config.change(methods.method(method).Config(), presets.settings(method, preset, 300, False, own))
    assert {f.name: getattr(made, f.name) for f in fields(PretextConfig)} == {f.name: getattr(whole, f.name) for f in fields(PretextConfig)}


def test_after_a_shared_pretext_a_method_goes_on_as_after_its_own(tmp_path):
    """It is not frozen weights to it, of which SCAN takes twice as many heads and compares the features as they are."""
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8))
    (tmp_path / "set.csv").write_text("path,label\n" + "".join(f"#{i},{i % 2}\n" for i in range(40)))
    small = {"pretext_epochs": 1, "cluster_epochs": 1, "selflabel_epochs": 0}
    pretext = Fit("kmeans", "some", 0, {"pretext_epochs": 1}, pretext_of="scan")
    pictures = PictureSet("some", tmp_path / "set.npy", tmp_path / "set.csv", "digits", 2)
    told = Asked(Path("out"), Path("page"), tmp_path, preset="digits", devices=Devices("cpu", "fp32", 1))
    run = fitted(Fit("scan", "some", 0, small, features=pretext), pictures, told)
    made = json.loads((run / "config.json").read_text())["settings"]
    assert (made["pretext"], made["pretext_epochs"], made["encoder"]) == ("simclr", 0, "small") and made["weights"]
    assert [len(row["scores"]) for row in read_json_lines(run / "history.jsonl") if row["stage"] == "clustering"] == [20]


def test_methods_are_refused():
    with pytest.raises(InputError, match="an ablation is of one method"):
        list(room.runs(asked(methods=("scan",)), room.ABLATIONS["scan-ablation"]))
