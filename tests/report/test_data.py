import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coterie.errors import InputError
from coterie.report.charts import panels
from coterie.report.choice import attended, central, examples, prototype
from coterie.report.colours import colours
from coterie.report.data import choose, read
from coterie.report.layout import AT_MOST, make_map
from coterie.report.neighbours import closeness, nearest
from coterie.report.quality import quality
from coterie.report.thumbnails import BUDGET, EACH, pack, pack_others, unpack, unpack_others
from coterie.report.wording import Veil, accuracy, duration, number, percent, shortened

from .fake_run import blobs, drawings, fake_run

FILES = ["config.json", "assignments.parquet", "features.safetensors", "history.jsonl", "environment.json", "pictures.safetensors"]


def test_prototypes_are_confident_then_close():
    features = np.array([[1, 0], [1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    p = np.array([[0.7, 0.3], [0.999, 0.001], [0.996, 0.004], [0.5, 0.5]], np.float32)
    picks = choose(p, np.zeros(4, int), features, per_cluster=3).clusters[0]
    assert picks.prototypes == [2, 1, 0]  # 0.996 and 0.999 count as equal, and 2 lies nearer to the mean of all four


def test_the_prototype_is_the_middle_of_the_surest():
    features = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6], [0, 1], [0, 1]], np.float32)
    confidence = np.array([0.99, 0.98, 0.97, 0.6, 0.5], np.float32)
    assert prototype(confidence, features, topk=3) == 1 and prototype(confidence, features, topk=1) == 0
    assert prototype(np.ones(3, np.float32), np.ones((3, 2), np.float32)) == 0, "a tie goes to the first"
    p = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.zeros(5, int)
    wanted = prototype(confidence, features)
    picks = choose(p, labels, features).clusters[0]
    assert picks.prototype == picks.prototypes[0] == wanted and len(set(picks.ids)) == 5
    without = choose(p, labels, features, among=np.array([i for i in range(5) if i != wanted])).clusters[0]
    assert without.prototype is None and wanted not in without.ids and len(without.prototypes) == 4


def test_fit_and_report_choose_alike():
    labels = np.arange(2000) % 5
    features, p = blobs(labels, 5, spread=0.05)
    kept = features.astype(np.float16)  # as the run folder keeps them
    chosen = choose(p, labels, features)
    assert central(chosen, labels, features) == central(chosen, labels, kept)
    assert choose(p, labels, features) == choose(p, labels, kept, among=choose(p, labels, features).ids)


def test_central_is_nearest_to_the_centroid_of_the_whole_cluster():
    labels = np.arange(300) % 3
    labels[0] = -1
    features, p = blobs(labels.clip(0), 4, spread=0.8)
    chosen = choose(p, labels, features, per_cluster=12)
    found = central(chosen, labels, features)
    assert sorted(found) == [0, 1, 2], "cluster 3 is empty"
    for cluster, ids in found.items():
        centroid = np.mean([features[i] for i in range(300) if labels[i] == cluster], axis=0)
        cosine = {i: float(features[i] @ centroid) / float(np.linalg.norm(centroid)) for i in chosen.clusters[cluster].ids}
        assert ids == sorted(cosine, key=lambda i: -cosine[i])[:3]


@pytest.mark.parametrize(
    ("k", "clusters", "each"), [(1, 1, 3), (10, 10, 3), (20, 20, 3), (25, 25, 2), (31, 31, 1), (61, 60, 1), (300, 60, 1)]
)
def test_sixty_maps_at_most(k, clusters, each):
    labels = np.concatenate([np.repeat(np.arange(k), 5), [k - 1]])
    features, p = blobs(labels, k, d=8)
    shown = central(choose(p, labels, features), labels, features)
    ids = attended(shown, labels)
    assert ids == sorted(set(ids)) and len(ids) == clusters * each <= 60
    assert {int(labels[i]) for i in ids} == {k - 1, *range(min(k - 1, clusters - 1))}, "the largest first, then by number"
    assert all(shown[int(labels[i])].index(i) < each for i in ids)


def test_examples_are_the_nearest_of_those_shown():
    labels = np.arange(360) % 12
    labels[:30] = 3
    features, p = blobs(labels, 12, spread=0.8)
    chosen = choose(p, labels, features, per_cluster=8)
    found = examples(chosen, labels, features)
    assert len(found) == 20 and found[0].typical and not found[1].typical
    seen = [int(labels[example.id]) for example in found if example.typical]
    sizes = np.bincount(labels)
    assert seen == sorted(seen) and min(sizes[seen]) >= max(np.delete(sizes, seen)), "the largest clusters, by number"
    for example in found:
        picks = chosen.clusters[int(labels[example.id])]
        assert example.id == (picks.prototypes if example.typical else picks.borderline or picks.outliers)[0]
        others = [i for i in chosen.ids.tolist() if i != example.id]
        nearest = sorted(others, key=lambda i: -float(features[i].astype(np.float64) @ features[example.id]))[:6]
        assert [i for i, _ in example.nearest] == nearest
        assert [cosine for _, cosine in example.nearest] == pytest.approx([float(features[i] @ features[example.id]) for i in nearest])
    assert examples(choose(p[:1], labels[:1], features[:1]), labels[:1], features[:1]) == [], "nobody to be compared with"


