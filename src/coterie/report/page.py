"""The page: one html file that shows a finished run, opens offline and tells nothing about the disk it came from; the thumbnails of more
than 2,000 pictures lie in a folder beside it."""

import hashlib
from functools import partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coterie.errors import InputError
from coterie.report import purification, reliable, wording
from coterie.report.charts import Lines, Panel, map_height, panels, radius
from coterie.report.colours import colours
from coterie.report.confidence import confidence
from coterie.report.data import CONFIDENT, Cluster, ReportData, Stage, read
from coterie.report.fewer_more import fewer_more
from coterie.report.heads import Heads, compare, loss
from coterie.report.how_many import how_many
from coterie.report.sheets import MOST_IN_ONE, UNSURE_COLOUR, base, data_uri, kinds, page_order, prototypes, script_json, sheets, table
from coterie.report.thumbnails import Picture, overlay
from coterie.report.verdict import verdict
from coterie.report.wording import Veil
from coterie.run.files import write_atomically

METHODS = {"scan": "SCAN", "spice": "SPICE", "deepcluster": "DeepCluster", "pcp": "PCP", "kmeans": "k-means"}
METHODS |= {"temi": "TEMI", "turtle": "TURTLE", "iic": "IIC", "cc": "Contrastive clustering", "pica": "PICA", "sela": "SeLa"}
METHODS |= {"dec": "DEC", "idec": "IDEC"}
METHODS |= {"spectral": "Spectral clustering", "agglomerative": "Agglomerative clustering", "gmm": "Gaussian mixture"}
METHODS |= {"ir": "Instance discrimination", "is": "Invariant and spreading features", "and": "Anchor neighbourhoods", "idfd": "IDFD"}
MOST_COVERS = 60  # clusters above which the overview leaves out its pictures: their sections are short enough to be the overview
MOST_PROBLEMS = 50
PAGE = "page"  # of `files`, the html
TOLD = (
    "health",
    "notes",
    "verdict",
    "evidence",
    "confidence",
    "duplicates",
)  # of environment.json, told elsewhere
SECOND_FROM = 0.05  # probability from which a second cluster is worth naming
OURS = "table-*.js", "pictures-*.js"  # what a page has beside it


class Shown(NamedTuple):
    """One picture on the page; None where the run keeps no thumbnail of it."""

    id: int
    picture: Picture | None
    name: str
    confidence: float
    second: int | None
    second_confidence: float


class Likes(NamedTuple):
    """A picture of a cluster, and the nearest to it: (picture, its cluster, cosine)."""

    shown: Shown
    cluster: int
    typical: bool
    nearest: list[tuple[Shown, int, float]]


def write(run: Path, out: Path | None = None, show_paths: bool = False) -> Path:
    """Write the page of a finished run, by default to report.html in its folder, and, of more than 2,000 pictures, the folder `report`
    beside it (that of `name.html` is `name`); returns where the page is. A reader sees the old page or the whole new one.

    show_paths: tell where the pictures lie: absolute paths, and links to the originals; otherwise only names as they are in the source.
    InputError when the run is not finished or damaged, when `out` is a folder, or when the folder beside it is not one of a page.
    """
    out = out or run / "report.html"
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file, such as {out / 'report.html'}")
    beside = out.with_suffix("") if out.suffix else out.with_name(out.name + "-files")
    made = files(read(run), show_paths, beside.name)
    text = made.pop(PAGE)
    ours = {path for pattern in OURS for path in beside.glob(pattern)} if beside.is_dir() else set()
    if made and beside.exists() and (not beside.is_dir() or set(beside.iterdir()) - ours):
        raise InputError(f"{beside} would hold the pictures of the page, but is something else; move it away, or name another page with -o")
    for name, content in made.items():  # names with a checksum: the old page finds its own until the new one is there
        write_atomically(out.parent / name, partial(Path.write_text, data=content, encoding="utf-8"), durable=False)
    write_atomically(out, lambda new: new.write_text(text, encoding="utf-8"))
    for path in ours - {out.parent / name for name in made}:
        path.unlink()
    return out


