"""The verbs that learn from what a person corrected, and ask for more of it."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Json, RunFolder, answer, app
from coterie.errors import printable


@app.command()
def refine(
    run: RunFolder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN2", help="The run folder to make; RUN stays as it is.")],
    json_: Json = False,
) -> None:
    """A run that has learned from the corrections of RUN, in seconds."""
    started = time.monotonic()
    from coterie import fitting
    from coterie.fitting.refine import in_words
    from coterie.fitting.refine import refine as make

    done = make(run, output)
    shown = fitting.summary(output)
    told: dict[str, Any] = done | {name: shown[name] for name in ("method", "n_images", "sizes", "health", "verdict")}
    told["seconds"] = round(time.monotonic() - started, 2)
    text = f"{run} as it was corrected is {done['n_clusters']} clusters in {output}, {told['seconds']:.1f} s\n"
    text += "".join(f"{line}\n" for line in in_words(done)) + (f"verdict: {told['verdict']}\n" if told["verdict"] else "")
    answer(told, json_, text + f"next: coterie report {output}" + "".join(f"\nhealth: {warning}" for warning in told["health"]))


@app.command()
def ask(
    run: RunFolder,
    n: Annotated[int, typer.Option("--n", metavar="N", help="How many pictures.")] = 20,
    json_: Json = False,
) -> None:
    """The pictures of RUN whose kinds would tell most of all others, if a person said them."""
    from coterie.fitting.asking import ask as asked

    found = asked(run, n)
    names = {one["cluster"]: f" ({one['name']})" if one["name"] else "" for one in found}
    lines = [
        f"{one['id']:>8}  cluster {one['cluster']}{names[one['cluster']]}, likeliest {one['likeliest']}, lead {one['lead']:.2f}  "
        + printable(one["path"])
        for one in found
    ]
    text = "\n".join(lines) if lines else "nothing is left to ask: every picture was confirmed, moved or taken out"
    answer({"run": str(run), "pictures": found}, json_, text)