def test_each_role_finds_its_images():
    labels = np.zeros(40, int)
    features, p = blobs(labels, 2, seed=3)
    p[:, 0], p[:, 1] = 0.95, 0.05
    p[7] = 0.52, 0.48
    features[9] *= -1
    picks = choose(p, labels, features).clusters[0]
    assert picks.borderline == [7]
    assert picks.outliers[0] == 9
    assert len(picks.prototypes) == len(picks.outliers) == 8
    assert len(set(picks.ids)) == len(picks.ids)


@pytest.mark.parametrize(("k", "shown", "each"), [(1, 1, 32), (10, 10, 32), (45, 45, 20), (300, 300, 3), (420, 300, 3)])
def test_the_whole_stays_within_900(k, shown, each):
    labels = np.arange(k * 40) % k
    features, p = blobs(labels, k, d=8)
    chosen = choose(p, labels, features)
    assert len(chosen.ids) <= 900 and len(chosen.clusters) == shown and len(chosen.hidden) == k - shown
    assert all(3 <= len(picks.ids) <= each and len(picks.prototypes) >= 3 for picks in chosen.clusters.values())
    assert np.array_equal(chosen.ids, choose(p, labels, features).ids)


def test_the_largest_clusters_are_the_ones_shown():
    """Of 310 clusters, twice as many images in every third; of equals the lower number is shown."""
    k = 310
    labels = np.concatenate([np.arange(k), np.arange(0, k, 3)])
    features, p = blobs(labels, k)
    chosen = choose(p, labels, features)
    small = [cluster for cluster in range(k) if cluster % 3]
    assert chosen.hidden == small[-10:] and sorted(chosen.clusters) == sorted(set(range(k)) - set(small[-10:]))


def test_choice_of_small_empty_and_left_out():
    labels = np.array([0, 2, 2, -1, -1])
    features, p = blobs(labels.clip(0), 4)
    chosen = choose(p, labels, features)
    assert sorted(chosen.clusters) == [0, 2] and chosen.ids.tolist() == [0, 1, 2]
    assert choose(p, labels, features, among=np.array([2])).ids.tolist() == [2]
    assert choose(p[:0], labels[:0], features[:0]).ids.tolist() == []
    with pytest.raises(ValueError, match="rows differ"):
        choose(p, labels[1:], features)


def test_tiny_pictures_come_back_as_they_were():
    import io

    from PIL import Image

    arrays = drawings(np.arange(5), 28)
    pictures = unpack(pack([9, 3, 4, 1, 0], arrays))
    assert list(pictures) == [0, 1, 3, 4, 9]
    for i, array in zip([9, 3, 4, 1, 0], arrays):
        assert pictures[i].tiny and (pictures[i].width, pictures[i].height) == (28, 28)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(pictures[i].data)).convert("RGB")), array)


def test_noisy_pictures_stay_near_the_budget():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (160, 120, 3), np.uint8) for _ in range(10)]
    assert len(pack(range(200), noise * 20, BUDGET // 5)["jpeg"]) <= BUDGET // 5


def test_the_others_are_small_and_all_there():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (160, 120, 3), np.uint8) for _ in range(10)]
    tensors = pack_others(list(range(5, 205)), lambda i: noise[i % 10])
    found = unpack_others(tensors)
    assert list(found) == list(range(5, 205)) and len(tensors["others_jpeg"]) <= 200 * EACH
    assert all(picture.mime == "image/webp" and picture.height > picture.width for picture in found.values())
    flat = unpack_others(pack_others([0, 7], lambda i: drawings(np.array([i]), 28)[0]))
    assert flat[7].tiny and pack_others([], lambda i: noise[0]) == {} == unpack_others(pack([1], noise[:1]))
    with pytest.raises(ValueError, match="fit"):
        unpack_others(tensors | {"others_offset": np.array([0, 5])})


def test_no_pictures_and_odd_ones():
    assert unpack(pack([], [])) == {}
    thin = unpack(pack([0], [np.zeros((900, 3, 3), np.uint8)]))[0]
    assert (thin.width, thin.height) == (1, 192)
    with pytest.raises(ValueError, match="uint8"):
        pack([0], [np.zeros((4, 4), np.uint8)])
    tensors = pack([0], drawings(np.zeros(1, int), 20))
    with pytest.raises(ValueError, match="neither"):
        unpack(tensors | {"jpeg": np.zeros_like(tensors["jpeg"])})
    with pytest.raises(ValueError, match="fit"):
        unpack(tensors | {"offset": np.array([0, 5])})


