"""The verb that makes a table of the docs."""

from pathlib import Path
from typing import Annotated

import typer

from coterie.bench import OWN, SEEDS_FROM, TABLES
from coterie.cli.app import Cache, Device, Json, Precision, Threads, answer, app, seconds


@app.command()
def bench(
    table: Annotated[str, typer.Argument(metavar="TABLE", help=f"One of {', '.join(TABLES)}.")],
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each line, each with a training of its own.")] = 1,
    first_seed: Annotated[int, typer.Option(help=f"Settings were chosen on seeds below {SEEDS_FROM}.")] = SEEDS_FROM,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Of each fit, like 90s, 3m or 1h; default: what its preset takes.")
    ] = None,
    preset: Annotated[str, typer.Option(help="See `coterie presets`; own: that of each set.")] = OWN,
    methods: Annotated[str | None, typer.Option(help="Several with commas; default: the table's.")] = None,
    sets: Annotated[
        str | None, typer.Option(help="digits, mnist, fashion_mnist:2000, ..., several with commas; default: the table's.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the sets' .npz files; default: COTERIE_BENCH_DATA.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where its csv lies, and its page.")] = Path("bench"),
    page: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where its page lies; default: --output.")] = None,
    keep: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where its fits lie; default: runs in --output.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """Makes a table: fits what has no row yet, and writes its csv and its page. The same command continues it."""
    from coterie import bench as room
    from coterie.cli.shown import progress
    from coterie.errors import InputError
    from coterie.images import default_cache

    if seeds < 1 or first_seed < 0:
        raise InputError(f"--seeds {seeds} --first-seed {first_seed}: wanted a run or more, from a seed of 0 or more")
    room.table(table)  # refuses a name that is none, before torch is loaded
    from coterie.run.devices import Devices

    devices = Devices(device, precision, threads)
    if devices.world > 1:
        raise InputError("bench fits one after the other, in one process: start it without torchrun")
    with progress(json_) as display:
        asked = room.Asked(
            output, page or output, keep or output / "runs", range(first_seed, first_seed + seeds), seconds(budget, "--budget"), preset,
            _words(methods), _words(sets), data, cache or default_cache(), devices, display.message,
        )  # fmt: skip
        made = room.make(table, asked)
    answer(made, json_, f"{made['rows']} rows, {made['new']} of them new, in {made['csv']}; the page is {made['page']}")


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip()) if text else ()
