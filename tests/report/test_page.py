import dataclasses
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from coterie.errors import InputError
from coterie.report.data import read
from coterie.report.page import PAGE, files, page, write
from coterie.report.sheets import data_uri

from .conftest import HOSTILE
from .fake_run import blobs, drawings, fake_run, metrics

OUTSIDE = (
    "src=[\"']?(https?:)?//",
    "<link[^>]+href=[\"']?(https?:)?//",
    "@import",
    "url\\([\"']?(https?:)?//",
    "<script[^>]+src",
    "fetch\\(",
)


class Tags(HTMLParser):
    """Every start tag with its attributes, and a check that tags are closed in order."""

    VOID = frozenset(["meta", "link", "img", "input", "br"])

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(text):
    """Attributes of the elements that carry a picture; not of those that show one of these again."""
    return [attributes for tag, attributes in Tags(text).found if tag == "figure" and "data-copy" not in attributes]


@pytest.mark.parametrize("run", ["plain_run", "hostile_run", "looked_at_run"])
def test_nothing_comes_from_outside(run, request):
    text = page(read(request.getfixturevalue(run)))
    for mark in (*OUTSIDE, "xmlns"):
        assert not re.search(mark, text), mark
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in Tags(text).found if tag == "img" and "src" in attributes)
    assert all(value.startswith("#") for tag, attrs in Tags(text).found if tag == "a" for key, value in attrs.items() if key == "href")


def test_the_summary_in_plain_words(plain_run):
    text = html.unescape(page(read(plain_run))).replace("\u202f", " ")
    assert re.search(r"60 pictures sorted into 4 kinds in 41 s; \d+ % of them confidently\.", text)
    assert "Looks healthy" not in text and "Against the true labels" not in text


@pytest.mark.parametrize("finding, tone", [("solid", "ok"), ("partly", "fair"), ("none", "warn"), ("colour", "warn")])
def test_the_verdict_and_what_it_rests_on(plain_run, finding, tone):
    data = read(plain_run)
    found = data.environment["evidence"] | {"finding": finding, "other_k": 2, "other_stability": 0.97}
    environment = data.environment | {"verdict": "It is <so>.", "evidence": found}
    source = page(dataclasses.replace(data, environment=environment))
    assert f'class="health {tone}" role="status"><h2>It is &lt;so&gt;.</h2>' in source
    text = html.unescape(source).replace("\u202f", " ")
    assert "neighbours share a cluster 90 %; in a cloud" in text and "are 80 % alike" in text and "4 % of the pictures lie between" in text
    assert "the mean colour of a picture tells 12 %" in text and "2 clusters would be 97 % alike instead of 80 %" in text


def test_damaged_evidence_is_named(tmp_path, plain_run):
    run = tmp_path / "run"
    shutil.copytree(plain_run, run)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps(environment | {"evidence": {"finding": "solid"}}))
    with pytest.raises(InputError, match="environment.json is damaged"):
        read(run)


def test_a_replaced_result_is_told(plain_run):
    data = read(plain_run)
    environment = data.environment | {"evidence": data.environment["evidence"] | {"replaced": True}}
    assert "which k-means on its features replaces" in page(dataclasses.replace(data, environment=environment))


def test_features_have_no_colours_and_older_runs_no_verdict(plain_run):
    data = read(plain_run)
    found = {key: value for key, value in data.environment["evidence"].items() if "colour" not in key and "thumbnail" not in key}
    text = page(dataclasses.replace(data, environment=data.environment | {"evidence": found}))
    assert "mean colour" not in text and "neighbours share a cluster" in text
    older = {key: value for key, value in data.environment.items() if key not in ("verdict", "evidence")}
    assert "What that rests on" not in page(dataclasses.replace(data, environment=older))


def test_every_picture_has_its_name_and_confidence(plain_run):
    data = read(plain_run)
    figures = shown(page(data))
    assert sorted(int(figure["data-image-id"]) for figure in figures) == data.chosen.ids.tolist()
    for figure in figures:
        i = int(figure["data-image-id"])
        assert data.assigned.paths[i] in figure["title"] and "%" in figure["title"]


def test_the_page_begins_with_what_was_found(looked_at_run):
    text = page(read(looked_at_run))
    places = [
        text.index(mark)
        for mark in ('role="status"', 'id="kinds"', 'id="pictures"', 'id="map"', 'id="made"', 'id="training"', 'id="files"')
    ]
    assert places == sorted(places)


