"""The cells of examples/photos.ipynb, in order, on tiny pictures."""

import ast
import json
from pathlib import Path

import pytest
from PIL import Image

import coterie
from coterie.run.edits import edited

NOTEBOOK = json.loads((Path(__file__).parents[2] / "examples" / "photos.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
QUICK = {"settings": {"image_size": 16, "restarts": 1}, "device": "cpu", "precision": "fp32", "threads": 1}


def done(code, names):
    """What a notebook shows below a cell: the value of its last line, in html where it has that."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    return value._repr_html_() if isinstance(value, coterie.KMeans) else value


def test_it_is_kept_without_outputs():
    """What a machine printed is none of the reader's business, and grows old."""
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"]) and NOTEBOOK["nbformat"] == 4


@pytest.mark.systems
def test_every_cell(tmp_path, drawn, monkeypatch):
    pytest.importorskip("pandas", reason="the extra coterie[notebook] is not installed")
    matplotlib = pytest.importorskip("matplotlib", reason="the extra coterie[notebook] is not installed")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(coterie, "SCAN", lambda clusters, **words: coterie.KMeans(4, **words, **QUICK), raising=False)
    for folder, n, seed in (("photos", 48, 0), ("new-photos", 12, 1)):
        Path(folder).mkdir()
        for i, picture in enumerate(drawn(n, 16, seed)):
            Image.fromarray(picture).save(f"{folder}/{i:02d}.png")
    names, shown = {}, []
    for code in CODE:
        shown.append(done(code, names))
    looks = [value for value in shown if isinstance(value, str) and value.startswith("<div>")]
    assert len(looks) == 2 and "sunflower" not in looks[0] and "sunflower" in looks[1]
    assert Path("photos.html").stat().st_size > 10_000 and Path("sorted.csv").exists() and Path("coco/annotations.json").exists()
    wanted = {"lotus", "panda", "sailboat", "pizza", "sunflower"}
    assert set(edited(Path("runs/more")).names.values()) == wanted and {path.name for path in Path("sorted").iterdir()} <= wanted
    assert int(shown[-1].sum()) == 60 and set(shown[-1].index) <= wanted | {"unsure"}
    matplotlib.pyplot.close("all")
