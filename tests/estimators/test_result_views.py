"""A fitted model as a data frame, as plots, in a notebook."""

import re
import sys

import numpy as np
import pytest
from PIL import Image
from tests.report.fake_run import blobs

from coterie import KMeans
from coterie.errors import InputError
from coterie.run.edits import append

FAST = {"settings": {"image_size": 16, "restarts": 1}, "device": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def model(drawn, tmp_path_factory):
    """24 pictures and a broken one, in three clusters, one of them named; a picture was made unsure. The fit as it said it: `labels_`."""
    folder = tmp_path_factory.mktemp("views")
    (folder / "photos").mkdir()
    for i, picture in enumerate(drawn(24)):
        Image.fromarray(picture).save(folder / "photos" / f"{i:02d}.png")
    (folder / "photos" / "05x.png").write_text("no picture")
    made = KMeans(3, run=str(folder / "run"), **FAST).fit(folder / "photos")
    append(folder / "run", {"act": "rename", "cluster": 1, "name": "<b>bars</b>"})
    append(folder / "run", {"act": "move", "ids": [0], "cluster": -1})
    return made


@pytest.fixture
def plots(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra coterie[notebook] is not installed")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_frame(model):
    pandas = pytest.importorskip("pandas", reason="the extra coterie[notebook] is not installed")
    found = model.frame()
    assert isinstance(found, pandas.DataFrame) and list(found.columns) == ["path", "cluster", "name", "confidence", "unsure"]
    assert found["path"].tolist() == list(model.paths_) and len(found) == 25
    bad = found["path"].tolist().index("05x.png")
    assert found["cluster"][bad] == -1 and np.isnan(found["confidence"][bad]) and not found["unsure"][bad] and found["name"].isna()[bad]
    assert found["cluster"][0] == -1 and found["unsure"][0] and found["name"][0] == "unsure"
    others = [i for i in range(25) if i not in (0, bad)]
    assert found["cluster"][others].tolist() == model.labels_[others].tolist()
    np.testing.assert_allclose(found["confidence"][others], model.probabilities_[others].max(1))
    assert set(found["name"][found["cluster"] == 1]) == {"<b>bars</b>"} and not found["unsure"][others].any()
    said = model.frame(edits=False)
    assert said["cluster"].tolist() == model.labels_.tolist() and "cluster_01" in set(said["name"])


def test_plots(model, plots):
    axes = model.plot_map()
    shown = sum(len(points.get_offsets()) for points in axes.collections)
    names = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == 24 and "<b>bars</b>" in names and "unsure" in names
    own = plots.subplots()[1]
    assert model.plot_map(own, edits=False) is own and "unsure" not in {text.get_text() for text in own.get_legend().get_texts()}
    figure = model.plot_kinds(4)
    titles = [place.get_title(loc="left") for place in figure.axes if place.get_title(loc="left")]
    assert len(titles) == 3 and any(title.startswith("<b>bars</b>") for title in titles)
    assert len(figure.axes) == 12 and all(len(place.images) == 1 for place in figure.axes if place.get_title(loc="left"))
    sizes = [int(re.search(r"\((\d+)\)", title)[1]) for title in titles]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == 23
    with pytest.raises(InputError, match="at least 1"):
        model.plot_kinds(0)


def test_in_a_notebook(model):
    text = model._repr_html_()
    assert model._repr_mimebundle_()["text/html"] == text and "KMeans(" in model._repr_mimebundle_()["text/plain"]
    addresses = re.findall(r'src="([^"]*)', text)
    assert 3 <= len(addresses) <= 18 and all(address.startswith("data:image/webp;base64,") for address in addresses)
    assert "&lt;b&gt;bars&lt;/b&gt;" in text and "<b>bars" not in text and "24 pictures in 3 clusters, 1 unsure" in text
    assert len(text) < 60_000


def test_before_the_fit_it_is_scikit_learns():
    text = KMeans(3)._repr_html_()
    assert "sk-top-container" in text and KMeans(3)._repr_mimebundle_()["text/html"]


def test_features_have_no_pictures(plots):
    features = blobs(np.arange(30) % 3, 3)[0]
    made = KMeans(3, encoder="precomputed", settings={"restarts": 1}, device="cpu", precision="fp32", threads=1).fit(features)
    assert "30 pictures in 3 clusters" in made._repr_html_() and "<img" not in made._repr_html_()
    with pytest.raises(InputError, match="wants pictures"):
        made.plot_kinds()
    assert made.get_feature_names_out().tolist() == [f"kmeans{i}" for i in range(16)]
    pandas = pytest.importorskip("pandas", reason="the extra coterie[notebook] is not installed")
    made.set_output(transform="pandas")
    table = made.transform(features[:4])
    assert isinstance(table, pandas.DataFrame) and list(table.columns)[:2] == ["kmeans0", "kmeans1"] and len(table) == 4


@pytest.mark.parametrize("view, package", [("frame", "pandas"), ("plot_map", "matplotlib"), ("plot_kinds", "matplotlib")])
def test_what_is_missing_is_named(model, monkeypatch, view, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    with pytest.raises(InputError, match=rf"{package}: pip install 'coterie\[notebook\]'"):
        getattr(model, view)()


def test_verbose(drawn, capsys):
    KMeans(3, **FAST).fit(drawn(24))
    assert capsys.readouterr() == ("", "")
    KMeans(3, verbose=True, **FAST).fit(drawn(24))
    told = capsys.readouterr()
    assert told.out == "" and "k-means: done" in told.err
