"""Heads beside each other, and the accuracy of a stage over its epochs."""

import html

import pytest

from coterie.report.charts import panels
from coterie.report.data import Stage, read
from coterie.report.heads import compare
from coterie.report.page import page

from .fake_run import blobs, drawings, fake_run, metrics

SCORES = [(0, [-1.0, -2.0, -1.5]), (1, [-1.2, -2.5, -2.6]), (2, [-1.1, -2.4, -2.55]), (3, [-1.3, -2.3, -2.5])]
ACCURACIES = [(0, [0.3, 0.5, 0.4]), (2, [0.9, 0.6, 0.7]), (3, [0.8, 0.6, 0.65])]
CLUSTERING = Stage("clustering", 1.0, 4, {}, SCORES, (1, 2))


def words(text):
    return html.unescape(text).replace("\u202f", " ")


@pytest.fixture
def traced_run(tmp_path, labels):
    """Clustering with three heads and self-labelling with one, evaluated."""
    best = [(1, -2.0), (2, -2.6), (2, -2.6), (2, -2.6)]
    lines = [
        {"stage": "clustering", "epoch": epoch, "scores": row, "head": head, "score": score, "confident": 0.5}
        for (epoch, row), (head, score) in zip(SCORES, best)
    ]
    lines += [{"stage": "note", "text": "the threshold is low, see /home/someone/secret/x.txt"}]
    lines += [{"stage": "self-labelling", "epoch": epoch, "confident": 0.7 + epoch / 100} for epoch in range(3)]
    features, p = blobs(labels, 4)
    measured = metrics(labels, labels, list("abcd"))
    measured["curves"] = {"clustering": ACCURACIES, "self-labelling": [[0, [0.71]], [1, [0.75]], [2, [0.74]]]}
    return fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features, stages=lines, measured=measured)


def test_the_choice_and_the_oracle():
    heads = compare(CLUSTERING, ACCURACIES)
    assert heads is not None
    by_score, by_labels = heads.charts
    assert [mark.words for mark in by_score.marks] == ["chosen: head 2 at epoch 1, score \u22122.600"]
    assert [mark.words.replace("\u202f", " ") for mark in by_labels.marks] == [
        "chosen without labels: head 2 at epoch 0, the nearest kept, 40.0 %",
        "oracle, the best by labels: head 0 at epoch 2, 90.0 %",
    ]
    assert [role for role, _ in by_labels.lines] == ["other", "oracle", "chosen"], "what is marked lies on top"
    assert (by_score.marks[0].y, by_labels.marks[1].y) == (38.0, 2.0), "the lowest score is at the bottom, the best accuracy at the top"
    assert heads.chosen == 0.4 and heads.epochs == (3, 3)
    assert [(row.head, row.role, row.loss, row.accuracy) for row in heads.rows] == [
        (2, "chosen", -2.5, 0.65),
        (1, "other", -2.3, 0.6),
        (0, "oracle", -1.3, 0.8),
    ]


def test_a_choice_as_good_as_the_labels_own():
    heads = compare(CLUSTERING, [(1, [0.2, 0.3, 0.9]), (2, [0.9, 0.1, 0.1])])
    assert heads is not None and heads.chosen == 0.9
    assert [mark.role for mark in heads.charts[1].marks] == ["chosen"] and "no better" in heads.charts[1].marks[0].words


def test_without_labels_without_scores_and_with_many_heads():
    unlabelled = compare(CLUSTERING, [])
    assert unlabelled is not None and len(unlabelled.charts) == 1 and unlabelled.chosen is None
    assert [row.accuracy for row in unlabelled.rows] == [None] * 3 and not [row for row in unlabelled.rows if row.role == "oracle"]
    bare = Stage("clustering", None, 2, {})
    assert compare(bare, []) is None and compare(bare, [(0, [0.5])]) is None
    unscored = compare(bare, ACCURACIES)
    assert unscored is not None and [mark.role for mark in unscored.charts[0].marks] == ["oracle"]
    many = compare(Stage("clustering", None, 1, {}, [(0, [float(-head) for head in range(21)])], (0, 20)), [])
    assert many is not None and many.rows == [] and len(many.charts[0].lines) == 21
    other = compare(CLUSTERING, [(0, [0.5, 0.5])])
    assert other is not None and len(other.charts) == 1, "accuracies of two heads say nothing about three"


def test_history_tells_the_choice(traced_run):
    clustering, labelling = read(traced_run).stages
    assert clustering.scores == SCORES and clustering.chosen == (1, 2), "the first epoch that names the last best"
    assert "head" not in clustering.curves and (labelling.scores, labelling.chosen) == ([], None)
    assert len(clustering.notes) == 1 and labelling.notes == [], "a note belongs to the stage before it, and is none itself"


def test_ragged_and_infinite_scores_are_left_out(tmp_path, labels):
    rows = [[1.0, 2.0], [1.0], [float("inf"), 1.0], "none", [0.5, 1.5]]
    lines = [{"stage": "a", "epoch": epoch, "scores": row} for epoch, row in enumerate(rows)]
    features, p = blobs(labels, 4)
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features, stages=lines)
    (stage,) = read(run).stages
    assert stage.scores == [(0, [1.0, 2.0]), (4, [0.5, 1.5])] and stage.chosen is None
    page(read(run))


