"""Calibrated and unsure from end to end: what a run says, what predict says, what is exported, shown and scored."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from coterie import KMeans, fitting, load
from coterie.cli.verbs import app
from coterie.errors import InputError
from coterie.evaluate.labels import Labels
from coterie.evaluate.protocol import without
from coterie.export import export
from coterie.networks.model import FILE
from coterie.report import page
from coterie.run import checkpoint, manifest
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_assignments, read_json

N, K = 120, 4


@pytest.fixture(scope="module")
def features():
    """Kinds that overlap, so that k-means must err."""
    rng = np.random.default_rng(0)
    kinds = np.arange(N) % K
    return (rng.normal(size=(K, 16))[kinds] * 1.2 + rng.normal(size=(N, 16))).astype(np.float32), kinds


def fit(source, folder, method="kmeans", **settings):
    images, plan = fitting.plan(source, method, clusters=K, preset="quick", settings=settings)
    return fitting.fit(images, plan, folder, devices=Devices("cpu", "fp32", 1))


def folder_of(features, folder, **settings):
    fit(features[0], folder, encoder="precomputed", **settings)
    return folder


@pytest.fixture(scope="module")
def sure(features, tmp_path_factory):
    return folder_of(features, tmp_path_factory.mktemp("sure") / "run")


@pytest.fixture(scope="module")
def unsure(features, tmp_path_factory):
    return folder_of(features, tmp_path_factory.mktemp("unsure") / "run", unsure=0.05)


def test_the_mean_confidence_is_what_the_witness_supports(sure):
    told = read_json(sure / "environment.json")["confidence"]
    confidence_N = read_assignments(sure)["confidence"].to_numpy()
    assert told["temperature"] != 1.0 and told["unsure"] == 0
    assert confidence_N.astype(float).mean() == pytest.approx(told["agreed"], abs=2e-3) and told["calibrated"] != told["raw"]


def test_predict_says_what_the_fit_said(sure, features):
    p_NK = probabilities(read_assignments(sure))
    np.testing.assert_allclose(load(sure).predict_proba(features[0]), p_NK, atol=1e-6)


def test_a_model_without_a_temperature_is_read_as_before(sure, features, tmp_path):
    old = load(sure)
    old.save(tmp_path / "run")
    path = tmp_path / "run" / FILE
    state = checkpoint.load(path)
    hot = state.pop("temperature")
    checkpoint.save(path, state, keep_previous=False)
    (tmp_path / "run" / manifest.NAME).unlink()
    log_p = np.log(old.predict_proba(features[0])) * hot
    raw = torch.from_numpy(log_p).double().softmax(1).numpy()
    np.testing.assert_allclose(load(tmp_path / "run").predict_proba(features[0]), raw, atol=1e-4)
    for bad in (0.0, -1.0, float("nan"), float("inf"), 1, "1"):
        checkpoint.save(path, state | {"temperature": bad}, keep_previous=False)
        with pytest.raises(InputError, match="its temperature cannot be"):
            load(tmp_path / "run").predict_proba(features[0])


def test_the_unsure_share_is_exact_and_nothing_else_changes(sure, unsure):
    every, some = read_assignments(sure), read_assignments(unsure)
    left_N = some["cluster"].to_numpy() < 0
    assert left_N.sum() == 6 == fitting.show(unsure)["n_unsure"] and fitting.show(sure)["n_unsure"] == 0
    assert every["p"].equals(some["p"]) and every["confidence"].equals(some["confidence"])
    assert np.array_equal(every["cluster"].to_numpy()[~left_N], some["cluster"].to_numpy()[~left_N])
    assert sum(fitting.show(unsure)["sizes"]) == N - 6


def test_an_estimator_gives_minus_one_and_keeps_the_probabilities(features, unsure):
    model = KMeans(K, preset="quick", encoder="precomputed", settings={"unsure": 0.05}).fit(features[0])
    assert (model.labels_ < 0).sum() == 6 and np.isfinite(model.probabilities_).all()
    assert (model.predict(features[0]) >= 0).all()
    assert np.array_equal(load(unsure).labels_, model.labels_)


def test_a_repeat_continues_and_another_share_is_refused(features, unsure):
    before = (unsure / "assignments.parquet").read_bytes()
    folder_of(features, unsure, unsure=0.05)
    assert (unsure / "assignments.parquet").read_bytes() == before
    with pytest.raises(InputError, match="unsure"):
        folder_of(features, unsure, unsure=0.1)
    with pytest.raises(InputError, match="unsure=1.5: wanted at least 0 and less than 1"):
        folder_of(features, unsure, unsure=1.5)


def test_in_pictures_the_page_the_folders_and_the_csv_say_unsure(drawn, tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for i, picture in enumerate(drawn(60)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{i:03d}.png")
    fit(tmp_path / "in", tmp_path / "run", encoder="pixels", image_size=16, unsure=0.1)
    left = [row["path"] for row in read_assignments(tmp_path / "run").to_pylist() if row["cluster"] == -1]
    assert len(left) == 6
    export(tmp_path / "run", "folders", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "unsure").iterdir()) == sorted(left)
    export(tmp_path / "run", "csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert sorted(row["path"] for row in csv.DictReader(file) if row["cluster"] == "-1") == sorted(left)
    text = page.write(tmp_path / "run").read_text()
    told, _ = json.JSONDecoder().raw_decode(text.rsplit("coterie.table(", 1)[1])
    assert told["kind"].count(-1) == 6 and told["kinds"][-1]["number"] == -1 and "left out as unsure" in text


def test_evaluate_scores_all_and_says_what_was_left_out(features, unsure, tmp_path):
    with (tmp_path / "labels.csv").open("w") as file:
        file.writelines(["path,label\n", *(f"{path},{kind}\n" for path, kind in zip(load(unsure).paths_, features[1]))])
    told = CliRunner().invoke(app, ["evaluate", str(unsure), "--labels", str(tmp_path / "labels.csv")])
    assert "6 images left out as unsure" in told.output and "calibration error" in told.output and "risk-coverage" in told.output
    told = CliRunner().invoke(app, ["evaluate", str(unsure), "--labels", str(tmp_path / "labels.csv"), "--json"])
    scores = json.loads(told.stdout)
    assert scores["n_images"] == N and scores["unsure"]["n"] == 6
    assert scores["unsure"]["acc_of_others"] >= scores["acc"]


def test_without_by_hand():
    p_NK = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])
    truth = Labels(np.array([0, 0, 1, 1, 1, -1]), ["a", "b"])
    found = without(truth, p_NK, np.array([False, False, True, True, False, True]))
    assert found == {"n": 3, "acc_of_others": 1.0, "share_of_errors": 1.0}
    assert without(truth, p_NK, np.ones(6, bool))["acc_of_others"] is None


def test_one_cluster_or_two_pictures_are_no_obstacle(tmp_path):
    rng = np.random.default_rng(0)
    for n, k in ((2, 2), (5, 1), (3, 3)):
        images, plan = fitting.plan(rng.normal(size=(n, 4)).astype(np.float32), "kmeans", clusters=k, preset="quick",
                                    settings={"encoder": "precomputed"})  # fmt: skip
        fitting.fit(images, plan, tmp_path / f"{n}", devices=Devices("cpu", "fp32", 1))
        assert np.isfinite(probabilities(read_assignments(tmp_path / f"{n}"))).all()
