import json

import numpy as np
import pytest
from PIL import Image
from torch import nn

from coterie.errors import InputError
from coterie.evaluate import landmarks
from coterie.evaluate.landmarks import Settings, average_precision, crop, mean_average_precision, read_published, read_revisited
from coterie.evaluate.scores import Scores
from coterie.evaluate.task import Task
from coterie.run import Run
from coterie.run.devices import Devices

NAMES = [f"christ_{i}" for i in range(8)]


def naive(ranking, positive, junk):
    """The published program, a loop: old and new precision and recall at each image that is no junk."""
    ap, old_recall, old_precision, hits, seen = 0.0, 0.0, 1.0, 0, 0
    for row in ranking:
        if row in junk:
            continue
        hits += row in positive
        seen += 1
        recall, precision = hits / len(positive), hits / seen
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return ap


def test_equals_the_loop_and_a_case_by_hand():
    rng = np.random.default_rng(0)
    for _ in range(30):
        ranking = rng.permutation(20)
        kinds = rng.permutation(20)
        positive, junk = kinds[: rng.integers(1, 7)], kinds[7 : 7 + rng.integers(0, 8)]
        assert average_precision(ranking, positive, junk) == pytest.approx(naive(ranking, set(positive), set(junk)))
    assert average_precision([3, 1, 0, 2], np.array([1, 2]), np.array([3])) == pytest.approx((1 + 1 + 1 / 2 + 2 / 3) / 4)
    assert np.isnan(average_precision([0, 1], np.array([], int), np.array([], int)))


def published(folder, **files):
    whole = {"a_1_query": "oxc1_christ_0 1.5 2 30 40", "a_1_good": "christ_0\nchrist_1\n", "a_1_ok": "christ_2\n", "a_1_junk": "christ_3\n"}
    for name, text in (whole | files).items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_published_files(tmp_path):
    truth = read_published(published(tmp_path), NAMES)
    (query,) = truth.queries
    assert query.image == "christ_0" and query.box == (1.5, 2.0, 30.0, 40.0) and not truth.problems
    assert query.positive["medium"].tolist() == [0, 1, 2] and query.junk["medium"].tolist() == [3]
    assert mean_average_precision(truth, [[1, 0.9, 0.8, 2, 0, 0, 0, 0]]) == {"medium": 1.0}, "junk in front costs nothing"
    assert mean_average_precision(truth, [[0, 0, 0, 0, 1, 1, 1, 1]])["medium"] < 0.5


def test_published_problems_are_counted_and_broken_files_said(tmp_path):
    more = {"b_1_query": "paris_9 0 0 1 1", "b_1_good": "christ_4", "b_1_ok": "", "b_1_junk": "", "a_1_ok": "nobody"}
    truth = read_published(published(tmp_path, **more), NAMES)
    assert len(truth.queries) == 1 and len(truth.problems) == 2 and "nobody" in truth.problems[0] and "paris_9" in truth.problems[1]
    (tmp_path / "b_1_good.txt").unlink()
    with pytest.raises(InputError, match="b_1_good"):
        read_published(tmp_path, NAMES)
    with pytest.raises(InputError, match="four numbers"):
        read_published(published(tmp_path, a_1_query="oxc1_christ_0 1 2 x 4", b_1_good="christ_4"), NAMES)
    with pytest.raises(InputError, match="no usable"):
        read_published(tmp_path / "empty", NAMES)


def revisited(tmp_path, **entry):
    gnd = {"bbx": [0, 0, 5, 5], "easy": [0, 1], "hard": [2], "junk": [3]} | entry
    file = tmp_path / "gnd.json"
    file.write_text(json.dumps({"imlist": NAMES, "qimlist": ["q"], "gnd": [gnd]}))
    return file


def test_revisited_setups(tmp_path):
    truth = read_revisited(revisited(tmp_path))
    ranking = [[0.1, 0.2, 0.9, 1.0, 0.5, 0, 0, 0]]  # junk, hard, a stranger, easy, easy
    found = mean_average_precision(truth, ranking)
    order = [3, 2, 4, 1, 0, 5, 6, 7]
    assert found["easy"] == pytest.approx(naive(order, {0, 1}, {2, 3}))
    assert found["medium"] == pytest.approx(naive(order, {0, 1, 2}, {3}))
    assert found["hard"] == pytest.approx(naive(order, {2}, {0, 1, 3})) == 1.0
    without = read_revisited(revisited(tmp_path, hard=[]))
    assert set(mean_average_precision(without, ranking)) == {"easy", "medium"} and "hard" in without.problems[0]


