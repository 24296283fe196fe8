"""`coterie predict --watch`, ended as a person ends it."""

import json

from PIL import Image

from coterie.cli import watching


def test_it_stays_until_it_is_interrupted(coterie, drawn, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for i, picture in enumerate(drawn(40, 16)):
        Image.fromarray(picture).save(tmp_path / "in" / f"{i:02d}.png")
    fit = ("fit", "in", "-o", "run", "--method", "kmeans", "--clusters", 4, "--preset", "quick", "--device", "cpu", "--threads", 1)
    assert coterie(*fit, "--encoder", "pixels")[0] == 0
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 1:
            Image.fromarray(drawn(1, 16, seed=3)[0]).save(tmp_path / "in" / "new.png")
            (tmp_path / "in" / "bad.png").write_text("no picture")
        if len(waited) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "time", type("Time", (), {"sleep": staticmethod(sleep)}))
    status, out, err = coterie("predict", "run", "in", "-o", "out.csv", "--watch", "--device", "cpu", "--threads", 1, "--json")
    assert status == 0 and len(out.splitlines()) == 41 and "set aside: bad.png" in err and "41 pictures have a row" in err
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]["path"] == "new.png" and rows[0].keys() >= {"cluster", "confidence", "novel"}
    waited.clear()
    status, out, err = coterie("predict", "run", "in", "-o", "out.csv", "--watch", "--device", "cpu")
    assert status == 0 and "watching; 41 pictures" in err and not out
    assert coterie("predict", "run", "nowhere", "-o", "out.csv", "--watch")[0] == 2
    for more in (("-o", "parts/"), ("-o", "out.csv", "--shard", "0/2")):
        assert coterie("predict", "run", "in", "--watch", *more)[0] == 2 and not (tmp_path / "parts").exists()
