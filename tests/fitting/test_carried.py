"""Corrections of a run in the one that grew out of it."""

import numpy as np
import pytest
from tests.report.fake_run import blobs, drawings, fake_run

from coterie.fitting.carried import carry
from coterie.run import edits
from coterie.run.acts import complete, replay

OLD = np.arange(24) % 3  # clusters 0, 1, 2
NEW = np.array([0, 1, 2, 0, 1, 2])


def grown(folder, labels, k):
    features, p = blobs(labels.clip(0), k, d=8)
    return fake_run(folder / "run", [f"{i}.png" for i in range(len(labels))], drawings(labels.clip(0), len(labels)), labels, p, features)


def corrected(*acts):
    """The old run after these acts, each completed as `append` does."""
    done = []
    for act in acts:
        now = replay(OLD, done, 3)
        done.append(complete(act, lambda now=now: now))
    return replay(OLD, done, 3)


def rows(labels):
    return np.eye(3, dtype=np.float32)[labels % 3]


def ids(cluster, labels=OLD):
    return np.flatnonzero(labels == cluster).tolist()


def test_nothing_was_corrected(tmp_path):
    run = grown(tmp_path, np.r_[OLD, NEW], 3)
    assert carry(corrected(), 3, run, rows(np.r_[OLD, NEW])) == (0, 0, {}) and not (run / edits.FILE).exists()


def test_names_merges_moves_and_what_is_confirmed(tmp_path):
    now = corrected(
        {"act": "merge", "clusters": [0, 1], "into": 0}, {"act": "rename", "cluster": 0, "name": "both"},
        {"act": "move", "ids": [2], "cluster": -1}, {"act": "move", "ids": [5, 8], "cluster": 3}, {"act": "confirm", "cluster": 0},
    )  # fmt: skip
    run = grown(tmp_path, np.r_[OLD, NEW], 3)
    kept = carry(now, 3, run, rows(np.r_[OLD, NEW]))
    after = edits.edited(run)
    assert after.cluster_N[:24].tolist() == now.cluster_N.tolist() and after.names == now.names == {0: "both"}
    assert after.cluster_N[24:].tolist() == [0, 0, 2, 0, 0, 2], "new pictures go with their cluster"
    assert after.confirmed_N[:24].tolist() == now.confirmed_N.tolist() and not after.confirmed_N[24:].any()
    assert kept.lost == 0 and kept.became == {3: 3} and kept.n_acts == after.n_acts


def test_new_kinds_take_the_numbers_and_those_of_acts_follow(tmp_path):
    first, second = ids(0)[:4], ids(0)[4:]
    now = corrected(
        {"act": "split", "cluster": 0, "parts": [first, second]}, {"act": "undo"},
        {"act": "split", "cluster": 0, "parts": [first, second]}, {"act": "rename", "cluster": 4, "name": "half"},
        {"act": "not_a_kind", "cluster": 1},
    )  # fmt: skip
    labels = np.r_[OLD, NEW, [3, 3]]
    run = grown(tmp_path, labels, 4)
    at = np.zeros((len(labels), 2), np.float32)
    at[first], at[second], at[[24, 27]] = (1, 0), (0, 1), ((0.9, 0.1), (0.1, 0.9))
    kept = carry(now, 3, run, at)
    after = edits.edited(run)
    assert kept.became == {4: 4} and after.names == {4: "half"} and after.not_kinds == {1}
    assert ids(4, after.cluster_N) == [*second, 27] and ids(0, after.cluster_N) == [*first, 24], "each to the nearest part"
    assert ids(3, after.cluster_N) == [30, 31]


def test_what_went_to_a_new_kind_is_lost_and_counted(tmp_path):
    first, second = ids(0)[:4], ids(0)[4:]
    now = corrected(
        {"act": "split", "cluster": 0, "parts": [first, second]}, {"act": "rename", "cluster": 3, "name": "gone"},
        {"act": "rename", "cluster": 0, "name": "here"}, {"act": "confirm", "cluster": 3},
    )  # fmt: skip
    labels = np.where(np.isin(np.arange(24), second), 3, OLD)
    run = grown(tmp_path, labels, 4)
    kept = carry(now, 3, run, rows(labels))
    after = edits.edited(run)
    assert kept.lost == 2 and kept.became == {} and after.names == {0: "here"} and not after.confirmed_N.any()


@pytest.mark.parametrize("seed", range(5))
def test_random_acts_in_a_run_without_new_pictures_come_to_the_same(tmp_path, seed):
    rng, acts = np.random.default_rng(seed), []
    for n in range(30):
        now = replay(OLD, acts, 3)
        cluster = int(rng.choice(now.clusters))
        mine = rng.permutation(ids(cluster, now.cluster_N)).tolist()
        other = int(rng.choice(now.clusters))
        some = {
            0: {"act": "rename", "cluster": cluster, "name": f"name {n}"},
            1: {"act": "move", "ids": rng.choice(24, 3, replace=False).tolist(), "cluster": int(rng.choice([-1, other, now.following]))},
            2: {"act": "split", "cluster": cluster, "parts": [mine[:1], mine[1:]]} if len(mine) > 1 else None,
            3: {"act": "merge", "clusters": [cluster, other]} if other != cluster else None,
            4: {"act": "confirm", "cluster": cluster},
            5: {"act": "undo"} if now.applied else None,
        }[int(rng.integers(6))]
        if some:
            acts.append(complete(some, lambda now=now: now))
    now = replay(OLD, acts, 3)
    run = grown(tmp_path, OLD, 3)
    kept = carry(now, 3, run, rows(OLD))
    after = edits.edited(run)
    there = {number: kept.became.get(number, number) for number in (-1, *now.clusters)}
    assert kept.lost == 0 and after.cluster_N.tolist() == [there[c] for c in now.cluster_N.tolist()]
    assert after.names == {there[c]: name for c, name in now.names.items()} and after.confirmed_N.tolist() == now.confirmed_N.tolist()
