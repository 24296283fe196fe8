"""`coterie evaluate --protocol linear`: from the command, killed and continued, and what it refuses."""

import csv
import shutil

import pytest
from PIL import Image
from tests.evaluate.voc_files import write

from coterie import fitting
from coterie.evaluate import classifier, linear, voc_classification, voc_detection, voc_segmentation
from coterie.report.wording import accuracy
from coterie.run.devices import Devices
from coterie.run.files import read_json


@pytest.fixture(scope="module")
def made(drawn, tmp_path_factory):
    """A folder with `pictures`, `others` and the run `r` of a small encoder."""
    root = tmp_path_factory.mktemp("judged")
    for folder, n, seed in (("pictures", 48, 0), ("others", 24, 1)):
        for i, picture in enumerate(drawn(n, 16, seed)):
            path = root / folder / f"kind{i % 4}" / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    settings = {"image_size": 16, "encoder": "small", "pretext": "instance", "pretext_epochs": 1, "restarts": 1}
    images, plan = fitting.plan(root / "pictures", "kmeans", clusters=4, preset="quick", settings=settings, cache=root / ".cache")
    fitting.fit(images, plan, root / "r", devices=Devices("cpu", "fp32", 1))
    return root


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Any classifier will do here: what it finds is tested in tests/evaluate/test_linear.py."""
    monkeypatch.setattr(classifier, "L2", (0.1, 0.01))
    monkeypatch.setattr(classifier, "ITERATIONS", 10)


def rows_of(run):
    with (run / "evaluation.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made / "r", tmp_path / "r")
    return tmp_path / "r"


def test_every_block_beside_the_other_scores(coterie, copy):
    status, out, err = coterie("evaluate", copy, "--protocol", "clusters,linear", "--labels", "folders")
    assert status == 0, err
    assert "ACC" in out and "linear stem" in out and "half of the labelled images of each class" in err
    rows, kept = rows_of(copy), read_json(copy / "metrics.json")
    assert list(dict.fromkeys(row["block"] for row in rows)) == ["stem", "first", "middle", "features"]
    assert {row["metric"] for row in rows} == {"accuracy", "balanced_accuracy", "l2", "n_train", "n_test"}
    assert len(kept["evaluation"]) == len(rows) and "acc" in kept
    again = coterie("evaluate", copy, "--labels", "folders")
    assert again[0] == 0 and read_json(copy / "metrics.json")["evaluation"] == kept["evaluation"], "other scores do not drop them"


def test_killed_and_continued_gives_the_same_numbers(coterie, copy, monkeypatch):
    words = ("evaluate", copy, "--protocol", "linear", "--labels", "folders")
    plain, asked = linear.block_features, []

    def dies(encoder, name, *more):
        asked.append(name)
        if name == "middle":
            raise KeyboardInterrupt
        return plain(encoder, name, *more)

    monkeypatch.setattr(linear, "block_features", dies)
    assert coterie(*words)[0] == 130
    before = rows_of(copy)
    assert {row["block"] for row in before} == {"stem", "first"} and not (copy / "metrics.json").exists()
    asked.clear()
    monkeypatch.setattr(linear, "block_features", lambda encoder, name, *more: asked.append(name) or plain(encoder, name, *more))
    assert coterie(*words)[0] == 0
    assert set(asked) == {"middle", "features"}, "what was finished is not computed again"
    continued = rows_of(copy)
    (copy / "evaluation.csv").unlink()
    assert coterie(*words)[0] == 0
    assert rows_of(copy) == continued and continued[: len(before)] == before


def test_other_pictures_ten_crops_and_sgd(coterie, made, copy):
    words = ("evaluate", copy, "--protocol", "linear", "--on", made / "others", "--train", made / "pictures", "--json")
    assert coterie(*words, "--device", "cpu", "--set", "blocks=features")[0] == 0
    assert coterie(*words, "--crops", 10, "--set", "blocks=features", "--set", "solver=sgd", "--set", "epochs=3")[0] == 0
    rows = rows_of(copy)
    assert [row["set"] for row in rows if row["metric"] == "accuracy"] == [
        "others, trained on pictures", "others, trained on pictures, 10 crops, sgd"
    ]  # fmt: skip
    assert {row["value"] for row in rows if row["metric"] == "n_train"} == {"48.0"}
    assert (copy / "metrics-on.json").exists() and not (copy / "metrics.json").exists()


@pytest.mark.parametrize(
    "words, says",
    [
        (["--set", "blocks=conv9"], "conv9"),
        (["--set", "colour=red"], "colour"),
        (["--set", "lr=-1"], "positive lr"),
        (["--crops", "3"], "--crops 3"),
        (["--protocol", "linear,magic"], "magic"),
        (["--labels", "one.csv"], "one class"),
        (["--train", "absent"], "absent"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_bad_words_are_one_line(coterie, copy, words, says):
    with open("one.csv", "w") as file:
        file.write("path,label\n" + "".join(f"kind{i % 4}/{i:02d}.png,cat\n" for i in range(20)))
    status, out, err = coterie("evaluate", copy, "--protocol", "linear", *words)
    assert status == 2 and says in err and "Traceback" not in err and not (copy / "evaluation.csv").exists()


def test_the_report_has_a_section(coterie, copy):
    assert coterie("report", copy)[0] == 0 and 'id="features"' not in (copy / "report.html").read_text()
    assert coterie("evaluate", copy, "--protocol", "linear", "--set", "blocks=stem,features")[0] == 0
    assert coterie("report", copy)[0] == 0
    page = (copy / "report.html").read_text()
    section = page[page.index('id="features"') : page.index('id="made"')]
    assert "linear" in section and "stem" in section and "balanced accuracy" in section and "n_train" not in section
    assert 'id="accuracy"' not in page, "no clusters were scored"
    with (copy / "evaluation.csv").open("a") as file:
        file.write("linear,x,y,accuracy,much,0\n")
    status, _, err = coterie("report", copy)
    assert status == 2 and "evaluation.csv" in err and "evaluate --protocol" in err
    status, _, err = coterie("evaluate", copy, "--protocol", "linear", "--set", "blocks=stem")
    assert status == 0 and "made anew" in err


def test_the_report_has_the_other_protocols(coterie, copy, tmp_path, monkeypatch):
    """Retrieval as it is; of Pascal VOC what learns is planted, and tested in tests/evaluate/test_voc_transfer.py."""
    several = {"mAP": 0.25, "mAP_all_points": 0.26, "n_train": 4, "n_test": 4, "AP cat": 0.5}
    planted = {
        (voc_classification, "classification"): several,
        (voc_detection, "detection"): several | {"mAP": 0.375},
        (voc_segmentation, "segmentation"): {"mean_iou": 0.625, "IoU ground": 0.9, "n_test": 4},
    }
    for (module, name), found in planted.items():
        monkeypatch.setattr(module, name, lambda run, *given, found=found: run.folder.mkdir(parents=True) or found)
    wanted = ("retrieval", "voc-classification", "voc-detection", "voc-segmentation")
    assert coterie("evaluate", copy, "--protocol", "retrieval", "--labels", "folders")[0] == 0
    status, _, err = coterie("evaluate", copy, "--protocol", ",".join(wanted[1:]), "--on", write(tmp_path / "VOCtiny", 4, 32))
    assert status == 0, err
    assert coterie("report", copy)[0] == 0
    page = (copy / "report.html").read_text()
    section = page[page.index('id="features"') : page.index('id="made"')]
    assert all(word in section for word in (*wanted, "rmac", "VOCtiny, test", "mAP", "mean IoU", "a copy of it"))
    assert not any(word in section for word in ("n_queries", "n_test", "AP cat", "IoU ground")), "counts and classes stay in the file"
    told = {row["protocol"]: float(row["value"]) for row in rows_of(copy) if row["metric"] in ("mAP", "mean_iou")}
    assert set(told) == set(wanted) and all(accuracy(value) in section for value in told.values())


def test_how_many_were_scored_and_why_not_all(coterie, copy):
    with open("some.csv", "w") as file:
        file.write("path,label\n" + "".join(f"kind{i % 4}/{i:02d}.png,kind{i % 4}\n" for i in range(40)) + "gone.png,kind1\n")
    status, out, err = coterie("evaluate", copy, "--labels", "some.csv")
    assert status == 0 and "40 pictures scored, left out: 8 without a label" in out and "1 rows name no image" in err
    scores = read_json(copy / "metrics.json")
    low, high = scores["intervals"]["acc"]
    assert low <= scores["acc"] <= high and f"{scores['acc']:.3f}  {low:.3f} to {high:.3f}" in out
    assert scores["left_out"] == {"without a label": 8, "that could not be read": 0}
