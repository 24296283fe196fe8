"""The run folder of an update: the rows of the new pictures behind those of the run, and what follows from both made anew.

Shapes: N images of the run, M new ones, K clusters, P pictures with a thumbnail.
"""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import save as numpy_bytes

from coterie.fitting import assignments as store
from coterie.fitting.confidence import of_clusters
from coterie.fitting.derived import same, tiny_of
from coterie.fitting.duplicates import OF_EACH, TOLD, duplicates
from coterie.fitting.hierarchy import Sorted
from coterie.fitting.small import small
from coterie.fitting.verdict import judge
from coterie.images.collection import fingerprint
from coterie.images.items import COLUMNS, FILE, items_table, read_items
from coterie.images.parts import named, parts
from coterie.learning.diagnose import vital_signs, worries
from coterie.networks import model
from coterie.networks.recut import Recut
from coterie.report.choice import choose, left_out, twins
from coterie.report.thumbnails import BUDGET, pack, pack_others
from coterie.report.wording import count
from coterie.run import checkpoint, seeding
from coterie.run.files import read_assignments, read_config, read_history, read_json, read_rows, read_tensors, read_trace

if TYPE_CHECKING:
    from coterie.fitting.update import New

LEAST = BUDGET // 4  # bytes for the thumbnails of new pictures, however many those of the run take


def write(
    run: Path, folder: Path, new: "New", before: Sorted, after: Sorted, head: Recut | None, source: dict[str, Any], what: dict[str, Any],
    started: float,
) -> None:  # fmt: skip
    """The files of a run folder, but for its manifest. `source`: the new one, described; `what`: as `update` returns it."""
    n, made = len(before.p_NK), read_config(run)
    _write_model(run, folder, head, after.k)
    store.write_tensors(folder / "features.safetensors", {"features": after.rows_ND.half()})
    _write_trace(run, folder, n, len(new.fresh))
    rows = _items(run, new)
    store.write_table(rows, folder / FILE)
    told = read_json(run / "environment.json", n_problems=int, seconds=float, health=list, stages=dict)
    near = _joined(told.get("duplicates") or {}, _near(new), n)
    tiny = _write_pictures(run, folder, new, before, after, near)
    text = in_words(what, source["name"])
    _write_config(folder, made, before, after, source | {"n_images": len(new.fresh), "prefix": new.prefix}, rows, what, text)
    history = [*read_history(run), {"stage": "note", "text": text}]
    checkpoint.write(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in history).encode())
    problems = [(row.get("path") or "", row.get("reason") or "") for row in read_rows(run / "problems.csv")]
    store.write_problems(folder, problems + _problems(new))
    old = told.get("evidence") or {}
    told["verdict"], judged = judge(after.rows_ND, after.labels_N, after.k, after.seed, made["method"], old.get("replaced") is True, tiny)
    told["evidence"] = judged | {name: value for name, value in old.items() if name.startswith("fits")}  # of several seeds
    old_worries = worries(vital_signs(before.p_NK))
    told["health"] = [text for text in told["health"] if text not in old_worries] + worries(vital_signs(after.p_NK)) + _doubts(what)
    if told.get("confidence"):
        kept = {name: value for name, value in told["confidence"].items() if name not in ("clusters", "confused")}
        borders = of_clusters(after.rows_ND, after.p_NK, seeding.generator(after.seed, "update", "borders"))
        told["confidence"] = kept | {"unsure": int((after.labels_N < 0).sum())} | borders
    told |= {"duplicates": near} if near else {}
    told["n_problems"] += what["n_set_aside"]
    seconds = round(time.monotonic() - started, 2)
    told["seconds"] = round(told["seconds"] + seconds, 2)
    told["stages"]["update"] = round(told["stages"].get("update", 0.0) + seconds, 2)
    store.write_json(folder, "environment.json", told)
    paths = read_assignments(run)["path"].to_pylist() + new.paths
    store.write_table(store.table(paths, after.p_NK, after.labels_N), folder / store.TABLE)