@pytest.mark.parametrize("n", [0, 1, 2, 4, 5, 7, 40])
def test_the_map_of_few_images(n):
    features, _ = blobs(np.arange(n) % 2, 2)
    found = make_map(features, np.arange(n))
    assert found.xy.shape == (n, 2) and np.isfinite(found.xy).all()
    assert np.array_equal(found.xy, make_map(features, np.arange(n)).xy)


def test_the_map_of_equal_images_and_of_one_dimension():
    assert np.isfinite(make_map(np.ones((20, 3), np.float32), np.arange(20)).xy).all()
    assert np.isfinite(make_map(np.arange(20, dtype=np.float32)[:, None], np.arange(20)).xy).all()


def test_pictures_beyond_those_that_are_placed_lie_among_those_they_are_like():
    rng = np.random.default_rng(0)
    labels = np.arange(AT_MOST + 300) % 3
    features = np.eye(3, 8)[labels] + 0.05 * rng.normal(size=(len(labels), 8))
    found = make_map(features.astype(np.float16), np.arange(40))
    assert found.ids.tolist() == list(range(len(labels))) and found.xy.min() == 0 and found.xy.max() == 1
    middles = np.array([np.median(found.xy[labels == c], axis=0) for c in range(3)])
    assert (np.linalg.norm(found.xy[:, None] - middles, axis=2).argmin(1) == labels).mean() > 0.99


@pytest.mark.parametrize(("n", "candidates"), [(0, 99), (1, 99), (5, 99), (60, 99), (60, 20)])
def test_neighbours_against_a_plain_loop(n, candidates, monkeypatch):
    monkeypatch.setattr("coterie.report.neighbours.CANDIDATES", candidates)
    monkeypatch.setattr("coterie.report.neighbours.TILE", 7)
    features, _ = blobs(np.arange(n) % 3, 3)
    found = nearest(features.astype(np.float16))
    rows = features.astype(np.float16).astype(float)
    among = range(n) if n <= candidates else np.linspace(0, n - 1, candidates).astype(int).tolist()
    for i in range(n):
        others = [j for j in among if j != i]
        cosine = {j: rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]) for j in others}
        best = sorted(others, key=lambda j: -cosine[j])[: found.shape[1]]
        assert [cosine[j] for j in found[i].tolist()] == pytest.approx([cosine[j] for j in best], abs=1e-6)
        assert len(set(found[i].tolist())) == min(8, n - 1)


def test_closeness_is_to_the_mean_of_the_own_cluster():
    labels = np.array([0, 0, 2, -1, 2, 2])
    features = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for i, value in enumerate(closeness(features, labels)):
        mean = features[labels == labels[i]].astype(float).mean(0)
        wanted = features[i] @ mean / np.linalg.norm(features[i]) / np.linalg.norm(mean) if labels[i] >= 0 else 0
        assert value == pytest.approx(wanted, abs=1e-6)


def test_read_gives_plain_numbers(plain_run, labels):
    data = read(plain_run)
    assert [cluster.size for cluster in data.clusters] == np.bincount(labels).tolist()
    assert abs(sum(cluster.share for cluster in data.clusters) - 1) < 1e-6
    assert [stage.name for stage in data.stages] == ["pretext", "clustering"] and data.stages[0].seconds == 30.1
    assert data.quality is None and data.problems == []
    assert set(data.chosen.ids.tolist()) <= set(data.pictures)
    assert (data.assigned.second_N != data.assigned.labels_N).all()
    assert (plain_run / "map.parquet").exists()
    assert np.array_equal(read(plain_run).map.xy, data.map.xy)
    assert data.map.ids.tolist() == list(range(60)) == sorted(data.pictures)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_named(name, tmp_path, labels):
    features, p = blobs(labels, 4)
    run = fake_run(tmp_path / "run", [f"{i}.png" for i in labels], drawings(labels, 16), labels, p, features)
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2 - 1])
    with pytest.raises(InputError, match=name):
        read(run)
    (run / name).unlink()
    with pytest.raises(InputError, match=name):
        read(run)


def test_files_of_another_run_are_refused(tmp_path, labels):
    features, p = blobs(labels, 4)
    run = fake_run(tmp_path / "run", [f"{i}.png" for i in labels], drawings(labels, 16), labels, p, features)
    save_file({"features": load_file(run / "features.safetensors")["features"][:-1]}, run / "features.safetensors")
    with pytest.raises(InputError, match=r"features\.safetensors"):
        read(run)
    with pytest.raises(InputError, match="no run folder"):
        read(tmp_path / "nowhere")