def files(data: ReportData, show_paths: bool = False, beside: str = "report", more: str = "") -> dict[str, str]:
    """What the page consists of, by name: PAGE, and of more than 2,000 pictures `<beside>/table-*.js` and `<beside>/pictures-*.js`.

    more: a script of whoever shows the page with more to do; it runs after the page's own (script.js tells what it may build on).
    """
    order_N = page_order(data)
    veil = _veil(data, show_paths)
    told = script_json(table(data, order_N, veil, kinds(data), base(data) if show_paths else ""))
    if len(order_N) <= MOST_IN_ONE:
        return {PAGE: _render(data, veil, order_N, told, [], "", more)}
    parts = sheets(data, order_N)
    key = hashlib.sha256("".join([told, *parts]).encode()).hexdigest()[:8]
    names = [f"{beside}/pictures-{key}-{number:04d}.js" for number in range(len(parts))]
    where = f"{beside}/table-{key}.js"
    made = {PAGE: _render(data, veil, order_N, "", names, where, more), where: f"coterie.table({told})"}
    return made | dict(zip(names, parts))


def page(data: ReportData, show_paths: bool = False) -> str:
    """The html; the same run gives the same text."""
    return files(data, show_paths)[PAGE]


def _veil(data: ReportData, show_paths: bool) -> Veil:
    source = data.config["source"]
    places = [str(part.get("path") or "") for part in (source, *source.get("parts", []))]
    return Veil(None if show_paths else [*places, *(path for path, _ in data.problems)])


def _render(data: ReportData, veil: Veil, order_N: Any, told: str, sheet_names: list[str], table_name: str, more: str) -> str:
    """told: the table, where it is part of the page; else the names of the scripts beside it, the table's and the sheets'."""
    source = data.config["source"]
    palette = colours(max(1, len(data.clusters)))
    template = _environment(veil).get_template("template.html")
    examples = _examples(data, veil)
    return template.render(
        data=data,
        source=source,
        updates=[str(one["told"]) for one in data.config.get("updates", [])],
        title=veil.name(str(source.get("name") or "pictures")),
        method=METHODS.get(str(data.config["method"]), str(data.config["method"])),
        filled=[cluster for cluster in data.clusters if cluster.size],
        empty=[cluster.number for cluster in data.clusters if not cluster.size],
        by_size=sorted(data.clusters, key=lambda cluster: (-cluster.size, cluster.number)),
        left_out=int((data.assigned.labels_N < 0).sum()),
        duplicates=data.environment.get("duplicates") or {},
        unsure=data.unsure,
        left_out_share=float((data.assigned.labels_N < 0).mean()) if len(order_N) else 0.0,
        columns=told,
        table_name=table_name,
        sheet_names=script_json(sheet_names),
        more=more,
        whole=not table_name,
        prototypes=set(prototypes(data).values()),
        store=[] if table_name else _store(data, order_N, veil),
        open_veil=veil.open,
        map_height=map_height(data.map.xy),
        sure=confidence(data.environment),
        confidence=float(data.assigned.confidence_N.mean()) if len(data.assigned.confidence_N) else 0.0,
        confident_from=CONFIDENT,
        names=data.names,
        shares=data.quality.shares if data.quality else {},
        colour=lambda cluster: palette[cluster] if cluster >= 0 else UNSURE_COLOUR,
        verdict=verdict(data.environment),
        counted=how_many(data.config),
        warnings=data.environment.get("health") or [],
        compact=len(data.clusters) > MOST_COVERS,
        covers=lambda cluster: _covers(data, cluster, veil),
        attention=_attention(data, veil),
        rounds=_rounds(data, veil),
        places=next((map_hw.shape[::-1] for map_hw in data.attention.values()), (0, 0)),
        radius=radius(len(data.map.ids)),
        reliable=None if data.reliable_N is None else reliable.compare(data.reliable_N, data.assigned.labels_N, data.map),
        otherwise=fewer_more(data.hierarchy, len(data.clusters)),
        examples=examples,
        compared=len({example.cluster for example in examples}),
        strangers=_strangers,
        starts=_starts(data),
        stages=_stages(data),
        problems=data.problems[:MOST_PROBLEMS],
        skipped=_skipped(source.get("skipped") or {}),
        settings=_flat({key: value for key, value in data.config.items() if key not in ("source", "clusters", "updates")}, veil),
        machine=_flat({key: value for key, value in data.environment.items() if key not in TOLD}, veil),
    )


def _environment(veil: Veil) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": wording.count,
        "percent": wording.percent,
        "accuracy": wording.accuracy,
        "loss": loss,
        "duration": wording.duration,
        "number": wording.number,
        "short": wording.shortened,
        "hide": lambda value: veil.text(value) if isinstance(value, str) else value,
        "name": veil.name,
        "image": data_uri,
    }
    return environment


