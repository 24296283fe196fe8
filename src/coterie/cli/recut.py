"""The verb that gives a finished run another number of clusters."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Json, RunFolder, answer, app
from coterie.errors import InputError


@app.command()
def recut(
    run: RunFolder,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN2", help="The run folder to make; RUN stays as it is.")],
    clusters: Annotated[int | None, typer.Option(metavar="K", help="How many, by the run's hierarchy.")] = None,
    merge: Annotated[list[str] | None, typer.Option(metavar="A,B", help="Clusters that become one; may be repeated.")] = None,
    split: Annotated[list[str] | None, typer.Option(metavar="A[:N]", help="A cluster to split, into 2 or N; may be repeated.")] = None,
    json_: Json = False,
) -> None:
    """Another number of clusters from a finished run, in seconds, without training."""
    started = time.monotonic()
    merges = [_numbers("--merge", text, ",", "3,7") for text in merge or []]
    splits = [_split(text) for text in split or []]
    from coterie import fitting
    from coterie.fitting.recut import recut as make
    from coterie.fitting.recut_files import in_words
    from coterie.run import edits

    done = make(run, output, clusters, merges, splits)
    if (run / edits.FILE).exists():
        print(f"what was corrected in {run} stays there: {output} is made of what the method said", file=sys.stderr)
    shown = fitting.summary(output)
    told: dict[str, Any] = done | {name: shown[name] for name in ("method", "n_images", "sizes", "health", "verdict")}
    told["seconds"] = round(time.monotonic() - started, 2)
    text = f"{done['n_clusters_before']} clusters of {run} are {done['n_clusters']} in {output}, {told['seconds']:.1f} s\n"
    text += f"{in_words(done)}\n" + (f"verdict: {told['verdict']}\n" if told["verdict"] else "")
    answer(told, json_, text + f"next: coterie report {output}" + "".join(f"\nhealth: {warning}" for warning in told["health"]))


def _split(text: str) -> tuple[int, int]:
    cluster, *parts = _numbers("--split", text, ":", "5, or 5:3 for three parts", most=2)
    return cluster, parts[0] if parts else 2


def _numbers(option: str, text: str, between: str, example: str, most: int = 1 << 30) -> list[int]:
    words = [word.strip() for word in text.split(between)]
    if len(words) > most or not all(word.isascii() and word.removeprefix("-").isdigit() for word in words):
        raise InputError(f"{option} {text}: wanted numbers of clusters, like {example}")
    return [int(word) for word in words]
