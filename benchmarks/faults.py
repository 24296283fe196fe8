"""Damage on purpose, counted: `python -m benchmarks.faults [--seconds 480] [--seed 0]`, or `make faults`.

    sources   zip, parquet, npz, npy, txt list and csv of labels with bits turned, pieces cut, doubled, zeroed or replaced by noise
    run       every file of a finished run, and of one that was stopped; each verb must say what is wrong, or answer as before
    store     pixels, journal and about.json of decoded pictures; a fit must see the pictures it saw before

A traceback is what is no InputError; a silent difference is an answer that is another and says nothing. Exit status 1 when there is any.
Everything happens in a temporary folder, within the given seconds.
"""

import argparse
import csv
import json
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from coterie import fitting
from coterie.errors import InputError
from coterie.evaluate.labels import labels_of
from coterie.evaluate.protocol import evaluate
from coterie.export import export
from coterie.images import cache_entries, open_images
from coterie.report import page
from coterie.run import Run
from coterie.run.devices import Devices

QUICK = {"image_size": 16, "pretext_epochs": 1, "cluster_epochs": 2, "cluster_steps": 2, "n_heads": 2, "selflabel_epochs": 1}
DEVICES = Devices("cpu", "fp32", 1)
SHARES = {"sources": 0.35, "run": 0.35, "stopped": 0.1, "store": 0.2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        for name, part in {"sources": sources, "run": finished_run, "stopped": stopped_run, "store": store}.items():
            rng, place = np.random.default_rng([options.seed, len(name)]), Path(temporary) / name
            place.mkdir()
            end = time.monotonic() + options.seconds * SHARES[name]
            for kind, outcome in part(rng, place, end):
                counts[f"{kind}: {outcome}"] += 1
    for line in sorted(counts):
        print(f"{counts[line]:>7,}  {line}")
    bad = sum(number for line, number in counts.items() if line.endswith(("traceback", "silent difference")))
    print(f"{sum(counts.values()) - bad} passed, {bad} failed")
    sys.exit(bool(bad))


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` after one accident: a bit, a byte, a cut, a piece doubled, zeroed, taken out, or noise."""
    n = max(1, len(content))
    at, length = int(rng.integers(n)), int(rng.integers(1, 1 + min(64, n)))
    piece = content[at : at + length]
    how = int(rng.integers(7))
    if how == 0:
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :] if content else b"\0"
    others = (bytes(rng.integers(0, 256, 1, dtype=np.uint8)), piece * 2, b"\0" * length, b"", rng.bytes(length))
    return content[:at] if how == 6 else content[:at] + others[how - 1] + content[at + (1 if how == 1 else length) :]


def answered(ask: Callable[[], Any]) -> tuple[str, Any]:
    """What came of a question: ("answer", value), ("refused", None) for one clear line, or ("traceback", None), printed."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            return "answer", ask()
    except InputError as error:
        return ("refused", None) if "\n" not in str(error) else ("traceback", None)
    except Exception:
        traceback.print_exc()
        return "traceback", None


# ---- sources


def sources(rng: np.random.Generator, place: Path, end: float) -> Iterator[tuple[str, str]]:
    made = {file: file.read_bytes() for file in _sources(place / "whole")}
    tried = place / "tried"
    tried.mkdir()
    for turn in range(1_000_000):
        for file, content in made.items():
            if time.monotonic() > end:
                return
            path = tried / file.name
            path.write_bytes(damaged(content, rng))
            kind = path.suffix[1:]
            if file.name == "labels.csv":
                yield "labels", answered(lambda path=path: labels_of({"kind": "array"}, [f"#{i}" for i in range(12)], str(path)))[0]
            else:
                yield kind, answered(lambda path=path: open_images(path, 16, place / "cache"))[0]
        if turn % 20 == 19:
            shutil.rmtree(place / "cache", ignore_errors=True)


def _sources(place: Path) -> list[Path]:
    pictures = drawn(12)
    folder = place / "folder"
    files = photographs(folder, pictures)
    with zipfile.ZipFile(place / "pictures.zip", "w") as archive:
        for file in files:
            archive.write(file, f"{file.parent.name}/{file.name}")
    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pq.write_table(pa.table({"image": rows, "label": list(range(len(rows)))}), place / "pictures.parquet")
    np.savez(place / "pictures.npz", images=pictures, labels=np.arange(12))
    np.save(place / "pictures.npy", pictures)
    (place / "list.txt").write_text("".join(f"{file}\n" for file in files))
    with open(place / "labels.csv", "w", newline="") as out:
        csv.writer(out).writerows([("path", "label"), *((f"#{i}", f'kind {i % 3}, "{i % 2}"') for i in range(12))])
    return [path for path in sorted(place.iterdir()) if path.is_file()]


# ---- runs


def finished_run(rng: np.random.Generator, place: Path, end: float) -> Iterator[tuple[str, str]]:
    source = place / "pictures"
    photographs(source, drawn(24))
    run = place / "run"
    fitted(source, run, place / "cache")
    page.write(run)
    questions = verbs(run, source, place)
    before = {verb: answered(ask) for verb, ask in questions.items()}
    assert all(outcome == "answer" for outcome, _ in before.values()), {verb: outcome for verb, (outcome, _) in before.items()}
    files = [file for file in sorted(run.iterdir()) if file.is_file() and file.name != "report.html"]
    kept = {file: file.read_bytes() for file in files}
    while True:
        for file in files:
            accident = rng.integers(10)
            for verb, ask in questions.items():
                if time.monotonic() > end:
                    return
                _put_back(run, kept)
                if accident == 0:
                    file.unlink()
                else:
                    file.write_bytes(damaged(kept[file], rng))
                outcome, value = answered(ask)
                if outcome == "answer":
                    said = verb == "show" and value["files"] != before[verb][1]["files"]  # that nothing was compared: there is no manifest
                    outcome = "as before" if value == before[verb][1] else "said" if said else "silent difference"
                    if outcome == "silent difference":
                        print(f"{verb} after {'loss of' if accident == 0 else 'damage to'} {file.name}", file=sys.stderr)
                yield f"{file.name}, {verb}", outcome


def verbs(run: Path, source: Path, place: Path) -> dict[str, Callable[[], Any]]:
    """Questions to a run whose answers can be compared."""

    def reported() -> bytes:
        return page.write(run, place / "page.html").read_bytes()

    def exported() -> bytes:
        (place / "out.csv").unlink(missing_ok=True)
        export(run, "csv", place / "out.csv")
        return (place / "out.csv").read_bytes()

    def loaded() -> list[Any]:
        from coterie import load

        model = load(run)
        return [model.labels_.tolist(), model.probabilities_.tolist(), model.features_.tolist(), model.history_]

    def predicted() -> list[Any]:
        return fitting.predict(run, str(source), DEVICES, place / "cache")[2].tolist()

    def again() -> dict[str, Any]:
        return fitted(source, run, place / "cache")

    scores = lambda: json.dumps(evaluate(run, "folders", ["clusters", "knn"]), default=str)  # noqa: E731
    return {"show": lambda: fitting.show(run), "evaluate": scores, "report": reported, "export": exported, "load": loaded,
            "predict": predicted, "fit": again}  # fmt: skip


def stopped_run(rng: np.random.Generator, place: Path, end: float) -> Iterator[tuple[str, str]]:
    """A fit that was stopped, its state damaged, and continued: it ends as it would have, or says what is wrong."""
    source, whole = place / "pictures", place / "whole"
    photographs(source, drawn(24))
    fitted(source, whole, place / "cache")
    wanted = (whole / "assignments.parquet").read_bytes()
    _stop(source, place / "stopped", place / "cache")
    files = [file for file in sorted((place / "stopped").rglob("*")) if file.is_file()]
    while time.monotonic() < end:
        chosen = files[int(rng.integers(len(files)))]
        run = place / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(place / "stopped", run)
        path = run / chosen.relative_to(place / "stopped")
        path.write_bytes(damaged(path.read_bytes(), rng))
        outcome, _ = answered(lambda run=run: fitted(source, run, place / "cache"))
        if outcome == "answer":
            outcome = "as it would have" if (run / "assignments.parquet").read_bytes() == wanted else "silent difference"
        yield f"continued after damage to {'work' if path.parent != run else path.name}", outcome


def _stop(source: Path, run: Path, cache: Path) -> None:
    log, count = Run.log, [0]

    def stop(self: Run, **scalars: Any) -> None:
        log(self, **scalars)
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt

    Run.log = stop  # type: ignore[method-assign]
    try:
        fitted(source, run, cache)
    except KeyboardInterrupt:
        pass
    finally:
        Run.log = log  # type: ignore[method-assign]


# ---- the store


def store(rng: np.random.Generator, place: Path, end: float) -> Iterator[tuple[str, str]]:
    source, cache = place / "pictures", place / "cache"
    photographs(source, drawn(24))
    wanted = open_images(source, 16, cache).pixels.clone()
    (entry,) = [path for path in cache.iterdir() if path.is_dir()]
    kept = {file: file.read_bytes() for file in sorted(entry.iterdir())}
    while True:
        for file in kept:
            if time.monotonic() > end:
                return
            shutil.rmtree(cache)
            entry.mkdir(parents=True)
            _put_back(entry, kept)
            if rng.integers(10) == 0:
                file.unlink()
            else:
                file.write_bytes(damaged(kept[file], rng))
            listed, _ = answered(lambda: cache_entries(cache))
            yield "coterie cache", listed
            outcome, images = answered(lambda: open_images(source, 16, cache))
            if outcome == "answer":
                outcome = "as before" if torch.equal(images.pixels, wanted) else "silent difference"
            yield f"store's {file.name}", outcome


# ---- what all of them use


def drawn(n: int) -> np.ndarray:
    """Pictures (n, 24, 24, 3) uint8 of three colours on noise."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 90, (n, 24, 24, 3))
    for i in range(n):
        pictures[i, 4:20, 4:20, i % 3] += 120
    return pictures.astype(np.uint8)


def photographs(folder: Path, pictures: np.ndarray) -> list[Path]:
    """Files of these pictures, in a sub-folder for each of three kinds."""
    files = []
    for i, picture in enumerate(pictures):
        path = folder / f"kind{i % 3}" / f"{i:03d}.{'png' if i % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
        files.append(path)
    return files


def fitted(source: Path, run: Path, cache: Path) -> dict[str, Any]:
    images, plan = fitting.plan(str(source), "scan", clusters=3, preset="quick", settings=QUICK, cache=cache)
    return fitting.fit(images, plan, run, devices=DEVICES)


def _put_back(folder: Path, kept: dict[Path, bytes]) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in kept:
            path.unlink()
    for path, content in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


if __name__ == "__main__":
    main()