def _store(data: ReportData, order_N: Any, veil: Veil) -> list[tuple[int, list[Shown]]]:
    """All pictures by cluster, in the order of the page."""
    labels = data.assigned.labels_N[order_N].tolist()
    return [
        (cluster, [_shown(data, i, veil) for _, i in group])
        for cluster, group in groupby(zip(labels, order_N.tolist()), key=lambda pair: pair[0])
    ]


def _covers(data: ReportData, cluster: Cluster, veil: Veil) -> tuple[Shown | None, list[int]]:
    """The picture nearest to the centroid, and the ids of the next ones, which are shown again from further down."""
    ids = data.central.get(cluster.number)
    if len(data.clusters) > MOST_COVERS or not ids:
        return None, []
    return _shown(data, ids[0], veil), ids[1:]


def _attention(data: ReportData, veil: Veil) -> list[tuple[int, list[tuple[Shown, Picture]]]]:
    """By cluster, its central pictures that have a map, and the map."""
    rows = (
        (cluster, [(_shown(data, i, veil), overlay(data.attention[i])) for i in ids if i in data.attention])
        for cluster, ids in data.central.items()
    )
    return [(cluster, row) for cluster, row in rows if row]


def _rounds(data: ReportData, veil: Veil) -> list[tuple[Shown, list[Picture]]]:
    """Of each cluster its most central picture with maps, and these, round by round."""
    first = (next((i for i in ids if i in data.rounds), None) for ids in data.central.values())
    return [(_shown(data, i, veil), [overlay(map_hw) for map_hw in data.rounds[i]]) for i in first if i is not None]


def _examples(data: ReportData, veil: Veil) -> list[Likes]:
    cluster_of = data.assigned.labels_N.tolist()
    return [
        Likes(_shown(data, i, veil), cluster_of[i], typical, [(_shown(data, j, veil), cluster_of[j], cosine) for j, cosine in nearest])
        for i, typical, nearest in data.examples
    ]


def _strangers(examples: list[Likes]) -> tuple[int, int]:
    """How many of the neighbours lie in another cluster than their picture, and how many neighbours there are."""
    elsewhere = [cluster != example.cluster for example in examples for _, cluster, _ in example.nearest]
    return sum(elsewhere), len(elsewhere)


def _starts(data: ReportData) -> list[int]:
    """The first row of each superclass in the confusion."""
    sizes = [n for _, n in data.quality.confusion.superclasses] if data.quality and data.quality.confusion else []
    return list(accumulate(sizes[:-1], initial=0)) if sizes else []


def _stages(data: ReportData) -> list[tuple[Stage, list[Panel], list[Panel], Heads | None, list[Lines]]]:
    """Each stage with its charts; several heads have charts of their own, the accuracy of a single one is a panel like the others."""
    stages, before = [], None
    for stage in data.stages:
        accuracies = data.quality.curves.get(stage.name, []) if data.quality else []
        heads = compare(stage, accuracies)
        single = [] if heads else [(epoch, row[0]) for epoch, row in accuracies]
        pure = purification.charts(stage.name, data.quality.purity if data.quality else [])
        stages.append((stage, *panels(stage, _trained(data), single, before), heads, pure))
        before = heads.chosen if heads else single[-1][1] if single else None
    return stages


def _trained(data: ReportData) -> int:
    """How many clusters the training had; a run that was recut or refined may have others now."""
    made = data.config.get("recut") or data.config.get("refine")
    trained = made.get("trained") if isinstance(made, dict) else None
    return trained if type(trained) is int and trained > 0 else len(data.clusters)


def _shown(data: ReportData, i: int, veil: Veil) -> Shown:
    assigned = data.assigned
    second_confidence = float(assigned.second_confidence_N[i])
    second = int(assigned.second_N[i]) if second_confidence >= SECOND_FROM else None
    name = wording.shortened(veil.name(assigned.paths[i]))
    return Shown(i, data.pictures.get(i), name, float(assigned.confidence_N[i]), second, second_confidence)


def _skipped(skipped: dict[str, Any]) -> list[str]:
    names = {"raw": "raw file"}
    return [wording.count(int(n), names.get(kind, kind)) for kind, n in sorted(skipped.items()) if int(n)]


def _flat(tree: dict[str, Any], veil: Veil, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows `outer.inner`, in their own order."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            rows += _flat(value, veil, f"{prefix}{key}.")
        else:
            items = value if isinstance(value, list) else [value]
            rows.append((f"{prefix}{key}", ", ".join(veil.text("none" if item is None else str(item)) for item in items)))
    return rows
