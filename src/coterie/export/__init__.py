"""The result of a run in other shapes, corrections included: pictures in folders, tables, what annotation tools read, one ONNX file.

An original is never moved, changed or deleted, and no file that is already there is overwritten: one with the same content is left as it
is, so an interrupted export is simply repeated; one that differs is an error.
"""

from collections.abc import Callable
from pathlib import Path

from coterie.errors import InputError
from coterie.export import folders, history, sets, tables
from coterie.export.pictures import LINKS, Exported, Places
from coterie.export.result import Result, read_result
from coterie.export.tables import write_csv

__all__ = ["FORMATS", "Exported", "Result", "export", "read_result", "write_csv"]

FORMATS = ("folders", "csv", "parquet", "imagefolder", "coco", "label-studio", "fiftyone", "onnx", "history")


def export(
    run: Path, to: str, dest: Path, source_root: Places = None, link: str = "copy", *,
    edits: bool = True, val: float = 0.2, seed: int = 0,
) -> Exported:  # fmt: skip
    """Write the result of a finished run to `dest`.

    to: `folders` (dest/cluster_00/name.jpg, ...), `csv` or `parquet`; `imagefolder` (the same below dest/train and dest/val), `coco`,
    `label-studio` or `fiftyone` (a folder with the pictures and a json); `onnx` (encoder and head in a file); `history` (how
    the fit went, a .csv or a folder of TensorBoard's events, of an unfinished run too). source_root: where the
    source lies now, when it has moved since the fit; of an updated run where each of its sources does, in their order. link: how pictures
    come to lie there; `copy`, `hard` or `symlink`. edits: with the corrections of edits.jsonl, where there are any; else what the method
    said. val, seed: imagefolder only; the share of each cluster that goes to dest/val, and which.

    Pictures of one name in one folder keep their sub-folder as `sub__name.jpg`; images of arrays become PNG, images of zips and parquet
    files keep their bytes. A picture whose content is not what was fitted is set aside: it may belong into another cluster.
    InputError: no finished run, a source that is not there, a path that leaves it, a `dest` inside the source, files there that differ, an
    unknown `to` or `link`, a `val` outside 0..1.
    """
    if to not in FORMATS:
        raise InputError(f"cannot export to {to!r}; choose {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if link not in LINKS:
        raise InputError(f"there is no link {link!r}; choose {', '.join(LINKS)}")
    if to == "history":
        return history.write(run, dest)
    if not 0 <= val < 1:
        raise InputError(f"--val {val:g}: wanted a share of each cluster, at least 0 and below 1, like 0.2")
    result = read_result(run, edits)
    if to == "onnx":
        from coterie.export.onnx import write_onnx

        return write_onnx(result, dest)
    makers: dict[str, Callable[[], Exported]] = {
        "folders": lambda: folders.by_cluster(result, dest, source_root, link),
        "imagefolder": lambda: folders.split(result, dest, source_root, link, val, seed),
        **{name: lambda name=name: sets.write(name, result, dest, source_root, link) for name in sets.SETS},  # type: ignore[misc]
        **{name: lambda name=name: tables.write(name, result, dest) for name in tables.TABLES},  # type: ignore[misc]
    }
    return makers[to]()
