"""A run folder made from another: what follows from other clusters is made anew, all else stays as the fit wrote it.

Shapes: N images, D feature, K clusters, P pictures with a thumbnail.
"""

import io
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.numpy import save as numpy_bytes
from torch import Tensor

from coterie.errors import InputError, words
from coterie.fitting import assignments as store
from coterie.fitting.hierarchy import Known, Sorted, kept
from coterie.fitting.verdict import TINY, judge
from coterie.images.items import read_items
from coterie.learning.diagnose import vital_signs, worries
from coterie.networks import model
from coterie.report.thumbnails import unpack, unpack_maps, unpack_rounds
from coterie.run import checkpoint, disk, manifest
from coterie.run.files import damaged, read_assignments, read_config, read_history, read_json, read_rows, read_tensors, read_trace

AS_THEY_ARE = ("features.safetensors", "trace.safetensors", "problems.csv", "items.parquet")
STAGES = ("recut", "refine")  # how a run may have been made from another


def check(run: Path, output: Path) -> None:
    """InputError unless `run` is finished and whole, and `output` is free."""
    if not manifest.is_finished(run):
        raise InputError(f"{run} is not a finished run; continue its fit first" if run.is_dir() else f"there is no run folder {run}")
    if output.exists() or output.is_symlink():
        if not output.is_dir():
            raise InputError(f"{output} is a file; choose another folder")
        if any(output.iterdir()):
            raise InputError(f"{output} is not empty; choose another folder")
    manifest.check_run(run)


@contextmanager
def folder(output: Path, after: Sorted, known: Callable[[], Known] = lambda: None) -> Iterator[Path]:
    """A folder to write into, that takes the name `output` with all that was written, its manifest and its hierarchy; or never does."""
    part = output.parent / f".coterie-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        disk.make_folder(part)
        yield part
        manifest.seal(part)
        kept(part, after, known())
        os.replace(part, output)  # takes the place of an empty folder; a reader sees nothing, or all
        disk.sync(output.parent)
    except NotADirectoryError:
        raise InputError(f"{output} lies in a file; choose another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write(
    run: Path, folder: Path, before: Sorted, after: Sorted, *, stage: str, how: dict[str, Any], note: str,
    head: Callable[[Path, Path], None], changed: Collection[int], started: float, confidence: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The files of a run folder, but for its manifest.

    stage, how    what was done, and what config.json tells of it under this name;  note: the same in words, for the history
    head          writes the model: (the old file, the new one)
    changed       clusters of `before` that are others now: attention maps of their pictures are left out
    confidence    how the probabilities were calibrated, where they were
    """
    n = len(before.p_NK)
    read_trace(run, n), read_rows(run / "problems.csv"), read_items(run, n)  # what is handed on is what it should be
    for name in AS_THEY_ARE:
        same(run / name, folder / name)
    head(run / model.FILE, folder / model.FILE)
    made = read_config(run)
    of = {"run": run.resolve().name, "fingerprint": checkpoint.fingerprint(before.p_NK), "n_clusters": before.k}
    made[stage] = {"of": of, "trained": _trained(made), **how}
    made["settings"]["n_clusters"] = after.k
    if made["settings"].get("prior"):  # it has a share for each cluster that there was
        made["settings"]["prior"] = ""
    made.pop("clusters", None)  # how the number was counted, which is another now
    store.write_json(folder, "config.json", made)
    tensors = read_tensors(run / "pictures.safetensors", "id", "offset", "jpeg")
    tiny = tiny_of(run / "pictures.safetensors", tensors, n)
    checkpoint.write(folder / "pictures.safetensors", numpy_bytes(without_old_maps(tensors, before.labels_N, changed)))
    rows = [*read_history(run), {"stage": "note", "text": note}]
    checkpoint.write(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    told = read_json(run / "environment.json", n_problems=int, seconds=float, health=list, stages=dict)
    evidence = told.get("evidence")
    replaced = isinstance(evidence, dict) and evidence.get("replaced") is True
    told["verdict"], judged = judge(after.rows_ND, after.labels_N, after.k, after.seed, made["method"], replaced, tiny)
    alike = {name: value for name, value in (evidence or {}).items() if name.startswith("fits")}  # of several seeds
    told["evidence"] = judged | alike
    told |= {} if confidence is None else {"confidence": confidence}
    old_worries = worries(vital_signs(before.p_NK))
    told["health"] = [text for text in told["health"] if text not in old_worries] + worries(vital_signs(after.p_NK))
    seconds = round(time.monotonic() - started, 2)
    told["seconds"] = round(told["seconds"] + seconds, 2)
    told["stages"][stage] = seconds
    store.write_json(folder, "environment.json", told)
    store.write_table(_table(read_assignments(run), after), folder / store.TABLE)


def same(old: Path, new: Path) -> None:
    """The same file in two folders, which nobody writes into: a hard link where the disk has them, else a copy."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def without_old_maps(tensors: dict[str, np.ndarray], labels_N: Tensor, changed: Collection[int]) -> dict[str, np.ndarray]:
    """The pictures without attention maps that show where clusters were seen that are others now."""
    if "attention" not in tensors:
        return tensors
    keep_P = ~np.isin(labels_N.numpy()[tensors["attention_id"]], list(changed))
    left = {name: value for name, value in tensors.items() if not name.startswith("attention")}
    if keep_P.any():
        left |= {name: np.ascontiguousarray(tensors[name][keep_P]) for name in ("attention_id", "attention")}
        if "attention_rounds" in tensors:
            left["attention_rounds"] = np.ascontiguousarray(tensors["attention_rounds"][:, keep_P])
    return left


def _trained(made: dict[str, Any]) -> int:
    """How many clusters the training had, whatever was made of it since."""
    earlier = (made.get(stage) for stage in STAGES)
    return next((one["trained"] for one in earlier if isinstance(one, dict) and "trained" in one), made["settings"]["n_clusters"])


def _table(old: pa.Table, after: Sorted) -> pa.Table:
    table = store.table(old["path"].to_pylist(), after.p_NK)
    if (after.labels_N < 0).any():
        table = table.set_column(2, "cluster", pa.array(after.labels_N.numpy(), pa.int32()))
    return table


def tiny_of(path: Path, tensors: dict[str, np.ndarray], n: int) -> tuple[Tensor, Tensor] | None:
    """(ids (P,), thumbnails (P, 3, 4, 4) float32) of the pictures that the run keeps; None where it keeps none. InputError when they, or
    their attention maps, cannot be those of `n` images."""
    small = []
    try:
        pictures, maps, _ = unpack(tensors), unpack_maps(tensors), unpack_rounds(tensors)
        if not all(0 <= i < n for i in (*pictures, *maps)):
            raise ValueError("it shows images that are not in the run")
        for picture in pictures.values():
            with Image.open(io.BytesIO(picture.data)) as image:
                small.append(np.asarray(image.convert("RGB").resize((TINY, TINY), Image.Resampling.BOX), np.float32) / 255)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise damaged(path, f"is damaged: {words(error)}") from error
    return (torch.tensor(list(pictures)), torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()) if small else None
