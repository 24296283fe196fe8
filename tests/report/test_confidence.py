"""What a run says of its confidence, in words."""

import pytest

from coterie.report.confidence import confidence

FOUND = {
    "witness": "cut of the graph of neighbours",
    "agreed": 0.931,
    "clusters": [{"cluster": 3, "cohesion": 0.5, "neighbours": 0.9, "margin": 0.8}],
    "confused": [
        {"pair": [3, 7], "mixing": 0.72, "crossing": 1, "suggestion": "merge"},
        {"pair": [1, 2], "mixing": 0.2, "crossing": 40, "suggestion": "look"},
    ],
}


def test_in_words():
    told = confidence({"confidence": FOUND})
    assert "agrees on 93" in told.calibrated and "0.50" in told.clusters[3] and "90" in told.clusters[3]
    merge, look = told.pairs
    assert merge.endswith("coterie recut RUN --merge 3,7 -o RUN2") and "1 pair of" in merge
    assert "recut" not in look and "Look" in look and "40 pairs" in look


def test_older_runs_and_single_clusters_say_nothing_and_damage_is_seen():
    assert confidence({}) == confidence({"confidence": {"witness": None}}) == ("", {}, [])
    with pytest.raises((KeyError, TypeError)):
        confidence({"confidence": {"witness": "x"}})
