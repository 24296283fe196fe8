"""Runs recut: planted kinds come out, nothing else changes, and every verb reads what is written."""

import json
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from coterie import fitting, load
from coterie.errors import InputError
from coterie.evaluate.protocol import evaluate
from coterie.export import export
from coterie.fitting import derived, recut_files
from coterie.fitting.hierarchy import FILE, Sorted
from coterie.fitting.recut import asked, recut
from coterie.networks import model
from coterie.report import page
from coterie.run import checkpoint, manifest
from coterie.run.devices import Devices
from coterie.run.files import probabilities, read_assignments, read_hierarchy, read_json

DEVICES = {"device": "cpu", "precision": "fp32", "threads": 1}


def nested(each=30, d=24, seed=0):
    """Features of four kinds in two, far from unit length; the super-kind and the kind of each."""
    of = torch.Generator().manual_seed(seed)
    tops_2D = 5 * F.normalize(torch.randn(2, d, generator=of))
    kinds_4D = tops_2D.repeat_interleave(2, 0) + 2.5 * F.normalize(torch.randn(4, d, generator=of))
    kind_N = torch.arange(4 * each) % 4
    rows_ND = kinds_4D[kind_N] + 0.2 * torch.randn(len(kind_N), d, generator=of)
    return (7 * rows_ND + 3).numpy(), (kind_N // 2).numpy(), kind_N.numpy()


def fitted(folder, source, clusters, **settings):
    images, plan = fitting.plan(source, "kmeans", clusters=clusters, preset="quick", settings={"restarts": 2, **settings})
    fitting.fit(images, plan, folder, devices=Devices(**DEVICES))
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A folder with runs `two` and `four` on features."""
    folder = tmp_path_factory.mktemp("features")
    for name, k in (("two", 2), ("four", 4)):
        fitted(folder / name, nested()[0], k, encoder="precomputed")
    return folder


@pytest.fixture(scope="module")
def pictures(drawn, tmp_path_factory):
    """A folder with `pictures.npy` and a run on it, `run`."""
    folder = tmp_path_factory.mktemp("drawn")
    np.save(folder / "pictures.npy", drawn(48, 16))
    return fitted(folder / "run", folder / "pictures.npy", 4, image_size=16).parent


def labels(run):
    return read_assignments(run)["cluster"].to_numpy()


def p_of(run):
    return probabilities(read_assignments(run)).astype(np.float64)


def same_partition(one, other):
    pairs = set(zip(one.tolist(), other.tolist()))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def test_four_become_the_two_that_were_planted(features, tmp_path):
    _, super_N, kind_N = nested()
    assert same_partition(labels(features / "four"), kind_N)
    done = recut(features / "four", tmp_path / "new", 2)
    assert same_partition(labels(tmp_path / "new"), super_N) and done["moved"] == 0 and done["n_clusters"] == 2
    assert sorted(len(one["clusters"]) for one in done["merges"]) == [2, 2]


def test_two_become_the_four_that_were_planted(features, tmp_path):
    _, super_N, kind_N = nested()
    assert same_partition(labels(features / "two"), super_N)
    done = recut(features / "two", tmp_path / "new", 4)
    assert same_partition(labels(tmp_path / "new"), kind_N) and done["became"] == {"0": [0, 1], "1": [2, 3]}
    recut(tmp_path / "new", tmp_path / "back", 2)
    np.testing.assert_allclose(p_of(tmp_path / "back"), p_of(features / "two"), atol=1e-6)
    assert (labels(tmp_path / "back") == labels(features / "two")).all()


def test_probabilities_of_merged_clusters_are_sums(pictures, tmp_path):
    done = recut(pictures / "run", tmp_path / "new", merge=[(3, 1)])
    before, after = p_of(pictures / "run"), p_of(tmp_path / "new")
    np.testing.assert_allclose(after, np.stack([before[:, 0], before[:, 1] + before[:, 3], before[:, 2]], 1), atol=1e-6)
    assert done["became"] == {"0": [0], "1": [1], "2": [2], "3": [1]} and done["merges"] == [{"clusters": [1, 3], "into": 1}]
    assert (labels(tmp_path / "new") == after.argmax(1)).all()


def test_probabilities_of_parts_sum_to_their_clusters(pictures, tmp_path):
    done = recut(pictures / "run", tmp_path / "new", split=[(1, 3)])
    before, after = p_of(pictures / "run"), p_of(tmp_path / "new")
    np.testing.assert_allclose(np.stack([after[:, 0], after[:, 1:4].sum(1), after[:, 4], after[:, 5]], 1), before, atol=1e-6)
    assert done["became"] == {"0": [0], "1": [1, 2, 3], "2": [4], "3": [5]} and done["splits"] == [{"cluster": 1, "into": [1, 2, 3]}]
    sizes = np.bincount(labels(tmp_path / "new"), minlength=6)
    assert (sizes[1:4] > 0).all() and sizes.sum() == 48


def test_named_clusters_and_a_number(pictures, tmp_path):
    """Named ones first, and they stay as asked."""
    done = recut(pictures / "run", tmp_path / "more", 7, merge=[(0, 2)], split=[(1, 2)])
    assert len(done["became"]["0"]) == 1 and done["became"]["0"] == done["became"]["2"] and len(done["became"]["1"]) >= 2
    assert read_json(tmp_path / "more" / "config.json")["settings"]["n_clusters"] == 7
    done = recut(pictures / "run", tmp_path / "less", 3, split=[(1, 2)])
    assert len(done["became"]["1"]) == 2, "the two parts stay apart"
    with pytest.raises(InputError, match="--clusters 1: 2 are the fewest"):
        recut(pictures / "run", tmp_path / "none", 1, split=[(1, 2)])
    assert not (tmp_path / "none").exists()


def test_moved_pictures_are_counted():
    """One that is in 0, but more in 1 and 2 together."""
    rows_ND = F.normalize(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    p_NK = torch.tensor([[0.4, 0.3, 0.3]] + [[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.8, 0.1]] * 3 + [[0.1, 0.1, 0.8]] * 2)
    after = asked(Sorted(p_NK, p_NK.argmax(1), rows_ND, 0), [(1, 2)], []).apply(Sorted(p_NK, p_NK.argmax(1), rows_ND, 0))
    assert after.labels_N.tolist() == [1, 0, 0, 0, 1, 1, 1, 1, 1]
    text = recut_files.in_words(
        {"became": {"0": [0], "1": [1], "2": [1]}, "merges": [{"clusters": [1, 2], "into": 1}], "splits": [], "moved": 1}
    )
    assert "1 and 2 are 1 now; 0 keeps its number; 1 picture " in text


def test_nobody_is_put_where_nobody_was(pictures, tmp_path):
    """Pictures without a cluster (-1) stay without."""
    p_NK = torch.eye(3).repeat(4, 1)
    labels_N = p_NK.argmax(1).index_fill(0, torch.tensor([2, 5]), -1)
    found = Sorted(p_NK, labels_N, F.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0))), 0)
    after = asked(found, [(0, 1)], [(2, 2)]).apply(found)
    assert (after.labels_N[[2, 5]] == -1).all() and (after.labels_N >= 0).sum() == 10
    table = derived._table(read_assignments(pictures / "run").slice(0, 12), after)
    assert table["cluster"].to_pylist() == after.labels_N.tolist() and table.schema == read_assignments(pictures / "run").schema


def test_numbers_do_not_matter():
    x_ND, _, kind_N = nested()
    rows_ND, p_NK = F.normalize(torch.from_numpy(x_ND)).half().float(), F.one_hot(torch.from_numpy(kind_N), 4).float()
    order = torch.tensor([2, 0, 3, 1])
    one, other = (Sorted(p, p.argmax(1), rows_ND, 0) for p in (p_NK, p_NK[:, order]))
    assert [d.sizes for d in one.divisions()] == [d.sizes for d in other.divisions()]
    assert [d.cluster for d in one.divisions()] == [int(order[d.cluster]) for d in other.divisions()]


@pytest.mark.parametrize(
    "how", [{"clusters": 2}, {"clusters": 7}, {"clusters": 1}, {"merge": [(0, 1, 3)]}, {"split": [(2, 3)]}, {"clusters": 4}]
)
def test_every_verb_reads_it(pictures, tmp_path, how):
    new, k = tmp_path / "new", recut(pictures / "run", tmp_path / "new", **how)["n_clusters"]
    shown = fitting.show(new)
    assert shown["n_clusters"] == k and shown["files"] == "as they were written" and len(shown["sizes"]) == k
    (tmp_path / "labels.csv").write_text(
        "path,label\n" + "".join(f"{path},k{i % 4}\n" for i, path in enumerate(read_assignments(new)["path"].to_pylist()))
    )
    assert evaluate(new, str(tmp_path / "labels.csv"), ["clusters"])["n_clusters"] == k
    text = page.write(new).read_text()
    assert "data-image-id" in text and (k == 1 or "If there were fewer or more kinds" in text)
    _, _, p_NK = fitting.predict(new, pictures / "pictures.npy", Devices(**DEVICES), tmp_path / "cache")
    assert (p_NK.argmax(1).numpy() == labels(new)).all()
    np.testing.assert_allclose(p_NK.double().numpy(), p_of(new), atol=1e-4)
    assert export(new, "csv", tmp_path / "out.csv")[0] == 48
    loaded = load(new).set_params(**DEVICES)
    assert loaded.n_clusters_ == k and (loaded.predict(np.load(pictures / "pictures.npy")) == loaded.labels_).all()
    manifest.check_run(new)


def test_a_trained_run_and_features_are_sorted_as_before(features, tmp_path):
    new = tmp_path / "new"
    recut(features / "two", new, split=[(0, 2), (1, 3)])
    loaded = load(new).set_params(**DEVICES)
    assert (loaded.predict(nested()[0]) == labels(new)).all()
    np.testing.assert_allclose(loaded.predict_proba(nested()[0]), p_of(new), atol=1e-5)
    assert "otherwise" in page.page(page.read(new))


def test_the_same_recut_has_the_same_bytes(pictures, tmp_path):
    for name in ("one", "two"):
        recut(pictures / "run", tmp_path / name, 6, merge=[(1, 2)])
    for name in sorted(manifest.FITTED) + [FILE]:
        if name not in ("environment.json", model.FILE):  # it tells times; the order within its header is drawn
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    states = [checkpoint.load(tmp_path / name / model.FILE) for name in ("one", "two")]
    assert checkpoint.fingerprint(states[0]) == checkpoint.fingerprint(states[1])


def test_the_run_itself_stays(pictures, tmp_path):
    before = {path.name: path.read_bytes() for path in (pictures / "run").iterdir() if path.is_file()}
    recut(pictures / "run", tmp_path / "new", 3)
    page.write(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in (pictures / "run").iterdir() if path.is_file()} == before


def test_what_is_kept_of_the_fit(pictures, tmp_path):
    recut(pictures / "run", tmp_path / "one", 6)
    recut(tmp_path / "one", tmp_path / "two", 3)
    made = read_json(tmp_path / "two" / "config.json")
    assert made["recut"]["of"]["run"] == "one" and made["recut"]["of"]["n_clusters"] == 6 and made["recut"]["trained"] == 4
    assert "recut from 6 clusters to 3" in (tmp_path / "two" / "history.jsonl").read_text().splitlines()[-1]
    told = read_json(tmp_path / "two" / "environment.json")
    assert told["verdict"] and told["evidence"]["n_clusters"] == 3 and "recut" in told["stages"]
    for name in ("features.safetensors", "items.parquet", "problems.csv"):
        assert (tmp_path / "two" / name).read_bytes() == (pictures / "run" / name).read_bytes()


def test_maps_of_clusters_that_are_others_now_are_left_out():
    found = Sorted(torch.eye(4).repeat(2, 1), torch.arange(4).repeat(2), torch.eye(8), 0)
    tensors = {"id": np.arange(8), "attention_id": np.array([0, 1, 3, 6]), "attention": np.arange(16, dtype=np.uint8).reshape(4, 2, 2)}
    tensors["attention_rounds"] = np.stack([tensors["attention"]] * 3)
    kept = derived.without_old_maps(tensors, found.labels_N, {0, 1, 3})
    assert kept["attention_id"].tolist() == [6] and kept["attention"].shape == (1, 2, 2) and kept["attention_rounds"].shape == (3, 1, 2, 2)
    assert list(derived.without_old_maps(tensors, found.labels_N, {0, 1, 2, 3})) == ["id"]


# ---- the hierarchy of a run


def test_it_is_written_by_the_fit_and_made_again(pictures, tmp_path):
    run = tmp_path / "run"
    recut(pictures / "run", run, 4)  # a copy
    whole = (run / FILE).read_bytes()
    assert whole == (pictures / "run" / FILE).read_bytes()
    told = read_hierarchy(run, 4)
    assert len(told["merges"]) == 3 and all(sum(one["sizes"]) <= 48 for one in told["splits"])
    for spoil in (lambda: (run / FILE).unlink(), lambda: (run / FILE).write_bytes(whole[:-9])):
        spoil()
        recut(run, tmp_path / "new", 2)
        assert (run / FILE).read_bytes() == whole
        manifest.check(run / FILE)
        (tmp_path / "new").rename(tmp_path / f"new{os.urandom(2).hex()}")


def test_recut_goes_by_it(pictures, tmp_path):
    run = tmp_path / "run"
    recut(pictures / "run", run, 4)
    (run / manifest.NAME).unlink()
    told = json.loads((run / FILE).read_text())
    wanted = [
        {"a": 0, "b": 3, "overlap": 0.5, "alike": 0.5},
        {"a": 1, "b": 2, "overlap": 0.5, "alike": 0.5},
        told["merges"][-1] | {"a": 0, "b": 1},
    ]
    (run / FILE).write_text(json.dumps(told | {"merges": wanted}))
    assert recut(run, tmp_path / "new", 2)["became"] == {"0": [0], "1": [1], "2": [1], "3": [0]}


SPOILT = {
    "a merge too few": lambda told: told["merges"].pop(),
    "a cluster that is gone": lambda told: told["merges"][-1].update(told["merges"][0]),
    "a cluster that is not there": lambda told: told["merges"][0].update(b=9),
    "no number": lambda told: told["merges"][0].update(overlap="much"),
    "not finite": lambda told: told["splits"][0].update(apart=float("nan")),
    "no sizes": lambda told: told["splits"][0].pop("sizes"),
    "three sizes": lambda told: told["splits"][0].update(sizes=[1, 2, 3]),
    "a split of nothing": lambda told: told["splits"][0].update(cluster=4),
    "a list of numbers": lambda told: told.update(splits=[1]),
    "no splits": lambda told: told.pop("splits"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_hierarchy_that_cannot_be_is_refused_and_made_again(pictures, tmp_path, what):
    run = tmp_path / "run"
    recut(pictures / "run", run, 4)
    (run / manifest.NAME).unlink()
    told = json.loads((run / FILE).read_text())
    SPOILT[what](told)
    (run / FILE).write_text(json.dumps(told))
    with pytest.raises(InputError, match="hierarchy.json is damaged: .*; any `coterie recut` of the run makes it again"):
        page.read(run)
    recut(run, tmp_path / "new", 2)
    assert (run / FILE).read_bytes() == (pictures / "run" / FILE).read_bytes()


# ---- what cannot be


REFUSED = {
    "nothing asked": ({}, "--clusters K, --merge A,B or --split A"),
    "no clusters": ({"clusters": 0}, "--clusters 0: wanted 1 to 48"),
    "fewer than none": ({"clusters": -3}, "--clusters -3"),
    "more than pictures": ({"clusters": 49}, "--clusters 49: wanted 1 to 48"),
    "an unknown cluster": ({"merge": [(0, 4)]}, "no cluster 4; the run has 0 to 3"),
    "a cluster below": ({"split": [(-1, 2)]}, "no cluster -1"),
    "with itself": ({"merge": [(2, 2)]}, "--merge 2,2"),
    "one alone": ({"merge": [(2,)]}, "--merge 2: wanted two different"),
    "merged and split": ({"merge": [(0, 1)], "split": [(1, 2)]}, "cluster 1 is named twice"),
    "split twice": ({"split": [(1, 2), (1, 3)]}, "cluster 1 is named twice"),
    "into one": ({"split": [(1, 1)]}, "--split 1:1: wanted 2"),
    "into more than there are": ({"split": [(1, 48)]}, "too few different ones"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(pictures, tmp_path, what):
    how, says = REFUSED[what]
    with pytest.raises(InputError) as error:
        recut(pictures / "run", tmp_path / "new", **how)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not any(tmp_path.iterdir()), "nothing is left behind"


def test_pictures_that_are_all_the_same_cannot_be_cut(tmp_path):
    x_ND = np.repeat(np.eye(2, 5, dtype=np.float32), 8, 0)
    fitted(tmp_path / "run", x_ND, 2, encoder="precomputed")
    with pytest.raises(InputError, match="--clusters 3: these pictures can be cut into at most 2"):
        recut(tmp_path / "run", tmp_path / "new", 3)


def test_where_it_is_written(pictures, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for place, says in (
        (tmp_path / "full", "not empty"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "new", "file"),
        (pictures / "run", "not empty"),
    ):
        with pytest.raises(InputError, match=says):
            recut(pictures / "run", place, 2)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "deep" / "er"):
        recut(pictures / "run", place, 2)
        manifest.check_run(place)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "empty", "deep"}


def test_only_whole_runs_are_recut(pictures, tmp_path):
    with pytest.raises(InputError, match="there is no run folder"):
        recut(tmp_path / "nowhere", tmp_path / "new", 2)
    run = tmp_path / "run"
    recut(pictures / "run", run, 4)
    for name in (manifest.NAME, "assignments.parquet"):
        (run / name).unlink()
    with pytest.raises(InputError, match="not a finished run"):
        recut(run, tmp_path / "new", 2)


def test_a_run_of_before_is_recut_too(pictures, tmp_path):
    """Without a hierarchy, and without a manifest."""
    run = tmp_path / "run"
    recut(pictures / "run", run, 4)
    for name in (manifest.NAME, FILE):
        (run / name).unlink()
    assert recut(run, tmp_path / "new", 3)["became"] == recut(pictures / "run", tmp_path / "other", 3)["became"]
    assert not (run / manifest.NAME).exists() and (tmp_path / "new" / manifest.NAME).exists()
    assert pq.read_table(tmp_path / "new" / "assignments.parquet").equals(pq.read_table(tmp_path / "other" / "assignments.parquet"))
    assert load_file(tmp_path / "new" / "pictures.safetensors").keys() == load_file(run / "pictures.safetensors").keys()