def test_a_repeated_epoch_counts_once_and_nan_not_at_all(tmp_path, labels):
    features, p = blobs(labels, 4)
    lines = [
        {"stage": "a", "epoch": 0, "loss": 3.0},
        {"stage": "a", "epoch": 1, "loss": float("nan")},
        {"stage": "a", "epoch": 0, "loss": 2.0},
    ]
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 16), labels, p, features, stages=lines)
    (stage,) = read(run).stages
    assert stage.curves["loss"] == [(0, 2.0)] and stage.epochs == 2
    assert panels(stage, 4)[0][0].last == "2"


def test_columns_of_the_confusion_follow_the_match():
    found = quality({"acc": 0.5, "classes": ["a", "b"], "confusion": [[1, 2, 9], [8, 0, 1]], "match": {"0": 1, "2": 0}})
    assert found.names == {0: "b", 1: "a", 2: "a"} and [bar.name for bar in found.bars] == ["this run"]
    assert found.confusion is not None
    assert [column.cluster for column in found.confusion.columns] == [2, 0, 1]
    assert found.confusion.rows == [("a", 12, [9, 1, 2]), ("b", 9, [1, 8, 0])]
    assert (found.confusion.mixed[0].name, found.confusion.mixed[0].cluster, found.confusion.mixed[0].owner) == ("a", 1, "")


def test_rows_of_the_confusion_follow_the_superclass():
    counts = [[9, 0, 1, 0], [0, 2, 0, 8], [1, 0, 9, 0], [0, 6, 0, 4]]
    measured = {"classes": ["rose", "pike", "lily", "eel"], "confusion": counts, "match": {"0": 0, "1": 3, "2": 2, "3": 1}}
    table = quality(measured | {"superclasses": ["flower", "fish", "flower", "fish"]}).confusion
    assert table is not None
    assert [name for name, _, _ in table.rows] == ["pike", "eel", "rose", "lily"]
    assert [column.cluster for column in table.columns] == [3, 1, 0, 2]
    assert [row for _, _, row in table.rows] == [[8, 2, 0, 0], [4, 6, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]]
    assert table.superclasses == [("fish", 2), ("flower", 2)] and table.alike == 1.0
    assert (table.mixed[0].name, table.mixed[0].cluster, table.mixed[0].owner) == ("eel", 3, "pike")
    crossed = quality(measured | {"superclasses": ["a", "b", "b", "a"]}).confusion
    assert crossed is not None and crossed.alike == pytest.approx((9 + 6 + 9 + 8) / 40)
    for unfit in ([], ["fish"], None):
        plain = quality(measured | {"superclasses": unfit}).confusion
        assert plain is not None and plain.superclasses == [] and plain.alike is None
        assert [name for name, _, _ in plain.rows] == measured["classes"]


def test_many_to_one_is_told_when_there_are_more_clusters_than_classes():
    measured = {"acc": 0.5, "many_to_one": 0.8, "n_classes": 2}
    assert quality(measured | {"n_clusters": 3}).many_to_one == 0.8
    assert quality(measured | {"n_clusters": 2}).many_to_one is None


def test_colours_are_distinct_and_stable():
    assert len(set(colours(60))) == 60 and colours(60)[:20] == colours(20)


def test_words():
    assert [percent(x).replace("\u202f", " ") for x in (0, 0.001, 0.964, 0.999, 1)] == ["0 %", "< 1 %", "96 %", "> 99 %", "100 %"]
    assert [duration(x).replace("\u202f", " ") for x in (0.42, 41.2, 700, 11100)] == ["0.4 s", "41 s", "12 min", "3 h 5 min"]
    assert accuracy(0.97384) == "97.4\u202f%" and number(2.30161, 5) == "2.3016"
    assert number(1234567.0) == "1.2e+06" and number(-0.5) == "\u22120.5" and number(12345) == "12,345"
    assert shortened("x" * 200 + ".png").endswith("x.png") and len(shortened("x" * 200)) == 120


def test_the_veil_hides_places_and_nothing_else():
    veil = Veil(["/home/my self/photos", "list/a.png"])
    assert veil.text("cannot open /home/my self/photos/a b.png: no") == "cannot open photos/a b.png: no"
    assert veil.text("see /tmp/x/y.png or C:\\Users\\me\\z.png, 3 images/s") == "see y.png or z.png, 3 images/s"
    assert veil.text("list/a.png and/or 1/2") == "list/a.png and/or 1/2"
    assert veil.name("/data/a.png") == "a.png" and veil.name("sub/a.png") == "sub/a.png"
    assert Veil(None).text("/home/me/x") == "/home/me/x"
