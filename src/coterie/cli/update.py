"""The verb that adds pictures to a finished run."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.app import Cache, Device, Json, Precision, RunFolder, Source, Threads, answer, app


@app.command()
def update(
    run: RunFolder,
    source: Source,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN2", help="The run folder to make; RUN stays as it is.")],
    new_kinds: Annotated[bool, typer.Option("--new-kinds", help="Kinds found among what fits nowhere become clusters.")] = False,
    false_alarms: Annotated[float, typer.Option(metavar="SHARE", help="Of pictures that fit, called novel by mistake.")] = 0.05,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """Adds the pictures of SOURCE to a run; clusters keep their numbers, and what fits nowhere may be new kinds."""
    started = time.monotonic()
    from coterie import fitting
    from coterie.errors import printable
    from coterie.fitting.update import update as make
    from coterie.fitting.update_files import in_words
    from coterie.run.devices import Devices

    done = make(run, source, output, new_kinds, false_alarms, Devices(device, precision, threads), cache)
    shown = fitting.summary(output)
    told: dict[str, Any] = done | {name: shown[name] for name in ("method", "sizes", "n_unsure", "n_problems", "health", "verdict")}
    told["seconds"] = round(time.monotonic() - started, 2)
    text = f"{done['n_images']:,} images in {done['n_clusters']} clusters in {output}, {told['seconds']:.1f} s\n"
    text += printable(in_words(done, source)).replace("; ", "\n") + "\n"
    text += _carried(done)
    text += f"verdict: {told['verdict']}\n" if told["verdict"] else ""
    answer(told, json_, text + f"next: coterie report {output}" + "".join(f"\nhealth: {warning}" for warning in told["health"]))


def _carried(done: dict[str, Any]) -> str:
    """What became of the corrections, in lines; "" where there were none."""
    lines = ["what was corrected is corrected in it, too; coterie edits shows it\n"] if done["edits"] else []
    lines += [f"cluster {old}, which a correction made, is {new} now\n" for old, new in done["became"].items() if int(old) != new]
    lost = f"{done['edits_lost']:,} corrections were about pictures that are of new kinds now, and are left out\n"
    return "".join(lines) + (lost if done["edits_lost"] else "")