def test_revisited_broken(tmp_path):
    for entry, said in (({"easy": [8]}, "row 8 of 8"), ({"bbx": [1, 2]}, "four numbers"), ({"easy": "x"}, "wanted the fields")):
        with pytest.raises(InputError, match=said):
            read_revisited(revisited(tmp_path, **entry))
    file = tmp_path / "gnd.json"
    for text in ("{", "[]", '{"imlist": [], "qimlist": ["a"], "gnd": []}'):
        file.write_text(text)
        with pytest.raises(InputError, match="wanted the fields"):
            read_revisited(file)
    with pytest.raises(InputError, match="similarities"):
        mean_average_precision(read_revisited(revisited(tmp_path)), [[1.0]])


def test_crop_stays_inside():
    assert crop((-3, 1.2, 9.1, 40), 10, 20) == (0, 1, 10, 20)
    with pytest.raises(InputError, match="outside"):
        crop((11, 0, 20, 5), 10, 20)


def test_the_published_sets_have_names(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_DATA", str(tmp_path))

    def judge(**settings):
        given = {"on": "oxford5k", "run": Run(devices=Devices("cpu", "fp32", 1)), "scores": Scores(tmp_path)}
        landmarks.judge(Task(Colours(), 30, "weights", {}, lambda *args: None, **given), Settings(pooling="features", size=32, **settings))
        return {row["metric"]: row["value"] for row in Scores(tmp_path).rows()}

    with pytest.raises(InputError, match="oxford5k: there is no folder .*oxford5k/gnd"):
        judge()
    for folder in ("jpg", "gnd"):
        (tmp_path / "oxford5k" / folder).mkdir(parents=True)
    for i, name in enumerate(("christ_0", "christ_1", "christ_2", "q")):
        Image.fromarray(np.full((40, 60, 3), 60 * i, np.uint8)).save(tmp_path / "oxford5k" / "jpg" / f"{name}.png")
    texts = {"query": "oxc1_christ_0 0 0 30 20", "good": "christ_1", "ok": "christ_2", "junk": "christ_0"}
    for kind, text in texts.items():
        (tmp_path / "oxford5k" / "gnd" / f"a_1_{kind}.txt").write_text(text + "\n")
    assert set(judge()) == {"mAP"}


class Colours(nn.Module):
    """Features: the mean of each colour."""

    def forward(self, x):
        return x.mean((2, 3))


@pytest.mark.parametrize("how", ["published", "revisited"])
def test_as_a_protocol(tmp_path, how):
    """Queries are red in their box only: cut to it they find the red ones."""
    pictures = tmp_path / "jpg"
    pictures.mkdir()
    for i, name in enumerate([*NAMES, "q"]):
        pixels = np.zeros((40 + i, 60, 3), np.uint8)
        pixels[..., 0 if 1 <= i <= 2 else 2] = 200
        if i in (0, 8):
            pixels[:20, :30] = (200, 0, 0)
        Image.fromarray(pixels).save(pictures / f"{name}.png")
    if how == "published":
        truth = published(tmp_path, a_1_query="oxc1_christ_0 0 0 30 20", a_1_good="christ_1", a_1_ok="christ_2", a_1_junk="christ_0")
    else:
        truth = revisited(tmp_path, bbx=[0, 0, 30, 20], easy=[1], hard=[2], junk=[0])

    def judge(on=pictures, **more):
        given = {"on": str(on), "run": Run(devices=Devices("cpu", "fp32", 1)), "scores": Scores(tmp_path)}
        task = Task(Colours(), 30, "weights", {}, lambda *args: pytest.fail("no source"), **given)
        landmarks.judge(task, Settings(**{"truth": str(truth), "pooling": "features", "size": 32} | more))
        return task, {row["metric"]: row["value"] for row in Scores(tmp_path).rows()}

    assert judge()[1] == {"mAP": 1.0} | ({"mAP easy": 1.0, "mAP hard": 1.0} if how == "revisited" else {})
    (pictures / "christ_1.png").write_bytes(b"no picture")
    task, found = judge()
    assert found["mAP"] < 1 and "1 pictures cannot be read" in task.notes[-1]
    (pictures / "christ_1.png").unlink()
    for more, said in (({"truth": ""}, "truth="), ({"pooling": "max"}, "pooling"), ({"whiten": 2}, "--train")):
        with pytest.raises(InputError, match=said):
            judge(**more)
    if how == "revisited":
        with pytest.raises(InputError, match="1 pictures of the ground truth are not there"):
            judge()
