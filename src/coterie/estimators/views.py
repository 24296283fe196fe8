"""How a fitted estimator looks: as a data frame, as plots, in a notebook. Corrections of its run are in all of them unless left out.

pandas and matplotlib are asked for only here: pip install 'coterie[notebook]'. `model` is a fitted ImageClusterer.
"""

import base64
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from coterie.errors import InputError
from coterie.export import Result, read_result
from coterie.report.colours import colours
from coterie.report.layout import read_map
from coterie.report.thumbnails import Picture, pixels, shrunk, unpack
from coterie.run.files import damaged, read_features, read_tensors

if TYPE_CHECKING:
    from coterie.estimators.clusterer import ImageClusterer

MOST_KINDS = 24  # in a notebook; the others are counted
MOST_ROWS = 40  # of a plot
SHOWN = 6  # pictures of a kind in a notebook
SMALL = 56  # px of these
NAMED = 20  # clusters up to which a map has a legend


def frame(model: "ImageClusterer", edits: bool = True) -> Any:
    """A pandas data frame with a row for each item that was passed: path; cluster, -1 unsure or unreadable; name, as a person called it,
    else by its number; confidence, NaN where unreadable; unsure, true for what was read and is in no cluster. InputError without pandas."""
    check_is_fitted(model)
    pandas = _package("pandas", "frame()")
    result, ids = read_result(model._folder, edits), model.ids_
    readable = ids >= 0
    cluster = np.where(readable, result.cluster_N[np.maximum(ids, 0)] if len(result.cluster_N) else -1, -1)
    confidence_N = result.table["confidence"].to_numpy()
    confidence = np.where(readable, confidence_N[np.maximum(ids, 0)], np.nan).astype(np.float32)
    name = [result.name(c) if there else None for c, there in zip(cluster.tolist(), readable.tolist())]
    columns = {"path": model.paths_, "cluster": cluster, "name": name, "confidence": confidence, "unsure": readable & (cluster < 0)}
    return pandas.DataFrame(columns)


def plot_map(model: "ImageClusterer", ax: Any = None, edits: bool = True) -> Any:
    """The pictures as the report's map places them, a colour for each cluster, grey for unsure ones; on `ax`, else on new axes. The first
    time takes as long as the first report. InputError without matplotlib."""
    check_is_fitted(model)
    plots = _package("matplotlib.pyplot", "plot_map()")
    result, pictures = read_result(model._folder, edits), _pictures(model._folder)
    features_ND = read_features(model._folder, len(result.cluster_N))
    places = read_map(model._folder, features_ND, np.asarray(sorted(pictures), np.int64))
    axes = plots.subplots(figsize=(7, 7))[1] if ax is None else ax
    cluster_M = result.cluster_N[places.ids]
    held = result.held
    for cluster, colour in zip([-1, *held], ["#8a8a8a", *colours(max(1, len(held)))]):
        xy = places.xy[cluster_M == cluster]
        if len(xy):
            axes.scatter(xy[:, 0], xy[:, 1], s=9, color=colour, linewidths=0, label=result.name(cluster))
    axes.set_aspect("equal")
    axes.set_axis_off()
    if len(held) <= NAMED:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=2)
    return axes


def plot_kinds(model: "ImageClusterer", n: int = 8, edits: bool = True) -> Any:
    """A row for each cluster, the 40 largest of more: name, size, and its `n` surest pictures of those that the run keeps small. InputError
    without matplotlib, and of a run on features, which has no pictures."""
    check_is_fitted(model)
    plots = _package("matplotlib.pyplot", "plot_kinds()")
    if n < 1:
        raise InputError(f"n = {n}; at least 1 picture of a kind is needed")
    result, pictures = read_result(model._folder, edits), _pictures(model._folder)
    if not pictures:
        raise InputError("plot_kinds() wants pictures; this model was fitted on features, and its run keeps none")
    kinds = _kinds(result, MOST_ROWS)
    figure, axes = plots.subplots(max(1, len(kinds)), n, figsize=(n, 1.15 * max(1, len(kinds))), squeeze=False)
    for row, (cluster, size) in zip(axes, kinds):
        for place, i in zip(row, _surest(result, cluster, pictures, n)):
            place.imshow(_checked(model._folder, pixels, pictures[i], 192))
        row[0].set_title(f"{result.name(cluster)}  ({size:,})", loc="left", fontsize=9)
    for place in axes.flat:
        place.set_axis_off()
    return figure


def html(model: "ImageClusterer") -> str:
    """The kinds at a glance: of each of the 24 largest its name, size, mean confidence and a few small pictures, all in the text itself."""
    result, pictures = read_result(model._folder), _pictures(model._folder)
    confidence_N = result.table["confidence"].to_numpy()
    kinds = _kinds(result, MOST_KINDS)
    unsure, more = int((result.cluster_N < 0).sum()), len(result.held) - len(kinds)
    head = f"{len(result.cluster_N):,} pictures in {len(result.held):,} clusters" + (f", {unsure:,} unsure" if unsure else "")
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(result.name(cluster))}<td>{size:,}'
        f"<td>{float(confidence_N[result.cluster_N == cluster].mean()):.2f}"
        f'<td style="text-align:left">{"".join(_image(model._folder, pictures[i]) for i in _surest(result, cluster, pictures, SHOWN))}'
        for cluster, size in kinds
    )
    left = f"<p>and {more:,} smaller clusters</p>" if more else ""
    return (
        f"<div><p><b>{escape(type(model).__name__)}</b>: {head}. {escape(model.verdict_)}</p>"
        f"<table><tr><th>kind<th>pictures<th>confidence<th>{rows}</table>{left}</div>"
    )


def _kinds(result: Result, most: int) -> list[tuple[int, int]]:
    """(cluster, size) of the largest clusters, the largest first."""
    found = [(cluster, int((result.cluster_N == cluster).sum())) for cluster in result.held]
    return sorted(found, key=lambda one: (-one[1], one[0]))[:most]


def _surest(result: Result, cluster: int, pictures: dict[int, Picture], n: int) -> list[int]:
    """Ids of the n most confident of a cluster that have a small picture."""
    confidence_N = result.table["confidence"].to_numpy()
    ids = [i for i in np.flatnonzero(result.cluster_N == cluster).tolist() if i in pictures]
    return sorted(ids, key=lambda i: (-confidence_N[i], i))[:n]


def _pictures(folder: Path) -> dict[int, Picture]:
    return _checked(folder, unpack, read_tensors(folder / "pictures.safetensors", "id", "offset", "jpeg"))


def _image(folder: Path, picture: Picture) -> str:
    small = _checked(folder, shrunk, picture, SMALL)
    return f'<img alt="" style="margin:0 2px 0 0" src="data:{small.mime};base64,{base64.b64encode(small.data).decode()}">'


def _checked(folder: Path, make: Any, *given: Any) -> Any:
    try:
        return make(*given)
    except ValueError as error:
        raise damaged(folder / "pictures.safetensors", f"is damaged: {error}") from error


def _package(name: str, who: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"{who} wants {name.split('.')[0]}: pip install 'coterie[notebook]'") from None
