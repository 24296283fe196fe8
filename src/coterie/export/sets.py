"""What annotation tools and training programs read: a folder with the pictures, and a json of their kinds.

    coco           dest/images, dest/annotations.json    a category for each cluster, an annotation of the whole picture for each picture
    label-studio   dest/images, dest/tasks.json          a task with a prediction for each picture; labels.xml: the labelling interface
    fiftyone       dest/data, dest/labels.json           a FiftyOneImageClassificationDataset

A picture of no cluster is there without an annotation. Formats: cocodataset.org (data format), labelstud.io (predictions),
docs.voxel51.com (FiftyOneImageClassificationDataset).
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from coterie.errors import InputError
from coterie.export.pictures import Exported, Placed, Places, find, put, refuse_other, write_once
from coterie.export.result import Result
from coterie.run.files import read_json


def write(to: str, result: Result, dest: Path, source_root: Places, link: str) -> Exported:
    """The pictures that are what was fitted, and the files that tell their kinds."""
    folder, make = SETS[to]
    placed, aside = find(result, dest, [dest / folder] * len(result.table), source_root, link, stems=True)
    told = make(result, placed)
    for name, content in told.items():  # before any picture, so that nothing is written where another set lies
        refuse_other(dest / name, content)
    there = put(placed, link, aside)
    for name, content in (told if len(there) == len(placed) else make(result, there)).items():
        write_once(dest / name, content)
    return Exported(len(there), aside)


def coco(result: Result, placed: Sequence[Placed]) -> dict[str, bytes]:
    """annotations.json. Categories are numbered from 1, as COCO does; `cluster` is ours, and so is `score`, the confidence. Width and
    height are of the picture as it is shown, upright."""
    from coterie.images.decode import Unreadable, shown_size

    number = {cluster: i for i, cluster in enumerate(result.held, 1)}
    images, annotations = [], []
    confidence = result.table["confidence"].to_pylist()
    for one in placed:
        try:
            width, height = shown_size(one.original.read())
        except Unreadable as error:  # of a run that kept no digests
            raise InputError(f"{one.original.path} can no longer be read: {error}") from error
        images.append({"id": one.row + 1, "file_name": one.target.name, "width": width, "height": height})
        cluster = int(result.cluster_N[one.row])
        if cluster >= 0:
            box = {"bbox": [0, 0, width, height], "area": width * height, "segmentation": [], "iscrowd": 0}
            told = {"id": one.row + 1, "image_id": one.row + 1, "category_id": number[cluster], "score": _rounded(confidence[one.row])}
            annotations.append(told | box)
    categories = [{"id": i, "name": result.name(c), "supercategory": "", "cluster": c} for c, i in number.items()]
    info = {"description": f"clusters by coterie ({_method(result)}); no label was seen"}
    return {
        "annotations.json": _json({"info": info, "licenses": [], "categories": categories, "images": images, "annotations": annotations})
    }


def label_studio(result: Result, placed: Sequence[Placed]) -> dict[str, bytes]:
    """tasks.json and labels.xml. Pictures are named as Label Studio's local storage serves them, from `dest` as its document root."""
    paths, confidence = result.table["path"].to_pylist(), result.table["confidence"].to_pylist()
    tasks = []
    for one in placed:
        cluster = int(result.cluster_N[one.row])
        task: dict[str, Any] = {
            "data": {
                "image": f"/data/local-files/?d=images/{quote(os.fsencode(one.target.name))}",
                "path": paths[one.row],
                "cluster": cluster,
            }
        }
        if cluster >= 0:
            choice = {"from_name": "kind", "to_name": "image", "type": "choices", "value": {"choices": [result.name(cluster)]}}
            task["predictions"] = [
                {"model_version": f"coterie {_method(result)}", "score": _rounded(confidence[one.row]),
                 "result": [{"id": f"kind-{one.row}"} | choice]}
            ]  # fmt: skip
        tasks.append(task)
    choices = "".join(f"    <Choice value={quoteattr(result.name(cluster))}/>\n" for cluster in result.held)
    view = f'<View>\n  <Image name="image" value="$image"/>\n  <Choices name="kind" toName="image">\n{choices}  </Choices>\n</View>\n'
    return {"tasks.json": _json(tasks), "labels.xml": view.encode()}


def fiftyone(result: Result, placed: Sequence[Placed]) -> dict[str, bytes]:
    """labels.json: classes, and of each picture (its name without the ending) the class and the confidence, null for one of no cluster."""
    number = {cluster: i for i, cluster in enumerate(result.held)}
    confidence, labels = result.table["confidence"].to_pylist(), {}
    for one in placed:
        cluster = int(result.cluster_N[one.row])
        told = {"label": number.get(cluster), "confidence": _rounded(confidence[one.row])}
        labels[one.target.stem] = told if cluster >= 0 else None
    return {"labels.json": _json({"classes": [result.name(cluster) for cluster in number], "labels": labels})}


Make = Callable[[Result, Sequence[Placed]], dict[str, bytes]]
SETS: dict[str, tuple[str, Make]] = {
    "coco": ("images", coco), "label-studio": ("images", label_studio), "fiftyone": ("data", fiftyone),
}  # fmt: skip


def _method(result: Result) -> str:
    return str(read_json(result.run / "config.json", method=str)["method"])


def _rounded(confidence: float) -> float:
    return float(f"{min(confidence, 1.0):.7g}")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
