"""The run folder of a recut: what follows from other clusters is made anew, all else stays as the fit wrote it.

Shapes: N images, D feature, K clusters, P pictures with a thumbnail.
"""

import io
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.numpy import save as numpy_bytes
from torch import Tensor

from coterie.errors import words
from coterie.fitting import assignments as store
from coterie.fitting.hierarchy import Sorted
from coterie.fitting.verdict import TINY, judge
from coterie.images.items import read_items
from coterie.learning.diagnose import vital_signs, worries
from coterie.networks import model
from coterie.report.thumbnails import unpack, unpack_maps, unpack_rounds
from coterie.report.wording import count
from coterie.run import checkpoint
from coterie.run.files import damaged, read_assignments, read_config, read_history, read_json, read_rows, read_tensors, read_trace

if TYPE_CHECKING:
    from coterie.fitting.recut import Cut

AS_THEY_ARE = ("features.safetensors", "trace.safetensors", "problems.csv", "items.parquet")


def write(run: Path, folder: Path, before: Sorted, after: Sorted, done: Sequence["Cut"], what: dict[str, Any], started: float) -> None:
    """The files of a run folder, but for its manifest. `what`: as `recut` returns it."""
    n = len(before.p_NK)
    read_trace(run, n), read_rows(run / "problems.csv"), read_items(run, n)  # what is handed on is what it should be
    for name in AS_THEY_ARE:
        same(run / name, folder / name)
    _write_model(run / model.FILE, folder / model.FILE, done)
    made = read_config(run)
    made["recut"] = {
        "of": {"run": run.resolve().name, "fingerprint": checkpoint.fingerprint(before.p_NK), "n_clusters": before.k},
        "trained": _trained(made),
        "merges": [[*one["clusters"], "into", one["into"]] for one in what["merges"]],
        "splits": [[one["cluster"], "into", *one["into"]] for one in what["splits"]],
    }
    made["settings"]["n_clusters"] = after.k
    if made["settings"].get("prior"):  # it has a share for each cluster that there was
        made["settings"]["prior"] = ""
    made.pop("clusters", None)  # how the number was counted, which is another now
    store.write_json(folder, "config.json", made)
    tensors = read_tensors(run / "pictures.safetensors", "id", "offset", "jpeg")
    tiny = tiny_of(run / "pictures.safetensors", tensors, n)
    checkpoint.write(folder / "pictures.safetensors", numpy_bytes(_without_old_maps(tensors, before, what)))
    note = {"stage": "note", "text": f"recut from {before.k} clusters to {after.k}: {in_words(what)}"}
    rows = [*read_history(run), note]
    checkpoint.write(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    told = read_json(run / "environment.json", n_problems=int, seconds=float, health=list, stages=dict)
    evidence = told.get("evidence")
    replaced = isinstance(evidence, dict) and evidence.get("replaced") is True
    told["verdict"], told["evidence"] = judge(after.rows_ND, after.labels_N, after.k, after.seed, made["method"], replaced, tiny)
    old_worries = worries(vital_signs(before.p_NK))
    told["health"] = [text for text in told["health"] if text not in old_worries] + worries(vital_signs(after.p_NK))
    seconds = round(time.monotonic() - started, 2)
    told["seconds"] = round(told["seconds"] + seconds, 2)
    told["stages"]["recut"] = seconds
    store.write_json(folder, "environment.json", told)
    store.write_table(_table(read_assignments(run), after), folder / store.TABLE)


def in_words(what: dict[str, Any]) -> str:
    """What became of the old clusters: "3 and 7 are 3 now; 5 is 5 and 6 now; 8 is 7 now; the others keep their numbers"."""
    joined = {old for one in what["merges"] for old in one["clusters"]}
    told = [f"{_listed(one['clusters'])} are {one['into']} now" for one in what["merges"]]
    told += [f"{one['cluster']} is {_listed(one['into'])} now" for one in what["splits"]]
    others = [(int(old), new[0]) for old, new in what["became"].items() if len(new) == 1 and int(old) not in joined]
    told += [f"{old} is {new} now" for old, new in others if old != new]
    still = [old for old, new in others if old == new]
    if len(still) == 1:
        told.append(f"{still[0]} keeps its number")
    elif still:
        told.append("the others keep their numbers" if told else "all keep their numbers")
    if what["moved"]:
        told.append(f"{count(what['moved'], 'picture')} between two clusters went to the other one")
    return "; ".join(told)


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _trained(made: dict[str, Any]) -> int:
    """How many clusters the training had, whatever was recut since."""
    earlier = made.get("recut")
    return earlier["trained"] if isinstance(earlier, dict) and "trained" in earlier else made["settings"]["n_clusters"]


def same(old: Path, new: Path) -> None:
    """The same file in two folders, which nobody writes into: a hard link where the disk has them, else a copy."""
    try:
        os.link(old, new)
    except OSError:
        shutil.copyfile(old, new)


def _write_model(old: Path, new: Path, done: Sequence["Cut"]) -> None:
    if not done:
        same(old, new)
    for i, step in enumerate(done):
        model.recut(new if i else old, new, step.layer(), step.head.n_clusters)


def _table(old: pa.Table, after: Sorted) -> pa.Table:
    table = store.table(old["path"].to_pylist(), after.p_NK)
    if (after.labels_N < 0).any():
        table = table.set_column(2, "cluster", pa.array(after.labels_N.numpy(), pa.int32()))
    return table


def _without_old_maps(tensors: dict[str, np.ndarray], before: Sorted, what: dict[str, Any]) -> dict[str, np.ndarray]:
    """The pictures without attention maps that show where clusters were seen that are others now."""
    if "attention" not in tensors:
        return tensors
    changed = {old for one in what["merges"] for old in one["clusters"]} | {one["cluster"] for one in what["splits"]}
    keep_P = ~np.isin(before.labels_N.numpy()[tensors["attention_id"]], list(changed))
    kept = {name: value for name, value in tensors.items() if not name.startswith("attention")}
    if keep_P.any():
        kept |= {name: np.ascontiguousarray(tensors[name][keep_P]) for name in ("attention_id", "attention")}
        if "attention_rounds" in tensors:
            kept["attention_rounds"] = np.ascontiguousarray(tensors["attention_rounds"][:, keep_P])
    return kept


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