def test_the_script_knows_every_picture(hostile_run):
    data = read(hostile_run)
    text = page(data)
    told = json.loads(re.search(r"coterie\.table\((.*)\);\n", text)[1])
    assert [told["name"][row] for row in np.argsort(told["id"])] == data.assigned.paths
    assert [int(figure["data-image-id"]) for figure in shown(text)] == told["id"], "the same order"
    order = np.asarray(told["id"])
    assert told["kind"] == data.assigned.labels_N[order].tolist() and told["base"] == ""
    assert np.allclose(told["confidence"], 1000 * data.assigned.confidence_N[order], atol=0.51)
    assert told["near"] == data.near_NL[order].tolist() and [kind["name"] for kind in told["kinds"]][0] == "<i>cat</i>"


def test_near_duplicates_can_be_found(plain_run):
    data = read(plain_run)
    told = json.loads(re.search(r"coterie\.table\((.*)\);\n", page(dataclasses.replace(data, alike=[[3, 9], [1, 2, 50]])))[1])
    assert {told["id"][int(row)]: group for row, group in told["twins"].items()} == {3: 0, 9: 0, 1: 1, 2: 1, 50: 1}


def test_paths_are_shown_on_request(tmp_path, labels):
    """The folder, whole paths in the settings, and links to the originals; none of it otherwise."""
    features, p = blobs(labels, 4)
    for kind, path, base in [
        ("folder", "/home/a person/photos", "file:///home/a%20person/photos/"),
        ("list", "/home/a person/list.txt", "file:///home/a%20person/"),
        ("zip", "/home/a person/photos.zip", ""),
    ]:
        run = fake_run(
            tmp_path / kind, [f"{i}.png" for i in range(60)], drawings(labels, 12), labels, p, features, source={"kind": kind, "path": path}
        )
        data = read(run)
        closed, told = page(data), page(data, show_paths=True)
        assert "a person" not in closed and "file:///" not in closed and closed != told
        assert f"from <code>{path}</code>" in told and json.loads(re.search(r"coterie\.table\((.*)\);\n", told)[1])["base"] == base


@pytest.fixture(scope="module")
def many_run(tmp_path_factory):
    labels = np.arange(2300) % 5
    features, p = blobs(labels, 5)
    few = drawings(labels[:50], 40)
    return fake_run(tmp_path_factory.mktemp("many") / "run", [f"{i}.png" for i in labels], few * 46, labels, p, features)


def test_many_pictures_lie_beside_the_page(many_run, tmp_path):
    data = read(many_run)
    made = files(data, beside="x")
    scripts = sorted(name for name in made if "/pictures-" in name)
    assert len(scripts) == 12 and len(made) == 14 and "data-image-id" not in made[PAGE].split("<script>")[0]
    uris = [uri for name in scripts for uri in json.loads(re.fullmatch(r"coterie\.sheet\(\d+,(.*)\)", made[name])[1])]
    (table,) = (json.loads(re.fullmatch(r"coterie\.table\((.*)\)", text)[1]) for name, text in made.items() if "/table-" in name)
    assert uris == [data_uri(data.pictures[i]) for i in table["id"]] and sorted(table["id"]) == list(range(2300))
    out = write(many_run, tmp_path / "x.html")
    assert sorted(f"x/{file.name}" for file in (tmp_path / "x").iterdir()) == sorted(name for name in made if name != PAGE)
    assert out.read_text(encoding="utf-8") == made[PAGE]


def test_sheets_are_replaced_and_nothing_else_is_touched(many_run, plain_run, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="x would hold the pictures"):
        write(many_run, tmp_path / "x.html")
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["mine.txt"] and not (tmp_path / "x.html").exists()
    (tmp_path / "x" / "mine.txt").rename(tmp_path / "x" / "pictures-00000000-0000.js")
    write(many_run, tmp_path / "x.html")
    assert len(list((tmp_path / "x").iterdir())) == 13 and not (tmp_path / "x" / "pictures-00000000-0000.js").exists()
    write(plain_run, tmp_path / "x.html")
    assert list((tmp_path / "x").iterdir()) == [], "of few pictures the page is one file again"


def test_a_script_may_be_added(plain_run, many_run):
    for run in (plain_run, many_run):
        text = files(read(run), more="coterie.onSelect.push(console.log)")[PAGE]
        assert text.index("coterie.onSelect.push(console.log)") > max(text.index("window.coterie ="), text.rindex("table"))


