"""PCP's story on the page: what is kept, how pure it is, what the clusters hold, and where the network looked after each round."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coterie.errors import InputError
from coterie.report.data import read
from coterie.report.page import page
from coterie.report.purification import charts
from coterie.report.quality import quality
from coterie.report.thumbnails import pack_maps, pack_rounds, unpack_rounds

from .fake_run import blobs, drawings, fake_run, metrics

LINES = [
    {"stage": "purification", "epoch": epoch, "total": 3, "loss": 3.0 - epoch, "clusters": 60 - 20 * epoch}
    | {"kept": 0.5, "reliable": 0.4, "removed": 0.05, "added": 0.15, "grouped": 0.9}
    for epoch in range(3)
]
PURITY = [[0, 0.5, 0.75], [2, 0.625, 0.875]]


def text_of(run) -> str:
    return page(read(run)).replace("\u202f", " ")


@pytest.fixture
def made(tmp_path, labels):
    def make(name: str, **more):
        features, p = blobs(labels, 4)
        paths = [f"{i}.png" for i in range(60)]
        return fake_run(tmp_path / name, paths, drawings(labels, 24), labels, p, features, method="pcp", stages=LINES, **more)

    return make


def test_the_curves_have_names(made):
    training = text_of(made("run")).split('id="training"')[1]
    for title, last in {
        "Clusters in training": "20",
        "Kept": "50 %",
        "Voted out": "5 %",
        "Voted in": "15 %",
        "Near the middle": "40 %",
    }.items():
        assert f"<b>{title}</b><span>{last}" in training, title
    assert "PCP" in text_of(made("other")) and ">Purity" not in training, "no purity before evaluate"


def test_purity_of_both_is_one_chart(made, labels):
    measured = metrics(labels, labels, list("abcd")) | {"purity": PURITY}
    (chart,) = charts("purification", quality(measured).purity)
    assert len(chart.lines) == 2 and (chart.low, chart.high) == ("50.0\u202f%", "87.5\u202f%") and chart.epochs == (0, 2)
    assert charts("joint", quality(measured).purity) == charts("purification", []) == []
    training = text_of(made("run", measured=measured)).split('id="training"')[1]
    assert "kept images: 87.5 % at epoch 2" in training and "all images of the same clusters: 62.5 %" in training


def test_each_card_says_what_its_cluster_holds(made, labels):
    truth = np.where(np.arange(60) % 5 == 0, (labels + 1) % 4, labels)
    measured = metrics(labels, truth, ["cat", "<b>dog", "owl", "fox"])
    shares = quality(measured).shares
    assert [name for name, _ in shares[0]] == ["cat", "<b>dog"] and shares[0][0][1] == pytest.approx(0.8)
    assert all(sum(share for _, share in cluster) <= 1 + 1e-9 for cluster in shares.values())
    text = text_of(made("run", measured=measured))
    assert 'title="cat 80 %, &lt;b&gt;dog 20 %"' in text and "<b>dog" not in text


def test_maps_of_the_rounds(made):
    run = made("run", places=(4, 3))
    kept = load_file(run / "pictures.safetensors")
    assert read(run).rounds == {} and 'id="rounds"' not in page(read(run))
    maps = np.random.default_rng(0).integers(0, 256, (3, len(kept["attention_id"]), 4, 3), np.uint8)
    save_file(kept | pack_rounds(maps), run / "pictures.safetensors")
    found = read(run)
    first = int(kept["attention_id"][0])
    assert set(found.rounds) == set(kept["attention_id"].tolist()) and np.array_equal(found.rounds[first], maps[:, 0])
    shown = page(found).split('id="rounds"')[1].split("</section>")[0]
    assert shown.count('class="round"') == 4 and shown.count("after round 3") == 2 * 4 and "after round 4" not in shown
    save_file(kept | {"attention_rounds": maps[:, 1:]}, run / "pictures.safetensors")
    with pytest.raises(InputError, match="rounds"):
        read(run)


def test_maps_of_rounds_need_their_ids():
    maps = np.zeros((2, 1, 3, 3), np.uint8)
    assert unpack_rounds({}) == {} and list(unpack_rounds(pack_maps([7], maps[0]) | pack_rounds(maps))) == [7]
    for damaged in (pack_rounds(maps), pack_maps([7], maps[0]) | {"attention_rounds": maps[0]}):
        with pytest.raises(ValueError, match="rounds"):
            unpack_rounds(damaged)
