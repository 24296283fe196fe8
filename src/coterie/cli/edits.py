"""The verb that shows what was corrected in a run, and corrects it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Json, RunFolder, answer, app
from coterie.errors import InputError, printable


@app.command()
def edits(
    run: RunFolder,
    rename: Annotated[list[str] | None, typer.Option(metavar="A=NAME", help="A cluster's name; A= takes it away.")] = None,
    merge: Annotated[list[str] | None, typer.Option(metavar="A,B", help="Clusters that are one; the largest keeps its number.")] = None,
    split: Annotated[list[str] | None, typer.Option(metavar="A[:N]", help="A cluster in 2 or N parts, by the run's hierarchy.")] = None,
    move: Annotated[list[str] | None, typer.Option(metavar="ID,ID=A", help="Pictures into a cluster, =new, or =unsure.")] = None,
    not_a_kind: Annotated[list[int] | None, typer.Option(metavar="A", help="A cluster that is nothing that counts.")] = None,
    confirm: Annotated[list[int] | None, typer.Option(metavar="A", help="A cluster that is right.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Takes the last act back.")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Does the last one again that was taken back.")] = False,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="Moves acts that are damaged, or of another run, apart.")] = False,
    json_: Json = False,
) -> None:
    """What was corrected in RUN. Options correct more, all of a kind together in the order of this list; each may be repeated."""
    from coterie.run import edits as kept

    if set_aside:
        aside, left = kept.set_aside(run)
        told = f"the acts of {run} are as they should be" if aside is None else f"moved to {aside}; {left} acts go on"
        answer({"run": str(run), "moved_to": str(aside) if aside else None, "n_acts": left}, json_, told)
        return
    known = kept.said(run)
    acts: list[Callable[[kept.Edited], kept.Act]] = []

    def later(act: kept.Act) -> None:
        acts.append(lambda now: act)

    for text in rename or []:
        number, name = _pair("--rename", text, "3=cats")
        later({"act": "rename", "cluster": _number("--rename", text, number), "name": name})
    for text in merge or []:
        later({"act": "merge", "clusters": [_number("--merge", text, one) for one in text.split(",")]})
    for text in split or []:
        acts.append(lambda now, text=text: _split(run, now, text))  # type: ignore[misc]
    for text in move or []:
        acts.append(lambda now, text=text: _move(now, text))  # type: ignore[misc]
    for number in not_a_kind or []:
        later({"act": "not_a_kind", "cluster": number})
    for number in confirm or []:
        later({"act": "confirm", "cluster": number})
    for name in ["undo"] * undo + ["redo"] * redo:
        later({"act": name})
    now = kept.edited(known)
    for act in acts:
        now = kept.append(known, act(now), seen=now.n_acts)
    told = _told(run, now, known.cluster_N)
    answer(told, json_, _text(told, now))


def _told(run: Path, now: Any, method_N: Any) -> dict[str, Any]:
    kinds = [
        {
            "cluster": number, "name": now.names.get(number, ""), "size": int((now.cluster_N == number).sum()),
            "confirmed": int(now.confirmed_N[now.cluster_N == number].sum()), "a_kind": number not in now.not_kinds,
        }
        for number in now.clusters
    ]  # fmt: skip
    return {
        "run": str(run), "n_acts": now.n_acts, "acts": now.applied, "undone": now.undone[::-1], "clusters": kinds,
        "n_unsure": int((now.cluster_N < 0).sum()), "n_moved": int((now.cluster_N != method_N).sum()), "remarks": list(now.remarks),
    }  # fmt: skip


def _text(told: dict[str, Any], now: Any) -> str:
    from coterie.run.acts import in_words

    lines = [f"note: {remark}" for remark in now.remarks]
    if not now.n_acts:
        return "\n".join([*lines, f"nothing was corrected in {told['run']}; coterie review {told['run']}"])
    lines += [f"{act['n']:>5}  {act['time'][:16].replace('T', ' ')}  {printable(in_words(act))}" for act in now.applied]
    lines += [f"{act['n']:>5}  taken back        {printable(in_words(act))}" for act in told["undone"]]
    lines += ["", f"{'cluster':>7} {'pictures':>9} {'confirmed':>10}  name"]
    for row in told["clusters"]:
        name = printable(row["name"]) + ("" if row["a_kind"] else " (not a kind)")
        lines.append(f"{row['cluster']:>7} {row['size']:>9,} {row['confirmed']:>10,}  {name.strip()}".rstrip())
    lines.append(f" unsure {told['n_unsure']:>9,}")
    return "\n".join([*lines, f"{told['n_moved']:,} pictures have another cluster than the method gave them"])


def _split(run: Path, now: Any, text: str) -> dict[str, Any]:
    from coterie.fitting.corrected import parts

    cluster, _, number = text.partition(":")
    of, n = _number("--split", text, cluster), _number("--split", text, number or "2")
    return {"act": "split", "cluster": of, "parts": parts(run, now, of, n)}


def _move(now: Any, text: str) -> dict[str, Any]:
    ids, to = _pair("--move", text, "12,40=3, 12,40=new or 12,40=unsure")
    places = {"new": now.following, "unsure": -1}
    cluster = places[to] if to in places else _number("--move", text, to)
    return {"act": "move", "ids": [_number("--move", text, one) for one in ids.split(",")], "cluster": cluster}


def _pair(option: str, text: str, example: str) -> tuple[str, str]:
    before, sign, after = text.partition("=")
    if not sign:
        raise InputError(f"{option} {text}: wanted something like {example}")
    return before, after


def _number(option: str, text: str, word: str) -> int:
    word = word.strip()
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise InputError(f"{option} {text}: {word or 'nothing'} is no number")
    return int(word)
