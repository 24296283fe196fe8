"""The comparison as a page: one html file without an outside address, that opens offline. Names of pictures, no place on the disk."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from coterie.compare.agreement import Moved, Pair, called, pair
from coterie.compare.runs import Sorting, told
from coterie.errors import InputError
from coterie.report.thumbnails import Picture, unpack
from coterie.report.wording import Veil, count, percent, shortened
from coterie.run.files import damaged, read_tensors, write_atomically

MOST_MOVES = 24  # of one pair of runs that the page shows
MOST_PICTURES = 8  # of one move
COLUMNS = (
    ("clusters", "n_clusters", "d"), ("unsure", "n_unsure", "d"), ("corrections", "corrections", "d"), ("confidence", "confidence", "f"),
    ("agreement", "agreement", "f"), ("stability", "stability", "f"), ("score", "score", "f"),
    ("ACC", "acc", "f"), ("NMI", "nmi", "f"), ("ARI", "ari", "f"), ("warnings", "n_warnings", "d"), ("seconds", "seconds", "s"),
)  # fmt: skip
STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1e;--soft:#5a5a5f;--ground:#fff;--line:#d8d8dc}
@media(prefers-color-scheme:dark){:root{--ink:#f0f0f2;--soft:#b4b4ba;--ground:#161618;--line:#3a3a3e}}
body{margin:0 auto;max-width:70rem;padding:1.5rem 1rem 4rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground)}
h1{font-size:1.7rem;margin:.5rem 0}h2{font-size:1.25rem;margin:2.5rem 0 .5rem}
h3{font-size:1rem;margin:.8rem 0 .2rem}p,small{color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);text-align:right;vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left}td.said{text-align:left;white-space:normal;min-width:16rem}
.row{display:flex;flex-wrap:wrap;gap:.4rem;margin:.3rem 0 1rem}figure{margin:0;width:6rem}
figure img{width:6rem;height:6rem;object-fit:cover;border-radius:4px;background:var(--line)}
figcaption{font-size:.75rem;color:var(--soft);overflow-wrap:anywhere}
"""


def write(runs: Sequence[Sorting], out: Path) -> Path:
    """Writes the page, whole or not at all; returns where. InputError when `out` is a folder, or a run is damaged."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file, such as {out / 'compare.html'}")
    text = page(runs)
    write_atomically(out, lambda new: new.write_text(text, encoding="utf-8"))
    return out


def page(runs: Sequence[Sorting]) -> str:
    """The html; the same runs give the same text."""
    first, *others = runs
    known = [told(one) for one in runs]
    sections = [_section(first, other, pair(first, other)) for other in others]
    verdicts = "".join(
        f'<tr><td>{escape(called(one.run))}<td class="said">{escape(Veil([]).text(row["verdict"]) or "none")}'
        for one, row in zip(runs, known)
    )
    title = "Runs side by side"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f'<div class="wide" tabindex="0">{_table(runs, known)}</div>'
        f'<div class="wide" tabindex="0"><table><tr><th>run<th style="text-align:left">verdict'
        f"{verdicts}</table></div>{_matrix(runs)}{''.join(sections)}</main></body></html>\n"
    )


def shown(value: Any, kind: str) -> str:
    """A number as the tables show it; a dash for one that is not known."""
    if value is None:
        return "-"
    return f"{value:,}" if kind == "d" else f"{value:.3f}" if kind == "f" else f"{value:,.1f}"


def columns(known: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(title, key, kind) of the numbers that any of the runs has."""
    return [column for column in COLUMNS if any(row[column[1]] not in (None, 0) for row in known)]


def _table(runs: Sequence[Sorting], known: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{title}" for title, _, _ in columns(known))
    rows = (
        f"<tr><td>{escape(called(one.run))}<td>{escape(row['method'])}<td>{row['n_images']:,}"
        + "".join(f"<td>{shown(row[key], kind)}" for _, key, kind in columns(known))
        for one, row in zip(runs, known)
    )
    return f"<table><tr><th>run<th>method<th>pictures{head}{''.join(rows)}</table>"


def _matrix(runs: Sequence[Sorting]) -> str:
    """ARI of each two of three runs or more."""
    if len(runs) < 3:
        return ""
    head = "".join(f"<th>{escape(called(one.run))}" for one in runs)
    rows = "".join(
        f"<tr><th>{escape(called(one.run))}" + "".join(f"<td>{'' if one is other else shown(pair(one, other).ari, 'f')}" for other in runs)
        for one in runs
    )
    return f'<h2>Agreement of each two (ARI)</h2><div class="wide" tabindex="0"><table><tr><th>{head}{rows}</table></div>'


def _section(first: Sorting, other: Sorting, both: Pair) -> str:
    a, b = escape(called(first.run)), escape(called(other.run))
    text = f"<h2>From {a} to {b}</h2><p>{escape(sentence(both))}</p>"
    pictures = _pictures(first)
    for move in both.moves[:MOST_MOVES]:
        text += f"<h3>{count(len(move.rows_M), 'picture')}: {escape(in_words(first, other, both, move))}</h3>{_row(first, move, pictures)}"
    left = both.moves[MOST_MOVES:]
    more = sum(len(move.rows_M) for move in left)
    return text + (f"<p>And {count(more, 'picture')} in {count(len(left), 'smaller move')}.</p>" if left else "")


def sentence(both: Pair) -> str:
    """How far two runs agree, in words."""
    if both.stay != both.stay:  # NaN
        return f"{count(both.n_shared, 'picture')} in both, none of them in a cluster of both."
    text = f"{count(both.n_shared, 'picture')} in both; {percent(both.stay)} of those in clusters stay, {both.n_moved:,} moved. "
    text += f"ARI {both.ari:.3f}, NMI {both.nmi:.3f}."
    text += f" Unsure: {both.unsure[0]:,} before, {both.unsure[1]:,} after." if any(both.unsure) else ""
    return text + (f" Left out, as the other run does not have them: {both.only[0]:,} and {both.only[1]:,}." if any(both.only) else "")


def in_words(first: Sorting, other: Sorting, both: Pair, move: Moved) -> str:
    """From where to where, by the names that the runs use, and what the place is in terms of the first."""
    to = other.result.name(move.to)
    if move.to >= 0:
        partner = both.partner.get(move.to)
        to += " (new)" if partner is None else f" (that is {first.result.name(partner)})" if first.result.name(partner) != to else ""
    return f"{first.result.name(move.from_)} \u2192 {to}"


def _row(first: Sorting, move: Moved, pictures: dict[int, Picture]) -> str:
    ids = [i for i in move.rows_M.tolist() if i in pictures][:MOST_PICTURES]
    veil = Veil([])
    figures = "".join(
        f'<figure><img alt="" loading="lazy" src="data:{pictures[i].mime};base64,{base64.b64encode(pictures[i].data).decode()}">'
        f"<figcaption>{escape(shortened(veil.name(first.paths[i]), 40))}</figcaption></figure>"
        for i in ids
    )
    names = ", ".join(escape(shortened(veil.name(first.paths[i]), 60)) for i in move.rows_M.tolist()[:MOST_PICTURES])
    return f'<div class="row">{figures}</div>' if figures else f"<p>{names}</p>"


def _pictures(one: Sorting) -> dict[int, Picture]:
    path = one.run / "pictures.safetensors"
    try:
        return unpack(read_tensors(path, "id", "offset", "jpeg"))
    except InputError:
        raise
    except ValueError as error:
        raise damaged(path, f"is damaged: {error}") from error
