"""Near-duplicates from the picture to the page."""

import numpy as np
from PIL import Image

from coterie import fitting
from coterie.report import page
from coterie.run.devices import Devices
from coterie.run.files import read_json


def test_scaled_and_compressed_copies_are_counted_and_shown(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(30):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
        coarse.save(tmp_path / "in" / f"{i:02d}.png")
        if i in (4, 9):
            coarse.resize((60, 60), Image.Resampling.BICUBIC).save(tmp_path / "in" / f"{i:02d}-small.jpg", quality=60)
    settings = {"encoder": "pixels", "image_size": 48}
    images, plan = fitting.plan(tmp_path / "in", "kmeans", clusters=3, preset="quick", settings=settings)
    done = fitting.fit(images, plan, tmp_path / "run", devices=Devices("cpu", "fp32", 1))
    found = read_json(tmp_path / "run" / "environment.json")["duplicates"]
    assert found == {"extra": 2, "groups": 2, "largest": [[4, 5], [10, 11]]} and done["n_near_duplicates"] == 2
    assert not any("near-duplicates" in warning for warning in done["health"])  # 2 of 32 are too few to matter
    text = page.write(tmp_path / "run").read_text()
    assert "2 near-duplicates in 2 groups" in text
    shown = text[text.index('id="twins"') :]
    shown = shown[: shown.index("</li>")]
    assert all(f'"{i}"' in shown for i in (4, 5, 10, 11)) and '"6"' not in shown
    assert all(text.count(f'data-image-id="{i}"') == 1 for i in (4, 5, 10, 11))


def test_many_are_a_worry_and_features_alone_have_none(tmp_path, drawn):
    pictures = np.repeat(drawn(20), 2, axis=0)
    pictures[1::2] = np.minimum(pictures[1::2].astype(int) + 3, 255)  # no exact copy
    settings = {"encoder": "pixels", "image_size": 24}
    images, plan = fitting.plan(pictures, "kmeans", clusters=3, preset="quick", settings=settings)
    done = fitting.fit(images, plan, tmp_path / "run", devices=Devices("cpu", "fp32", 1))
    assert images.n_duplicates == 0 and done["n_near_duplicates"] >= 18
    assert any("are near-duplicates of others" in warning for warning in done["health"])
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    images, plan = fitting.plan(rows, "kmeans", clusters=3, preset="quick", settings={"encoder": "precomputed"})
    assert fitting.fit(images, plan, tmp_path / "rows", devices=Devices("cpu", "fp32", 1))["n_near_duplicates"] == 0