def test_accuracy_of_a_stage_with_one_head():
    stage = Stage("self-labelling", None, 3, {"confident": [(0, 0.5), (2, 0.6)]})
    confident, measured = panels(stage, 4, [(0, 0.5), (1, 0.75), (2, 0.625)], before=0.25)[0]
    assert (confident.title, confident.low.replace("\u202f", " "), confident.high.replace("\u202f", " ")) == ("Confident", "0 %", "100 %")
    assert (measured.title, measured.last.replace("\u202f", " "), measured.epochs) == ("Accuracy", "62.5 %", (0, 2))
    assert measured.even == 38.0 and measured.end == (98.0, 11.0), "the axis goes from where the stage before left off to the best"
    assert [panel.title for panel in panels(stage, 4)[0]] == ["Confident"]


def test_the_stages_of_spice(tmp_path, labels):
    """Heads in the prototype stage, two losses in the joint one; the sum of the two waits below."""
    lines = [
        {"stage": "prototypes", "epoch": e, "loss": 2.0, "scores": row, "head": 1, "score": -2.0, "confident": 0.5} for e, row in SCORES
    ]
    joint = {"loss": 1.5, "labelled": 0.5, "unlabelled": 1.0, "confident": 0.25, "agreement": 0.625}
    lines += [{"stage": "joint", "epoch": epoch} | joint for epoch in range(3)]
    features, p = blobs(labels, 4)
    measured = metrics(labels, labels, list("abcd")) | {"curves": {"prototypes": ACCURACIES, "joint": [[0, [0.71]], [2, [0.75]]]}}
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features, stages=lines, measured=measured)
    prototypes, stage = read(run).stages
    assert prototypes.chosen == (0, 1) and compare(prototypes, ACCURACIES) is not None
    main, rest = panels(stage, 4)
    assert [(panel.title, panel.last.replace("\u202f", " ")) for panel in main] == [
        ("Loss of reliable images", "0.5"),
        ("Loss of all images", "1"),
        ("Confident", "25 %"),
        ("Neighbours agree", "0.625"),
    ]
    assert [panel.title for panel in rest] == ["Loss, the sum"]
    assert "Loss" in [panel.title for panel in panels(prototypes, 4)[0]]
    first, last = words(page(read(run))).split('id="training"')[1].split("<h3>Joint")
    assert "Its 3 heads" in first and "chosen: head 1 at epoch 0" in first and "oracle, the best by labels: head 0 at epoch 2" in first
    assert "Loss of reliable images" in last and "<b>Accuracy</b><span>75.0 %</span>" in last and "Its 3 heads" not in last


def test_the_page_draws_every_stage_that_has_curves(traced_run):
    text = words(page(read(traced_run)))
    clustering, labelling = text.split('id="training"')[1].split("Self-labelling")
    assert "Its 3 heads" in clustering and "oracle, the best by labels: head 0 at epoch 2, 90.0 %" in clustering
    assert "see x.txt" in clustering and "someone" not in text
    assert "<b>Accuracy</b><span>74.0 %</span>" in labelling and "where the stage before left off" in labelling
    assert "Its 3 heads" not in labelling


def test_no_accuracy_before_evaluate(traced_run):
    (traced_run / "metrics.json").unlink()
    text = words(page(read(traced_run)))
    assert "Its 3 heads" in text and "Label-free score of each head" in text
    assert "racle" not in text.split("<body>")[1].split("<script>")[0] and "<b>Accuracy" not in text and "ACC, %" not in text


def test_deepcluster_shows_how_its_clusters_settle(tmp_path, labels):
    """NMI and re-assigned images from the second epoch on, for all to see; sizes of pseudo-clusters among the other curves."""
    lines = [
        {"stage": "deep clustering", "epoch": epoch, "loss": 4.0 - epoch, "clusters": 40, "empty": 3 - epoch}
        | {"smallest": 2, "largest": 9, "sizes": [9, 2]}
        | ({"nmi": 0.6 + epoch / 10, "changed": 0.5 - epoch / 10} if epoch else {})
        for epoch in range(3)
    ]
    features, p = blobs(labels, 4)
    run = fake_run(
        tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features, method="deepcluster", stages=lines
    )
    (stage,) = read(run).stages
    main, rest = panels(stage, 4)
    assert [panel.title for panel in main] == ["Loss", "Changed cluster", "Same clusters as before"]
    nmi = main[2]
    assert (nmi.epochs, nmi.low, nmi.high, nmi.last) == ((1, 2), "0.7", "0.8", "0.8")
    assert {panel.title for panel in rest} >= {"Empty clusters", "Pseudo-clusters", "Images of the largest pseudo-cluster"}
    text = words(page(read(run)))
    assert "DeepCluster" in text and "Deep clustering" in text and "Same clusters as before" in text