def in_words(what: dict[str, Any], name: str) -> str:
    """What an update did, in a few sentences."""
    told = [f"update: {count(what['n_added'], 'picture')} of {name} added"]
    told += [f"{what['n_already']:,} were in the run already, byte for byte, and count once"] if what["n_already"] else []
    told += [f"{what['n_set_aside']:,} set aside (problems.csv)"] if what["n_set_aside"] else []
    if what["n_novel"]:
        share = f"{100 * what['false_alarms']:.3g} % of pictures of known kinds would by mistake"
        told.append(f"{what['n_novel']:,} of them fit nowhere ({share}) and are in no cluster (-1)")
    told += [of_kind(kind) for kind in what["kinds"]]
    told += [f"{count(what['moved'], 'picture')} of the run went to new clusters"] if what["moved"] else []
    return "; ".join(told)


def of_kind(kind: dict[str, Any]) -> str:
    """A kind that was found, its evidence, and where it would have gone."""
    seen = f"{100 * kind['own']:.0f} % of their nearest pictures are among them, the model took most for cluster {kind['nearest']}"
    if "cluster" in kind:
        return f"{kind['n']:,} look like a kind of their own ({seen}): cluster {kind['cluster']}, {count(kind['size'], 'picture')} now"
    return f"{kind['n']:,} look like a kind of their own ({seen}): --new-kinds makes it a cluster"


def _doubts(what: dict[str, Any]) -> list[str]:
    waiting = [kind for kind in what["kinds"] if "cluster" not in kind]
    if not waiting:
        return []
    told = " and ".join(f"{kind['n']:,}" for kind in waiting)
    return [f"of the pictures in no cluster {told} look like new kinds; coterie update with --new-kinds makes clusters of them"]


def _write_model(run: Path, folder: Path, head: Recut | None, k: int) -> None:
    if head is None:
        same(run / model.FILE, folder / model.FILE)
        return
    layer = {name: value for name, value in head.state_dict().items() if not name.startswith("before.")}
    model.recut(run / model.FILE, folder / model.FILE, layer, k)


def _write_trace(run: Path, folder: Path, n: int, m: int) -> None:
    """The curves of the training, in which nobody new was: -1."""
    if not m:
        same(run / "trace.safetensors", folder / "trace.safetensors")
        return
    wider = {}
    for name, labels in read_trace(run, n).items():
        none = np.full((*labels.shape[:-1], m), -1, np.int32)
        wider[name] = torch.from_numpy(np.concatenate([labels.astype(np.int32), none], -1))
    store.write_tensors(folder / "trace.safetensors", wider)


def _items(run: Path, new: "New") -> pa.Table:
    """The items of the run, and behind them those of the new source that it did not have."""
    table = read_assignments(run)
    old = read_items(run, len(table))
    if old is None:  # of a version that kept none
        columns = [table["id"].to_pylist(), table["path"].to_pylist(), [0] * len(table), [""] * len(table)]
        old = pa.table([pa.array(column, kind) for column, kind in zip(columns, COLUMNS.values())], list(COLUMNS))
    number = {i: len(table) + place for place, i in enumerate(new.fresh)}
    rows = [row | {"id": number.get(row["id"], -1), "path": named(new.prefix, row["path"])}
            for row in items_table(new.images).to_pylist() if row["id"] < 0 or row["id"] in number]  # fmt: skip
    return pa.concat_tables([old.select(list(COLUMNS)), pa.Table.from_pylist(rows, old.select(list(COLUMNS)).schema)])


def _problems(new: "New") -> list[tuple[str, str]]:
    told = [(path if path.startswith("(") else named(new.prefix, path), why) for path, why in store.problems_of(new.images)]
    return told + new.clashes + [(path, f"read, but the run has it already, as {there}") for path, there in new.already]


def _near(new: "New") -> dict[str, Any]:
    """Near-duplicates among the new pictures; of the run's no pixels are there to compare them with."""
    if not new.fresh:
        return {}
    images = new.images[new.fresh]
    return duplicates(images, small(images), new.rows_MD)


def _joined(old: dict[str, Any], found: dict[str, Any], n: int) -> dict[str, Any]:
    """Both as `duplicates` tells them; the new ones' ids follow the first `n`."""
    if not found.get("extra"):
        return old
    groups = [*old.get("largest", []), *([n + i for i in group[:OF_EACH]] for group in found["largest"])]
    largest = sorted(groups, key=lambda group: (-len(group), group[0]))[:TOLD]
    return old | {"extra": old.get("extra", 0) + found["extra"], "groups": old.get("groups", 0) + found["groups"], "largest": largest}


