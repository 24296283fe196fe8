"""The verb that puts runs side by side."""

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Json, answer, app
from coterie.cli.shown import plain
from coterie.errors import InputError, printable

MOST_MOVES = 10  # of two runs that are told on the terminal
EXAMPLES = 5  # paths of each move in --json


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN1 RUN2 ...", help="Folders of finished runs; each is compared with the first.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="A page, with pictures of what moved.")] = None,
    edits: Annotated[bool, typer.Option("--with-edits/--without-edits", help="What a person corrected, or what the method said.")] = True,
    json_: Json = False,
) -> None:
    """Runs of the same pictures: how far they agree, what moved, what is known of each."""
    if len(runs) < 2:
        raise InputError("compare wants two runs or more: coterie compare RUN1 RUN2")
    from itertools import combinations

    from coterie import compare as side_by_side
    from coterie.compare.page import columns, in_words, sentence, shown

    sortings = [side_by_side.read(run, edits) for run in runs]
    known = [side_by_side.told(one) for one in sortings]
    pairs = {(i, j): side_by_side.pair(sortings[i], sortings[j]) for i, j in combinations(range(len(runs)), 2)}
    if output is not None:
        side_by_side.write(sortings, output)
    titles = ["run", "method", "pictures", *(title for title, _, _ in columns(known))]
    table = [
        [row["run"], row["method"], f"{row['n_images']:,}", *(shown(row[key], kind) for _, key, kind in columns(known))] for row in known
    ]
    lines = _aligned([titles, *table])
    for (i, j), both in pairs.items():
        lines += ["", f"{runs[i]} -> {runs[j]}: {sentence(both)}"]
        if i == 0:
            lines += [f"{len(move.rows_M):>8,}  {in_words(sortings[i], sortings[j], both, move)}" for move in both.moves[:MOST_MOVES]]
            lines += [f"          and {len(both.moves) - MOST_MOVES} smaller moves"] if len(both.moves) > MOST_MOVES else []
    lines += [f"written to {output}"] if output is not None else []
    done = {"runs": known, "pairs": [_plain(sortings[i], i, j, both) for (i, j), both in pairs.items()]}
    answer(done | ({"page": str(output)} if output else {}), json_, "\n".join(printable(plain(line)) for line in lines))


def _plain(one: Any, i: int, j: int, both: Any) -> dict[str, Any]:
    """A pair of runs as JSON has it; NaN, where no picture is in a cluster of both, is null."""
    moves = [
        {"from": move.from_, "to": move.to, "n": len(move.rows_M), "paths": [one.paths[row] for row in move.rows_M[:EXAMPLES]]}
        for move in both.moves
    ]
    numbers = {name: None if value != value else value for name, value in (("ari", both.ari), ("nmi", both.nmi), ("stay", both.stay))}
    told = {"a": i, "b": j, "n_shared": both.n_shared, "n_only": list(both.only), "n_unsure": list(both.unsure), **numbers}
    return told | {"n_moved": both.n_moved, "partner": {str(b): a for b, a in sorted(both.partner.items())}, "moves": moves}


def _aligned(rows: list[list[str]]) -> list[str]:
    """A table for the terminal: the first two columns to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip() for row in rows]