def test_prototypes_are_named(plain_run):
    data = read(plain_run)
    figures = shown(page(data))
    marked = [i for i, figure in enumerate(figures) if figure.get("class") == "prototype"]
    assert [int(figures[i]["data-image-id"]) for i in marked] == [cluster.picks.prototypes[0] for cluster in data.clusters]
    assert marked == [0, 15, 30, 45], "each is the first of its cluster"


def test_neighbours_are_pictures_of_the_page(tmp_path, labels):
    features, p = blobs(labels, 4, spread=1.5)
    data = read(fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 12), labels, p, features))
    text = page(data)
    copies = [attributes for tag, attributes in Tags(text).found if tag == "figure" and "data-copy" in attributes]
    assert 'id="attention"' not in text and 'id="reliable"' not in text
    assert [int(figure["data-copy"]) for figure in copies] == [
        i for typical in (True, False) for e in data.examples if e.typical == typical for i in (e.id, *(j for j, _ in e.nearest))
    ]
    assert {int(figure["data-copy"]) for figure in copies} <= set(data.chosen.ids.tolist())
    cluster_of = data.assigned.labels_N
    elsewhere = [i for e in data.examples for i, _ in e.nearest if cluster_of[i] != cluster_of[e.id]]
    assert 0 < len(elsewhere) == len([figure for figure in copies if figure.get("class") == "stranger"])
    assert "among the pictures shown here" in text


def test_each_card_shows_the_three_nearest_to_the_centroid(plain_run):
    data = read(plain_run)
    text = page(data).split('id="kinds"')[1].split("</section>")[0]
    cards = text.split('class="card"')[1:]
    again = [[int(i) for i in re.findall('<span data-copy="([0-9]+)"', card.split("</a>")[0])] for card in cards]
    assert again == [ids[1:] for ids in data.central.values()] and len(again) == 4
    assert all("data:image/" in card for card in cards)


def test_maps_lie_over_the_central_pictures(looked_at_run):
    data = read(looked_at_run)
    text = html.unescape(page(data)).split('id="attention"')[1].split("</section>")[0]
    shown_twice = [i for ids in data.central.values() for i in ids for _ in range(2)]
    assert re.findall('data-copy="([0-9]+)"', text) == [str(i) for i in shown_twice] and len(shown_twice) == 24
    assert text.count('class="over"') == 12 and "3 × 4 places" in text, "across, then down"


def test_without_a_map_a_picture_is_left_out(looked_at_run):
    data = read(looked_at_run)
    lone = next(iter(data.attention))
    text = page(dataclasses.replace(data, attention={lone: data.attention[lone]})).split('id="attention"')[1].split("</section>")[0]
    assert re.findall('data-copy="([0-9]+)"', text) == [str(lone)] * 2 and "of the largest cluster," in text


def test_reliable_pictures_beside_all(looked_at_run):
    text = html.unescape(page(read(looked_at_run))).replace("\u202f", " ").split('id="reliable"')[1].split("</section>")[0]
    assert "found 30 of 60 pictures reliable (50 %)" in text
    every, kept = (sum(path.count("M") for path in re.findall('<path d="([^"]+)"', part)) for part in text.split("<svg")[1:])
    assert (every, kept) == (60, 30)
    assert re.sub("<[^>]+>", "", text).count("67 % reliable, 10 of 15") == 3 and "0 of 15" in text


def test_superclasses_part_the_confusion(tmp_path, labels):
    features, p = blobs(labels, 4)
    for copies in (1, 10):  # a table, and a drawing of many classes
        names = [f"class {c}" for c in range(4 * copies)]
        many = labels + 4 * (np.arange(60) % copies)
        measured = metrics(many, many, names) | {"superclasses": ["<b>fish", "bird"] * (2 * copies)}
        run = fake_run(tmp_path / str(copies), [str(i) for i in labels], drawings(labels, 12), labels, p, features, measured=measured)
        text = page(read(run)).split('id="accuracy"')[1].split("</section>")[0]
        Tags(text := text[text.index("<h3>") :])
        assert "<b>fish" not in text and text.index("&lt;b&gt;fish") < text.index(">bird<")
        assert text.count('class="rule"') == 1 and "100.0" in text


def test_many_to_one_has_its_place(tmp_path, labels):
    features, p = blobs(labels, 4)
    measured = metrics(labels, labels // 2, ["odd", "even"]) | {"many_to_one": 0.912}
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 12), labels, p, features, measured=measured)
    place = html.unescape(page(read(run))).split('id="many-to-one"')[1].split("</div>")[0]
    assert "<dt>many-to-one</dt>" in place and "91.2\u202f%" in place