def _write_pictures(
    run: Path, folder: Path, new: "New", before: Sorted, after: Sorted, near: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Thumbnails: those of the run, and new ones, larger of what the report shows first; as `judge` wants them, too. Attention maps
    stay with their pictures."""
    n, m = len(before.p_NK), len(new.fresh)
    tensors = read_tensors(run / "pictures.safetensors", "id", "offset", "jpeg")
    tiny_of(run / "pictures.safetensors", tensors, n)  # what is handed on is what it should be
    among = np.r_[tensors["id"], np.arange(n, n + m)].astype(np.int64)
    p_NK, labels_N = after.p_NK.numpy(), after.labels_N.numpy()
    chosen = choose(p_NK, labels_N, after.rows_ND.numpy(), among=among)
    wanted = {*chosen.ids.tolist(), *left_out(p_NK, labels_N, among=among), *sum(twins(near), [])}
    fresh = sorted(i for i in wanted if i >= n)
    arrays = new.images.thumbnails([new.fresh[i - n] for i in fresh], store.THUMBNAIL)
    added = pack(fresh, arrays, max(LEAST, BUDGET - len(tensors["jpeg"])))
    rest = sorted({*range(n, n + m)} - {*fresh})
    added |= pack_others(rest, lambda i: new.images.pixels[new.fresh[i - n]].cpu().numpy())
    pictures = behind(tensors, added, "") | behind(tensors, added, "others_")
    if "attention" in tensors and (seen_P := np.isin(tensors["attention_id"], pictures["id"])).any():
        pictures |= {name: np.ascontiguousarray(tensors[name][seen_P]) for name in ("attention_id", "attention")}
        if "attention_rounds" in tensors:
            pictures["attention_rounds"] = np.ascontiguousarray(tensors["attention_rounds"][:, seen_P])
    checkpoint.write(folder / "pictures.safetensors", numpy_bytes(pictures))
    return tiny_of(folder / "pictures.safetensors", pictures, n + m)


def behind(old: dict[str, np.ndarray], new: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Packed pictures of two runs as one; kind: "" or "others_". Nothing where neither has any."""
    id_, offset, jpeg = (f"{kind}{name}" for name in ("id", "offset", "jpeg"))
    some = [one for one in (old, new) if id_ in one]
    if not some:
        return {}
    sizes = np.concatenate([np.diff(one[offset]) for one in some])
    return {id_: np.concatenate([one[id_] for one in some]), offset: np.cumsum([0, *sizes], dtype=np.int64),
            jpeg: np.concatenate([one[jpeg] for one in some])}  # fmt: skip


def _write_config(
    folder: Path, made: dict[str, Any], before: Sorted, after: Sorted, source: dict[str, Any], items: pa.Table, what: dict[str, Any],
    text: str,
) -> None:  # fmt: skip
    old = made["source"]
    before_K, now_K = old.get("skipped", {}), source["skipped"]
    skipped = {kind: before_K.get(kind, 0) + now_K.get(kind, 0) for kind in {**before_K, **now_K}}
    of = {"fingerprint": checkpoint.fingerprint(before.p_NK), "n_images": len(before.p_NK), "n_clusters": before.k}
    made["updates"] = [*made.get("updates", []), {"of": of, "added": what["n_added"], "kinds": after.k - before.k, "told": text}]
    made["source"] = {name: value for name, value in old.items() if name != "path"} | {
        "name": f"{old['name']} + {source['name']}",
        "fingerprint": fingerprint(*(items[name].to_pylist() for name in ("path", "size", "digest"))),
        "n_images": len(after.p_NK),
        "n_duplicates": old.get("n_duplicates", 0) + source["n_duplicates"],
        "skipped": skipped,
        "parts": [*parts(old), source],
    }
    made["settings"]["n_clusters"] = after.k
    if after.k > before.k:
        made.pop("clusters", None)  # how the number was counted, which is another now
        if made["settings"].get("prior"):  # it has a share for each cluster that there was
            made["settings"]["prior"] = ""
    store.write_json(folder, "config.json", made)
