"""Pictures in folders that are called like their clusters: one folder for each, or the same twice, to train on and to try on."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from coterie.errors import InputError
from coterie.export.pictures import Exported, Places, digests_of, find, put
from coterie.export.result import UNSURE, Result
from coterie.run.disk import make_folder
from coterie.run.files import read_json

NOT_IN_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')  # what a path, or another system's file names, cannot hold
LONGEST = 100  # bytes of a folder's name
TRAIN, VAL = "train", "val"


def by_cluster(result: Result, dest: Path, source_root: Places, link: str) -> Exported:
    """dest/<name of the cluster>/<picture>, and dest/unsure for those of no cluster."""
    called = folder_names(result)
    return _export(result, dest, [dest / called[cluster] for cluster in result.cluster_N.tolist()], source_root, link)


def split(result: Result, dest: Path, source_root: Places, link: str, val: float, seed: int) -> Exported:
    """dest/train/<name>/<picture> and dest/val/<name>/<picture>, as torchvision's ImageFolder reads them; pictures of no cluster are set
    aside. Every cluster has both folders, so that the classes of both have the same numbers."""
    called = folder_names(result)
    clusters = result.cluster_N.tolist()
    source = read_json(result.run / "config.json", source=dict)["source"]
    sides = sides_of(clusters, digests_of(result.run, source, bool(source_root), result.table), result.table["path"].to_pylist(), val, seed)
    done = _export(result, dest, [None if side is None else dest / side / called[c] for c, side in zip(clusters, sides)], source_root, link)
    for cluster in result.held:
        for side in (TRAIN, VAL) if val else (TRAIN,):
            make_folder(dest / side / called[cluster])
    unsure = [(path, "is in no cluster") for path, cluster in zip(result.table["path"].to_pylist(), clusters) if cluster < 0]
    return Exported(done.n_images, done.aside + unsure)


def sides_of(clusters: Sequence[int], digests: Sequence[str], paths: Sequence[str], val: float, seed: int) -> list[str | None]:
    """train or val for each picture, None for one of no cluster.

    Of each cluster of n pictures the share `val`, rounded, but at least one and never all, goes to val: those whose hash of (seed, content)
    is smallest. So copies of one picture stay together, where that leaves any in train, and a picture mostly keeps its side when others
    come, go or move.
    """
    keys = [hashlib.sha256(f"{seed} {digest or path}".encode()).digest() for digest, path in zip(digests, paths)]
    sides: list[str | None] = [None if cluster < 0 else TRAIN for cluster in clusters]
    members: dict[int, list[int]] = {}
    for i, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(i)
    for cluster, rows in members.items():
        if cluster < 0 or not val:
            continue
        groups: dict[bytes, list[int]] = {}
        for i in rows:
            groups.setdefault(keys[i], []).append(i)
        wanted, taken = max(1, round(val * len(rows))), 0
        for key in sorted(groups)[:-1]:  # the last group stays in train
            if taken >= wanted:
                break
            taken += len(groups[key])
            for i in groups[key]:
                sides[i] = VAL
    return sides


def folder_names(result: Result) -> dict[int, str]:
    """A name that can be a folder's for each cluster, and for -1; no two alike, whatever the case of their letters."""
    found, taken = {-1: UNSURE}, {UNSURE}
    for cluster, name in result.names.items():
        plain = NOT_IN_NAMES.sub("_", name).strip(" .")
        plain = plain.encode()[:LONGEST].decode(errors="ignore").strip(" .") or f"cluster_{cluster:02d}"
        while plain.casefold() in taken:
            plain = f"{plain}_{cluster}"
        taken.add(plain.casefold())
        found[cluster] = plain
    return found


def _export(result: Result, dest: Path, folders: Sequence[Path | None], source_root: Places, link: str) -> Exported:
    if not any(folder is not None for folder in folders):
        raise InputError(f"no picture of {result.run} is in a cluster: there is nothing to export")
    placed, aside = find(result, dest, folders, source_root, link)
    return Exported(len(put(placed, link, aside)), aside)
