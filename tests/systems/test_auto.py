"""`--clusters auto` and `A:B` as a whole: the kinds are counted before heads are made, and a run that was killed counts them alike."""

import numpy as np
import pytest

from coterie import fitting
from coterie.errors import InputError
from coterie.estimators import KMeans, load
from coterie.evaluate import metrics
from coterie.report import page
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import read_json, read_json_lines

from .runs import TINY, Killed, bits, die_after, fit, outcome

FROM_THE_FIRST_EPOCH = {"iic", "cc", "pica", "dec", "idec"}  # no pretext comes before their clusters, so none can be counted on

pytestmark = pytest.mark.systems


def noise(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def auto(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("auto") / "run"
    return folder, fit(drawn(), folder, clusters=None)


def test_a_source_without_a_number_is_counted(drawn, auto):
    folder, done = auto
    assert done["n_clusters"] == 4 == len(done["sizes"]) and done["clusters_low"] <= 4 <= done["clusters_high"]
    assert metrics.accuracy(np.arange(120) % 4, outcome(folder)[0]) > 0.8
    made = read_json(folder / "config.json")
    assert made["settings"]["n_clusters"] == 4 == fitting.show(folder)["n_clusters"] == load(folder).n_clusters_
    found = made["clusters"]
    assert found["asked"] == "auto" and found["k"] == 4 and max(found["scores"], key=found["scores"].get) == "4"
    notes = [row["text"] for row in read_json_lines(folder / "history.jsonl") if row["stage"] == "note"]
    assert sum(note.startswith("K = 4") and found["why"] in note for note in notes) == 1
    text = page.page(page.read(folder))
    assert "Why 4 kinds?" in text and "chosen: 4 kinds" in text
    assert "counting" in read_json(folder / "environment.json")["stages"]


def test_the_same_as_with_the_number_given(drawn, auto, tmp_path):
    fit(drawn(), tmp_path / "given", clusters=4)
    for found, given in zip(outcome(auto[0]), outcome(tmp_path / "given")):
        assert np.array_equal(found, given)


def test_the_pretext_is_trained_once(drawn, tmp_path, monkeypatch):
    log, epochs = Run.log, []

    def counting(self, **scalars):
        epochs.append((self._stage, self._epoch))
        log(self, **scalars)

    monkeypatch.setattr(Run, "log", counting)
    fit(drawn(40), tmp_path / "run", clusters="auto")
    assert len(epochs) == len(set(epochs)) and sum(stage == "pretext" for stage, _ in epochs) == TINY["scan"]["pretext_epochs"]


@pytest.mark.parametrize("lines", [2, 4, 5, 7])
def test_killed_and_continued_counts_alike(drawn, auto, tmp_path, monkeypatch, lines):
    """In the pretext, right after it, and in the clustering."""
    with monkeypatch.context() as patch:
        die_after(patch, lines)
        with pytest.raises(Killed):
            fit(drawn(), tmp_path / "run", clusters="auto")
    assert fitting.show(tmp_path / "run")["n_clusters"] in ("auto", 4)
    fit(drawn(), tmp_path / "run", clusters="auto")
    assert bits(tmp_path / "run") == bits(auto[0])
    assert read_json(tmp_path / "run" / "config.json") == read_json(auto[0] / "config.json")


def test_killed_while_it_counts(drawn, auto, tmp_path, monkeypatch):
    def dying(*given):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("coterie.fitting.how_many.count", dying)
        with pytest.raises(Killed):
            fit(drawn(), tmp_path / "run", clusters="auto")
    assert fitting.show(tmp_path / "run")["n_clusters"] == "auto"
    fit(drawn(), tmp_path / "run", clusters="auto")
    assert bits(tmp_path / "run") == bits(auto[0])


@pytest.mark.parametrize("method", sorted(set(TINY) - FROM_THE_FIRST_EPOCH))
def test_every_method(drawn, tmp_path, method):
    done = fit(drawn(80), tmp_path / "run", method=method, clusters="2:8")
    assert 2 <= done["clusters_low"] <= done["n_clusters"] <= done["clusters_high"] <= 8 and sum(done["sizes"]) == 80
    assert outcome(tmp_path / "run")[1].shape == (80, done["n_clusters"])
    assert fit(drawn(80), tmp_path / "run", method=method, clusters="2:8") == done, "it is finished"


@pytest.mark.parametrize("method", sorted(FROM_THE_FIRST_EPOCH))
def test_what_learns_clusters_from_the_first_epoch_has_to_be_told_how_many(drawn, tmp_path, method):
    with pytest.raises(InputError, match=f"{method} learns its clusters from the first epoch on.*--clusters K"):
        fit(drawn(80), tmp_path / "run", method=method, clusters="2:8")


@pytest.mark.parametrize("method", ["deepcluster", "pcp"])
def test_training_does_not_see_the_number(drawn, tmp_path, monkeypatch, method):
    """What trains the encoder by clustering is continued, too, and gives the same bits."""
    whole = (
        {"method": method, "clusters": "2:8", "pseudo_clusters": 0} if method == "deepcluster" else {"method": method, "clusters": "2:8"}
    )
    fit(drawn(60), tmp_path / "whole", **whole)
    with monkeypatch.context() as patch:
        die_after(patch, 3)
        with pytest.raises(Killed):
            fit(drawn(60), tmp_path / "run", **whole)
    fit(drawn(60), tmp_path / "run", **whole)
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def test_one_kind(tmp_path):
    done = fit(noise(), tmp_path / "run", method="kmeans", clusters="auto")
    assert (done["n_clusters"], done["clusters_low"], done["clusters_high"], done["sizes"]) == (1, 1, 1, [60])
    assert any("look like one kind" in warning for warning in done["health"])
    text = page.page(page.read(tmp_path / "run"))
    assert "sorted into 1 kind" in text and "Why 1 kind?" in text and "pictures of one kind" in text
    assert "look like one kind" in text


def test_a_range_holds_where_no_kinds_are(tmp_path):
    assert fit(noise(), tmp_path / "run", method="kmeans", clusters="3:5")["n_clusters"] in (3, 4, 5)


def test_a_range_of_one_number_is_that_number(drawn, tmp_path):
    done = fit(drawn(40), tmp_path / "run", method="kmeans", clusters="3:3")
    assert done["n_clusters"] == 3 and "clusters" not in read_json(tmp_path / "run" / "config.json")


def test_another_question_is_another_fit(drawn, tmp_path):
    fit(drawn(40), tmp_path / "run", method="kmeans", clusters="auto")
    for clusters, word in ((4, "clusters: auto, now 4"), ("2:9", "clusters: auto, now 2:9")):
        with pytest.raises(InputError, match=word):
            fit(drawn(40), tmp_path / "run", method="kmeans", clusters=clusters)
    fit(drawn(40), tmp_path / "given", method="kmeans", clusters=4)
    with pytest.raises(InputError, match="clusters: 4, now auto"):
        fit(drawn(40), tmp_path / "given", method="kmeans", clusters="auto")


def test_a_config_repeats_the_question(drawn, tmp_path):
    fit(drawn(40), tmp_path / "run", method="kmeans", clusters="2:9")
    base = read_json(tmp_path / "run" / "config.json")
    images, plan = fitting.plan(drawn(40), base=base)
    assert plan.asked == "2:9"
    fitting.fit(images, plan, tmp_path / "again", devices=Devices("cpu", "fp32", 1))
    assert bits(tmp_path / "again") == bits(tmp_path / "run")
    assert fitting.plan(drawn(40), base=base, clusters=3)[1].config.n_clusters == 3
    assert fitting.plan(drawn(40), base=base, settings={"n_clusters": 5})[1].asked == ""


def test_a_named_set_implies_its_classes():
    assert (
        fitting.plan("digits", "kmeans")[1].config.n_clusters == 10 and fitting.plan("digits", "kmeans", clusters="auto")[1].asked == "auto"
    )


def test_an_estimator(drawn):
    model = KMeans("auto", preset="quick", settings=TINY["kmeans"], device="cpu", threads=1).fit(drawn(80))
    assert 2 <= model.n_clusters_ <= 8 and model.n_clusters == "auto" and model.probabilities_.shape == (80, model.n_clusters_)
    assert KMeans("3:5", preset="quick", settings=TINY["kmeans"], device="cpu", threads=1).fit(drawn(80)).n_clusters_ in (3, 4, 5)
    rows = np.eye(3, 6)[np.arange(60) % 3] * 5 + np.random.default_rng(0).normal(size=(60, 6)) * 0.3
    assert KMeans("auto", encoder="precomputed", threads=1).fit(rows).n_clusters_ == 3


def test_the_verdict_proposes_no_other_number(drawn, auto):
    assert not {"other_k", "other_stability"} & set(read_json(auto[0] / "environment.json")["evidence"])
