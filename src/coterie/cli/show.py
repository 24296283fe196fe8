"""The verbs that say what a run is, and how a verb is used."""

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Json, RunFolder, answer, app
from coterie.cli.shown import plain
from coterie.errors import InputError, printable

SCORES = {"acc": "ACC", "nmi": "NMI", "ari": "ARI"}


@app.command()
def show(run: RunFolder, json_: Json = False) -> None:
    """What a run is, how far it came, its health."""
    from coterie import fitting

    found = fitting.show(run)
    answer(found, json_, "" if json_ else "\n".join(printable(plain(line)) for line in _lines(run, found)))


@app.command("help")
def help_(
    context: typer.Context,
    verb: Annotated[str | None, typer.Argument(metavar="[VERB]", help="Any of the verbs.")] = None,
    json_: Json = False,
) -> None:
    """How a verb is used; without one, which there are."""
    root: Any = context.find_root()
    known = root.command.commands
    if verb is not None and verb not in known:
        raise InputError(f"there is no verb {verb!r}; there are {', '.join(sorted(known))}")
    its = root if verb is None else type(context)(known[verb], info_name=verb, parent=root)
    answer({"verb": verb, "verbs": sorted(known), "help": its.get_help()}, json_, its.get_help())


def _lines(run: Path, found: dict[str, Any]) -> list[str]:
    """The same for people."""
    from coterie.report.wording import count, duration

    kinds = f"{found['n_clusters']} clusters" if isinstance(found["n_clusters"], int) else f"clusters: {found['n_clusters']}"
    lines = [f"{found['run']}: {count(found['n_images'], 'picture')} of {found['source']}, {kinds}"]
    seen = "features as given" if found["encoder"] == "precomputed" else f"encoder {found['encoder']} at {found['image_size']} px"
    lines += [f"made by    {found['method']}, preset {found['preset']}, seed {found['seed']}, {seen}"]
    finished = found["state"] == "finished"
    lines += [f"state      {found['state']}" + (f" in {duration(found['seconds'])}; files {found['files']}" if finished else "")]
    if finished:
        sizes = found["sizes"]
        unsure = f"; {found['n_unsure']:,} unsure" if found["n_unsure"] else ""
        lines += [f"sizes      {', '.join(f'{size:,}' for size in sizes[:20])}{', ...' * (len(sizes) > 20)}{unsure}"]
        lines += _added(run)
        if found["n_problems"]:
            lines += [f"set aside  {count(found['n_problems'], 'file')} (problems.csv says why)"]
        lines += [f"verdict    {found['verdict']}"] if found["verdict"] else []
    lines += [f"health     {warning}" for warning in found["health"]] or (["health     nothing to worry about"] if finished else [])
    return [*lines, f"next: coterie report {run}"] if finished else lines


def _added(run: Path) -> list[str]:
    """What was done with a finished run: scores against labels, corrections."""
    from coterie.report.wording import count
    from coterie.run.edits import FILE, edited
    from coterie.run.files import expected, read_json

    lines = []
    if expected(run / "metrics.json"):
        scores = read_json(run / "metrics.json")
        told = ", ".join(f"{name} {scores[key]:.3f}" for key, name in SCORES.items() if key in scores)
        lines += [f"scores     {told}"] if told else []
    if (run / FILE).exists():
        made = edited(run)
        told = f"{count(len(made.applied), 'correction')}, {count(len(made.names), 'cluster')} with a name"
        lines += [f"edits      {told}, {count(int(made.confirmed_N.sum()), 'picture')} confirmed"]
        lines += [f"           cluster {number} is called {name}" for number, name in sorted(made.names.items())]
    return lines
