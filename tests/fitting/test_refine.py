"""Runs that learn from corrections: what was said is kept, what follows is learned, nothing else changes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coterie import fitting, load
from coterie.errors import InputError
from coterie.fitting.asking import ask
from coterie.fitting.hierarchy import Sorted
from coterie.fitting.recut import recut
from coterie.fitting.refine import in_words, refine
from coterie.fitting.teaching import corrected, of, of_kinds
from coterie.networks import model
from coterie.report import page
from coterie.run import checkpoint, edits, manifest
from coterie.run.acts import replay
from coterie.run.devices import Devices
from coterie.run.files import read_assignments, read_json

DEVICES = {"device": "cpu", "precision": "fp32", "threads": 1}


def mixed(each=30, d=24, seed=0):
    """Features of three kinds, of which two lie close together, and the kind of each."""
    rng = torch.Generator().manual_seed(seed)
    far_3D = 4 * F.normalize(torch.randn(3, d, generator=rng))
    far_3D[1] = far_3D[0] + 0.9 * F.normalize(torch.randn(d, generator=rng), dim=0)
    kind_N = torch.arange(3 * each) % 3
    return (far_3D[kind_N] + 0.15 * torch.randn(3 * each, d, generator=rng)).numpy() + 2, kind_N.numpy()


def fitted(folder, source, clusters, **settings):
    images, plan = fitting.plan(source, "kmeans", clusters=clusters, preset="quick", settings={"restarts": 2, **settings})
    fitting.fit(images, plan, folder, devices=Devices(**DEVICES))
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two clusters on three kinds."""
    return fitted(tmp_path_factory.mktemp("features") / "two", mixed()[0], 2, encoder="precomputed")


@pytest.fixture(scope="module")
def pictures(drawn, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    np.save(folder / "pictures.npy", drawn(48, 16))
    return fitted(folder / "run", folder / "pictures.npy", 4, image_size=16)


@pytest.fixture
def copy(tmp_path):
    """(run) -> the same run in a folder of its own, to be edited."""

    def made(run):
        recut(run, tmp_path / "run", len(read_assignments(run)["p"][0]))
        return tmp_path / "run"

    return made


def labels(run):
    return read_assignments(run)["cluster"].to_numpy()


def test_a_few_answers_find_the_kind_that_was_hidden(two, copy, tmp_path):
    """Two clusters, three kinds: three pictures of one are moved into a new cluster, three of the other confirmed."""
    _, kind_N = mixed()
    run = copy(two)
    one, other, third = (np.flatnonzero(kind_N == kind) for kind in range(3))
    hidden = 2 if labels(run)[third[0]] == labels(run)[one[0]] else 1
    inside, beside = np.flatnonzero(kind_N == hidden), one
    edits.append(run, {"act": "move", "ids": inside[:3].tolist(), "cluster": 2})
    edits.append(run, {"act": "confirm", "ids": beside[:3].tolist()})
    edits.append(run, {"act": "rename", "cluster": 2, "name": "hidden"})
    done = refine(run, tmp_path / "new")
    table = np.zeros((3, 3), int)
    np.add.at(table, (kind_N, labels(tmp_path / "new")), 1)
    assert table.max(1).min() >= 24 and len(set(table.argmax(1))) == 3 and done["n_clusters"] == 3 and done["kept"] == 1.0
    assert done["anchors"] == 6 and done["must"] == 6 and done["cannot"] == 9 and done["names"] == {"2": "hidden"}
    most = done["moves"][0]
    assert done["moved"] == sum(move["pictures"] for move in done["moves"]) and most["to"] == 2 and most["pictures"] >= 21
    assert f"{most['pictures']} from" in "; ".join(in_words(done)) and "to 2 (hidden)" in "; ".join(in_words(done))
    assert (load(tmp_path / "new").set_params(**DEVICES).predict(mixed()[0]) == labels(tmp_path / "new")).all()


def test_a_split_stays_when_one_part_is_confirmed_whole(two, copy, tmp_path):
    """What a split made two kinds stays two, also where all of one and a single picture of the other are confirmed: 24 of 30 went over."""
    _, kind_N = mixed()
    run = copy(two)
    cluster = next(c for c in (0, 1) if len(set(kind_N[labels(run) == c])) == 2)
    one, other = (np.flatnonzero(kind_N == kind) for kind in sorted(set(kind_N[labels(run) == cluster])))
    edits.append(run, {"act": "split", "cluster": cluster, "parts": [one.tolist(), other.tolist()]})
    edits.append(run, {"act": "confirm", "ids": [*other.tolist(), int(one[0])]})
    done = refine(run, tmp_path / "new")
    assert done["moved"] <= len(one) // 3 and done["n_clusters"] == 3 and done["anchors"] == len(other) + 1


def test_every_verb_reads_it(pictures, copy, tmp_path):
    run = copy(pictures)
    label_N = labels(run)
    for act in (
        {"act": "merge", "clusters": [0, 2], "into": 2},
        {"act": "rename", "cluster": 2, "name": "both; of them"},
        {"act": "confirm", "ids": np.flatnonzero(label_N == 1)[:3].tolist()},
        {"act": "move", "ids": np.flatnonzero(label_N == 3)[:2].tolist(), "cluster": -1},
        {"act": "move", "ids": np.flatnonzero(label_N == 3)[2:4].tolist(), "cluster": 1},
    ):
        edits.append(run, act)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    new = tmp_path / "new"
    done = refine(run, new)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert done["became"] == {"1": 0, "2": 1, "3": 2} and done["n_clusters"] == 3 and done["kept"] == 1.0
    shown = fitting.show(new)
    assert shown["n_clusters"] == 3 and shown["files"] == "as they were written" and len(shown["sizes"]) == 3
    assert (labels(new)[np.flatnonzero(label_N == 3)[:2]] == -1).all() and (labels(new) < 0).sum() == 2
    assert (labels(new)[np.flatnonzero(label_N == 3)[2:4]] == 0).all()
    assert "data-image-id" in page.write(new).read_text()
    _, _, p_NK = fitting.predict(new, pictures.parent / "pictures.npy", Devices(**DEVICES), tmp_path / "cache")
    assert (p_NK.argmax(1).numpy() == labels(new))[labels(new) >= 0].all()
    now = edits.edited(new)
    assert now.names == {1: "both; of them"} and now.confirmed_N.sum() == 5 and (now.cluster_N == labels(new)).all()
    made = read_json(new / "config.json")
    assert made["refine"]["became"] == done["became"] and made["refine"]["trained"] == 4 and made["settings"]["n_clusters"] == 3
    assert "refined by what was corrected" in (new / "history.jsonl").read_text().splitlines()[-1]
    again = refine(new, tmp_path / "again")
    assert again["n_clusters"] == 3 and again["anchors"] >= 5 and again["kept"] == 1.0
    recut(new, tmp_path / "recut", 2)


def test_the_same_refine_has_the_same_bytes(pictures, copy, tmp_path):
    run = copy(pictures)
    edits.append(run, {"act": "confirm", "cluster": 1})
    for name in ("one", "two"):
        refine(run, tmp_path / name)
    for name in manifest.FITTED:
        if name not in ("environment.json", model.FILE):  # it tells times; the order within its header is drawn
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    states = [checkpoint.load(tmp_path / name / model.FILE) for name in ("one", "two")]
    assert checkpoint.fingerprint(states[0]) == checkpoint.fingerprint(states[1])


def test_copies_in_two_kinds_are_said(copy, tmp_path):
    x_ND, _ = mixed()
    x_ND[3], x_ND[6] = x_ND[0], x_ND[0]
    run = copy(fitted(tmp_path / "first", x_ND, 2, encoder="precomputed"))
    edits.append(run, {"act": "move", "ids": [0], "cluster": 0})
    edits.append(run, {"act": "move", "ids": [3], "cluster": 1})
    edits.append(run, {"act": "confirm", "ids": [1]})
    done = refine(run, tmp_path / "new")
    assert done["contradictions"] == [[0, 3, 6]] and done["anchors"] == 1
    assert "pictures 0, 3, 6 are copies of each other" in "; ".join(in_words(done))


# ---- what edits come to


def test_kinds_by_hand():
    """Cluster 0 is split into kinds 0 and 2, 1 stays; picture 4 was moved from 1 to 0 by hand."""
    p_NC = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    was_N, now_N = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 2, 1, 0, -1])
    said_N = torch.arange(6) == 4
    found = of_kinds(p_NC, was_N, now_N, said_N, 3, torch.tensor([0, 1]))
    third = 1 / 3
    wanted = [
        [0.8, 0.2, 0], [0.8, 0.2, 0], [0, 0.4, 0.6], [0.1 * 2 * third, 0.9, 0.1 * third],
        [0.3 * 2 * third, 0.7, 0.3 * third], [0.2 * 2 * third, 0.8, 0.2 * third],
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(wanted))