def test_names_are_text_and_never_markup(hostile_run):
    text = page(read(hostile_run))
    tags = Tags(text).found
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [tag for tag, attributes in tags if tag in ("b", "i") and "onerror" in attributes]
    assert "49" not in text.split("<title>")[1].split("</title>")[0]
    titles = " ".join(figure["title"] for figure in shown(text))
    assert all(name in titles for name in HOSTILE)
    assert "{{ bird }}" in text and "&lt;b&gt;photos&lt;/b&gt;" in text


def test_no_place_on_the_disk_is_told(hostile_run):
    data = read(hostile_run)
    assert "/home/someone" not in page(data) and str(hostile_run) not in page(data)
    assert "/home/someone" in page(data, show_paths=True)


def test_listed_absolute_paths_become_names(tmp_path, labels):
    features, p = blobs(labels, 4)
    paths = [f"/home/someone/pictures/{i}.png" for i in range(60)]
    run = fake_run(
        tmp_path / "run", paths, drawings(labels, 20), labels, p, features, source={"kind": "list", "path": "/home/someone/list.txt"}
    )
    text = page(read(run))
    assert "someone" not in text and "17.png" in text


def test_warnings_problems_and_what_was_passed_over(hostile_run):
    text = html.unescape(page(read(hostile_run)))
    assert "1 thing to look at" in text
    assert "61 files could not be read" in text and "11 more are listed" in text
    assert "Passed over: 1 raw file, 3 videos." in text
    assert "2 exact copies" in text


def test_the_true_labels(hostile_run):
    text = html.unescape(page(read(hostile_run))).replace("\u202f", " ")
    assert "k-means on pixels" in text and "41.0 %" in text and "NMI" in text and "0.910" in text
    assert text.count("<td") > 16


def test_the_same_run_gives_the_same_page(plain_run):
    assert page(read(plain_run)) == page(read(plain_run))


def test_write_is_whole_and_leaves_nothing_behind(plain_run, tmp_path):
    assert write(plain_run) == plain_run / "report.html"
    other = write(plain_run, tmp_path / "new" / "x.html")
    assert other.read_bytes() == (plain_run / "report.html").read_bytes()
    assert [file.name for file in other.parent.iterdir()] == ["x.html"]
    with pytest.raises(InputError, match="is a folder"):
        write(plain_run, tmp_path)


@pytest.mark.slow
def test_a_thousand_pictures_stay_below_five_megabytes(tmp_path):
    k = 60  # the most clusters that show a cover, so the fullest page
    labels = np.arange(1000) % k
    features, p = blobs(labels, k)
    paths = [f"a folder with a long name/and another below it/picture number {i:05d}.jpeg" for i in range(1000)]
    measured = metrics(labels, labels, [f"class {c}" for c in range(k)]) | {"superclasses": [f"kind {c % 9}" for c in range(k)]}
    measured["curves"] = {"clustering": [[epoch, [0.001 * (head + epoch) for head in range(50)]] for epoch in range(40)]}
    stages = [
        {"stage": "clustering", "epoch": e, "scores": [0.1 * h + 0.01 * e for h in range(50)], "head": 0, "score": 0.1} for e in range(100)
    ]
    run = fake_run(
        tmp_path / "run",
        paths,
        drawings(labels, 160),
        labels,
        p,
        features,
        measured=measured,
        stages=stages,
        places=(32, 32),
        reliable_N=np.arange(1000) % 4 > 0,
    )
    assert len(page(read(run))) < 5e6


@pytest.mark.parametrize("k", [1, 2, 120])
def test_few_and_many_clusters(tmp_path, k):
    labels = np.arange(4 * k) % k
    features, p = blobs(labels, k)
    measured = metrics(labels, labels, [f"class {c}" for c in range(k)])
    run = fake_run(tmp_path / "run", [str(i) for i in labels], drawings(labels, 12), labels, p, features, measured=measured)
    Tags(page(read(run)))


def test_without_pictures_images_or_history(tmp_path):
    features, p = blobs(np.zeros(0, int), 3)
    run = fake_run(tmp_path / "run", [], [], np.zeros(0, int), p, features, stages=[])
    Tags(page(read(run)))


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("coterie.report.page", ("torch", "sklearn", "coterie.methods")),
        ("coterie.report.data", ("torch", "sklearn", "coterie.methods", "jinja2")),
        ("coterie.export", ("torch", "sklearn", "coterie.methods", "jinja2")),
    ],
)
def test_neither_torch_nor_methods_are_imported(module, without):
    code = f"import sys, {module}; sys.exit(', '.join(set({without!r}) & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr.strip() == ""
