"""Protocol landmarks: Oxford and Paris, what each query should find, as published and as revisited, and the score of a ranking.

As published (Philbin et al., 2007 and 2008): a folder of text files, for each query NAME_query.txt (image and box), NAME_good.txt,
NAME_ok.txt and NAME_junk.txt, an image name a line. Good and ok ones are to be found, junk is taken out of the ranking.
Revisited (Radenovic et al., 2018): one json file with the fields of the published pickle, {"imlist": [...], "qimlist": [...],
"gnd": [{"bbx": [x0, y0, x1, y1], "easy": [rows of imlist], "hard": [...], "junk": [...]}, ...]}; the queries are not among the images.
docs/evaluation-voc.md says how to make it.

Shapes: Q queries, N images that are ranked.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coterie.errors import InputError
from coterie.evaluate.retrieval import LEVELS, POOLINGS, Whitening, describe, learn_whitening, regions_of
from coterie.evaluate.task import Task
from coterie.images import decode
from coterie.images.layouts import TRUTHS, home
from coterie.images.named import data_root

SETUPS = ("easy", "medium", "hard")
MAX_PIXELS = 100_000_000  # of a picture, as everywhere in Coterie
LAST = -2.0  # below every cosine: of pictures that cannot be read
PREFIX = "oxc1_"  # that Oxford's query files put before the name of the image


@dataclass(frozen=True)
class Settings:
    truth: str = ""  # the folder of the text files, or the json file of the revisited sets
    pooling: str = "rmac"
    size: int = 1024  # px of the longest side; DeepCluster, 2018, table 5
    levels: int = LEVELS
    whiten: int = 0  # dimensions of a PCA-whitening learned on --train; 0: none


def judge(task: Task, settings: Settings) -> None:
    """mAP on the folder of pictures that `--on` names, whole and at their own shapes; queries are cut to their boxes.

    A picture that cannot be read comes last, and is told of. InputError: no ground truth, pictures of it that are not there, a query that
    cannot be read, whitening without `--train`.
    """
    given = settings.truth or (str(home(task.on, data_root(), TRUTHS)) if task.on in TRUTHS else "")
    if not given or task.on is None:
        raise InputError(
            "landmarks needs --on FOLDER, the pictures, and --set truth=FOLDER (its text files) or truth=FILE.json (revisited); or --on "
            f"{' or '.join(TRUTHS)}, in COTERIE_DATA"
        )
    if settings.pooling not in POOLINGS or settings.size < 32 or (settings.whiten and task.train is None):
        raise InputError(
            f"--set: landmarks wants pooling one of {', '.join(POOLINGS)}, a size of at least 32, and --train where it whitens"
        )
    files = {file.stem: file for file in sorted(home(task.on, data_root()).rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg", ".png")}
    revisited = given.endswith(".json")
    truth = read_revisited(Path(given)) if revisited else read_published(Path(given), list(files))
    for told in (*truth.problems[:1], *([f"{len(truth.problems) - 1:,} more of this kind"] if len(truth.problems) > 1 else [])):
        task.note(f"landmarks: {told}")
    if lacking := [name for name in (*truth.images, *(query.image for query in truth.queries)) if name not in files]:
        raise InputError(f"{task.on}: {len(lacking):,} pictures of the ground truth are not there (the first: {lacking[0]})")
    others = task.pictures(task.train)[0] if settings.whiten else None
    follows = {
        "weights": task.weights,
        "truth": [[q.image, q.box, *(rows.tolist() for s in SETUPS for rows in (q.positive[s], q.junk[s]))] for q in truth.queries],
        "pictures": [[name, files[name].stat().st_size] for name in truth.images],
        "settings": [settings.pooling, settings.size, settings.levels, settings.whiten, others.fingerprint if others else ""],
    }
    on = Path(task.on).name + (", revisited" if revisited else "") + (", whitened" if others else "")
    task.scores.once("landmarks", on, settings.pooling, follows, lambda: _score(task, settings, truth, files, others))


def _score(task: Task, settings: Settings, truth: "Landmarks", files: dict[str, Path], others: Any) -> dict[str, float]:
    device, learned = task.run.devices.device, None
    if others is not None:
        batches = (batch.pixels_B3HW.to(device) for batch in others.batches(64))
        rmac = settings.pooling == "rmac"
        rows = regions_of(task.encoder, batches, settings.levels) if rmac else describe(task.encoder, batches, settings.pooling)
        learned = Whitening(*(part.to(device) for part in learn_whitening(rows, settings.whiten)))
    unreadable: list[int] = []

    def ranked() -> Iterator[Tensor]:
        for i, name in enumerate(truth.images):
            task.run.progress.advance("landmarks: pictures", i + 1, len(truth.images))
            try:
                yield whole(files[name], settings.size).to(device)
            except decode.Unreadable:
                unreadable.append(i)
                yield torch.zeros(1, 3, settings.size, settings.size, device=device)

    def asking() -> Iterator[Tensor]:
        for query in truth.queries:
            try:
                picture = whole(files[query.image], settings.size)
                width, _ = decode.shown_size(files[query.image].read_bytes())
            except decode.Unreadable as error:
                raise InputError(f"{files[query.image]}: a query that cannot be read ({error})") from error
            scale = picture.shape[3] / width
            left, top, right, bottom = crop([side * scale for side in query.box], picture.shape[3], picture.shape[2])
            yield picture[:, :, top:bottom, left:right].to(device)

    rows_ND, asked_QD = (
        describe(task.encoder, some, settings.pooling, levels=settings.levels, whitening=learned) for some in (ranked(), asking())
    )
    similarity_QN = asked_QD @ rows_ND.T
    similarity_QN[:, unreadable] = LAST
    if unreadable:
        task.note(f"landmarks: {len(unreadable):,} pictures cannot be read and come last (the first: {truth.images[unreadable[0]]})")
    found = mean_average_precision(truth, similarity_QN.numpy())
    return {"mAP": found["medium"], **{f"mAP {setup}": score for setup, score in found.items() if setup != "medium"}}


def whole(file: Path, size: int) -> Tensor:
    """A picture, float32 (1, 3, h, w) in [0, 1], its longest side at most `size` px. Raises Unreadable."""
    try:
        with decode.strict_pillow(MAX_PIXELS):
            shown = decode.thumbnail(file.read_bytes(), size, MAX_PIXELS)
    except OSError as error:
        raise decode.Unreadable(str(error)) from error
    return torch.from_numpy(np.array(shown)).permute(2, 0, 1)[None].float() / 255


@dataclass(frozen=True)
class Query:
    """`image`: its name, `box` (left, top, right, bottom) in its pixels; rows of the ranked images that must be found, and that do not
    count. Of the older files, "medium" holds good and ok, and junk is junk; "easy" and "hard" are empty then."""

    image: str
    box: tuple[float, float, float, float]
    positive: dict[str, np.ndarray]
    junk: dict[str, np.ndarray]


@dataclass(frozen=True)
class Landmarks:
    """`images`: the N names that are ranked; `problems`: a line each, what of the ground truth could not be used."""

    images: list[str]
    queries: list[Query]
    problems: list[str]


def read_published(folder: Path, images: Sequence[str]) -> Landmarks:
    """The text files of Oxford 5k or Paris 6k for images of these names (file names without their ending), row i = name i.

    A name that is not among the images is a problem, and so is a query whose own image is not there, or which has nothing to find; such a
    query is left out. InputError: no query file, one that cannot be read or does not hold a name and four numbers.
    """
    row = {name: i for i, name in enumerate(images)}
    queries, problems = [], []
    for file in sorted(Path(folder).glob("*_query.txt")):
        base = file.name.removesuffix("_query.txt")
        name, *box = (_text(file).split() + [""] * 5)[:5]
        name = name if name in row else name.removeprefix(PREFIX)
        rows = {}
        for kind in ("good", "ok", "junk"):
            names = _text(file.with_name(f"{base}_{kind}.txt")).split()
            problems += [f"{base}_{kind}.txt: {strange} is not among the images" for strange in names if strange not in row]
            rows[kind] = np.array([row[known] for known in names if known in row], np.int64)
        found = np.union1d(rows["good"], rows["ok"])
        if name not in row or not len(found):
            what = "has nothing to find" if name in row else f"asks with {name}, which is not among the images"
            problems.append(f"{base}: {what}, left out")
            continue
        none = np.empty(0, np.int64)
        positive = {"easy": none, "medium": found, "hard": none}
        queries.append(Query(name, _box(box, file.name), positive, dict.fromkeys(SETUPS, rows["junk"])))
    if not queries:
        raise InputError(f"{folder}: no usable NAME_query.txt with its good, ok and junk files" + "".join(f"; {p}" for p in problems[:1]))
    return Landmarks(list(images), queries, problems)


def read_revisited(file: Path) -> Landmarks:
    """The revisited ground truth from its json file. Easy looks for the easy ones and passes over the hard, medium looks for both, hard
    looks for the hard and passes over the easy; junk is passed over by all. InputError says what of the file is not as it should be."""
    try:
        whole = json.loads(_text(Path(file)))
        images, names, truth = whole["imlist"], whole["qimlist"], whole["gnd"]
        if len(names) != len(truth):
            raise ValueError(f"{len(names)} names in qimlist, {len(truth)} entries in gnd")
        queries = [_revisited(name, entry, len(images), file) for name, entry in zip(names, truth)]
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: wanted the fields imlist, qimlist and gnd ({type(error).__name__}: {error})") from error
    if not queries:
        raise InputError(f"{file}: no queries")
    nothing = [f"{query.image}: nothing to find in {s}" for query in queries for s in SETUPS if not len(query.positive[s])]
    return Landmarks([str(name) for name in images], queries, nothing)


def _revisited(name: str, entry: dict[str, Any], n: int, file: Path) -> Query:
    easy, hard, junk = (np.array(entry[kind], np.int64).reshape(-1) for kind in ("easy", "hard", "junk"))
    for kind, rows in (("easy", easy), ("hard", hard), ("junk", junk)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < n:
            raise InputError(f"{file}: {kind} of {name} names row {int(rows.max())} of {n} images")
    both = np.union1d(easy, hard)
    positive = {"easy": np.unique(easy), "medium": both, "hard": np.unique(hard)}
    return Query(
        str(name), _box(entry["bbx"], str(name)), positive, {"easy": np.union1d(junk, hard), "medium": junk, "hard": np.union1d(junk, easy)}
    )


def crop(box: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """The box of a query in whole pixels, inside its picture of width x height. InputError: nothing of it lies inside."""
    left, top = max(0, int(box[0])), max(0, int(box[1]))
    right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if left >= right or top >= bottom:
        raise InputError(f"the box {[round(float(side), 1) for side in box]} of a query lies outside its picture of {width} x {height}")
    return left, top, right, bottom


def average_precision(ranking_N: Any, positive: np.ndarray, junk: np.ndarray) -> float:
    """AP of one ranking (rows, best first) as both protocols compute it: the area under precision over recall by trapezoids, junk taken
    out first; NaN where there is nothing to find."""
    ranking_N = np.asarray(ranking_N)
    kept = ranking_N[~np.isin(ranking_N, junk)]
    rank_P = np.flatnonzero(np.isin(kept, positive))
    if not len(positive):
        return float("nan")
    before_P = np.arange(len(rank_P))
    left_P = np.where(rank_P == 0, 1.0, before_P / np.maximum(rank_P, 1))
    return float((left_P + (before_P + 1) / (rank_P + 1)).sum() / 2 / len(positive))


def mean_average_precision(truth: Landmarks, similarity_QN: Any) -> dict[str, float]:
    """mAP in [0, 1] of each setup that has a query with something to find; row q = query q, column i = image i.

    Images equally similar stay in their order. InputError: similarities of another shape, or not finite.
    """
    similarity_QN = np.asarray(similarity_QN)
    if similarity_QN.shape != (len(truth.queries), len(truth.images)) or not np.isfinite(similarity_QN).all():
        raise InputError(
            f"similarities of shape {similarity_QN.shape}; finite ones, {len(truth.queries)} x {len(truth.images)}, are needed"
        )
    ranking_QN = np.argsort(-similarity_QN, axis=1, kind="stable")
    found = {}
    for setup in SETUPS:
        each = [average_precision(r, q.positive[setup], q.junk[setup]) for r, q in zip(ranking_QN, truth.queries) if len(q.positive[setup])]
        if each:
            found[setup] = float(np.mean(each))
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({type(error).__name__})") from error


def _box(numbers: Sequence[Any], where: str) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(number) for number in numbers)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: wanted a box of four numbers, not {list(numbers)!r}") from error
    if not np.isfinite([left, top, right, bottom]).all():
        raise InputError(f"{where}: the box {list(numbers)!r} is not finite")
    return left, top, right, bottom