def test_without_edits_kinds_are_the_clusters():
    p_NK = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    found = Sorted(p_NK, p_NK.argmax(1), torch.eye(20), 0)
    given = of(found, replay(found.labels_N.numpy(), [], 4))
    torch.testing.assert_close(given.p_NK, p_NK)
    assert not given.changed and (given.anchors.labels_N < 0).all() and not given.outside_N.any()


def test_names_alone_are_no_corrections(pictures, copy, tmp_path):
    run = copy(pictures)
    edits.append(run, {"act": "rename", "cluster": 1, "name": "cats"})
    with pytest.raises(InputError, match="has no corrections to learn from"):
        refine(run, tmp_path / "new")
    edits.append(run, {"act": "merge", "clusters": [0, 1, 2, 3], "into": 0})
    with pytest.raises(InputError, match="has one kind"):
        refine(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="there is no run folder"):
        refine(tmp_path / "nowhere", tmp_path / "new")


# ---- what is asked


def test_what_was_answered_is_not_asked_again(pictures, copy):
    run = copy(pictures)
    first = ask(run, 5)
    assert len({one["id"] for one in first}) == 5 and all(one["cluster"] == labels(run)[one["id"]] for one in first)
    assert {"path", "name", "likeliest", "lead"} <= set(first[0])
    edits.append(run, {"act": "confirm", "ids": [first[0]["id"], first[1]["id"]]})
    edits.append(run, {"act": "move", "ids": [first[2]["id"]], "cluster": -1})
    edits.append(run, {"act": "not_a_kind", "cluster": 3})
    settled = {one["id"] for one in first[:3]} | set(np.flatnonzero(labels(run) == 3).tolist())
    left = ask(run, 99)
    assert not settled & {one["id"] for one in left} and len(left) == 48 - len(settled | {one["id"] for one in first[:3]})
    assert corrected(run).settled_N.sum() == 48 - len(left)
    for cluster in range(4):
        edits.append(run, {"act": "confirm", "cluster": cluster})
    assert ask(run, 3) == [] or {one["id"] for one in ask(run, 3)} == {first[2]["id"]}
    with pytest.raises(InputError, match="--n 0"):
        ask(run, 0)
