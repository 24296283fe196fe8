"""What the script of the page knows of each picture, as one table, and the thumbnails of many pictures, in sheets of 200.

The table and the sheets are scripts that call `coterie`: a page opened from a folder may load those, and nothing else.
N images.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from coterie.report.colours import colours
from coterie.report.confidence import confidence
from coterie.report.data import ReportData
from coterie.report.thumbnails import Picture
from coterie.report.wording import Veil

MOST_IN_ONE = 2_000  # pictures of a page that is one file
UNSURE_COLOUR = "#8a8a8a"
PER_SHEET = 200  # pictures that are loaded together: about 0.6 MB


def page_order(data: ReportData) -> np.ndarray:
    """All ids: by cluster, those in none last; in each its prototype, then the most confident, those equally so (to 0.01) by closeness to
    its mean."""
    labels_N, confidence_N = data.assigned.labels_N, data.assigned.confidence_N
    last_N = np.where(labels_N < 0, len(data.clusters), labels_N)
    other_N = ~np.isin(np.arange(len(labels_N)), list(prototypes(data).values()))
    return np.lexsort((np.arange(len(labels_N)), -data.closeness_N, -confidence_N.round(2), other_N, last_N))


def prototypes(data: ReportData) -> dict[int, int]:
    """The prototype of each cluster that has one."""
    return {c.number: c.picks.prototype for c in data.clusters if c.picks.prototype is not None}


def table(data: ReportData, order_N: np.ndarray, veil: Veil, kinds: list[dict[str, Any]], base: str) -> dict[str, Any]:
    """Columns in the order of `order_N`: confidences and closeness in thousandths, places in ten-thousandths, `near` ids.

    kinds: as the page shows them; base: where the originals lie, "" where that is not told.
    """
    assigned = data.assigned
    xy_N2 = np.full((len(order_N), 2), -1.0)
    xy_N2[data.map.ids] = data.map.xy
    group_of = {i: number for number, group in enumerate(data.alike) for i in group}
    return {
        "kinds": kinds,
        "base": base,
        "id": order_N.tolist(),
        "name": [veil.name(assigned.paths[i]) for i in order_N.tolist()],
        "kind": assigned.labels_N[order_N].tolist(),
        "confidence": _thousandths(assigned.confidence_N[order_N]),
        "second": assigned.second_N[order_N].tolist(),
        "likely": _thousandths(assigned.second_confidence_N[order_N].clip(min=0)),
        "close": _thousandths(data.closeness_N[order_N]),
        "x": (xy_N2[order_N, 0] * 10_000).round().astype(int).tolist(),
        "y": (xy_N2[order_N, 1] * 10_000).round().astype(int).tolist(),
        "near": data.near_NL[order_N].tolist(),
        "twins": {str(row): group_of[i] for row, i in enumerate(order_N.tolist()) if i in group_of},
    }


def base(data: ReportData) -> str:
    """The address of the folder that the paths of a run begin in; "" where they are no files."""
    source = data.config["source"]
    path = Path(str(source.get("path") or ""))
    if source.get("kind") not in ("folder", "list") or not path.is_absolute():
        return ""
    return (path if source["kind"] == "folder" else path.parent).as_uri() + "/"


def kinds(data: ReportData) -> list[dict[str, Any]]:
    """Those with pictures, as the script of the page has them; -1, the unsure, last."""
    names, told = data.names, confidence(data.environment).clusters
    palette, marked = colours(max(1, len(data.clusters))), prototypes(data)
    found = [
        {
            "number": c.number,
            "name": names.get(c.number, ""),
            "colour": palette[c.number],
            "told": told.get(c.number, ""),
            "prototype": marked.get(c.number),
        }
        for c in data.clusters
        if c.size
    ]
    unsure = {
        "number": -1,
        "name": "",
        "colour": UNSURE_COLOUR,
        "told": "in no cluster: too little tells where they belong",
        "prototype": None,
    }
    return found + [unsure] * bool((data.assigned.labels_N < 0).any())


def sheets(data: ReportData, order_N: np.ndarray) -> list[str]:
    """The thumbnails in that order, 200 a sheet; an empty text where the run keeps none."""
    uris = [data_uri(data.pictures[i]) if i in data.pictures else "" for i in order_N.tolist()]
    parts = [uris[start : start + PER_SHEET] for start in range(0, len(uris), PER_SHEET)]
    return [f"coterie.sheet({number},{script_json(part)})" for number, part in enumerate(parts)]


def data_uri(picture: Picture) -> str:
    return f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode('ascii')}"


def script_json(value: Any) -> str:
    """JSON that may stand in a script of a page: no markup can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _thousandths(share_N: np.ndarray) -> list[int]:
    return (share_N * 1000).round().astype(int).tolist()
