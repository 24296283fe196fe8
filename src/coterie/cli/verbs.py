"""The verbs. Nothing heavy is imported until a verb needs it, so that `coterie --help` answers at once.

Results go to stdout (with --json one JSON object and nothing else), progress and messages to stderr.
Exit status: 0 done; 2 the user can mend it; 1 a defect of ours; 130 interrupted, 143 terminated, with the state kept.
"""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli import (
    bench,  # noqa: F401
    catalogue,  # noqa: F401  (its verbs are registered by being read)
    compare,  # noqa: F401
    edits,  # noqa: F401
    evaluate,  # noqa: F401
    export,  # noqa: F401
    exported,
    parts,
    recut,  # noqa: F401
    refine,  # noqa: F401
    review,  # noqa: F401
    show,  # noqa: F401
    shown,
    update,  # noqa: F401
)
from coterie.cli.app import Cache, Device, Json, Precision, RunFolder, Source, Threads, answer, app, seconds
from coterie.cli.door import enter
from coterie.errors import InputError, printable
from coterie.report.wording import count


@app.callback(invoke_without_command=True)
def door(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="What this is.")] = False) -> None:
    if version:
        from coterie import __version__

        print(f"coterie {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def fit(
    source: Source,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="RUN", help="The run folder to make, or to continue.")],
    method: Annotated[str | None, typer.Option(help="See `coterie methods`; default: scan.")] = None,
    clusters: Annotated[str | None, typer.Option(metavar="K", help="How many kinds: a number, auto, or a range like 5:20.")] = None,
    preset: Annotated[str | None, typer.Option(help="See `coterie presets`.")] = None,
    encoder: Annotated[str | None, typer.Option(help="small, small-32, resnet18-cifar, ..., or any timm name.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A local safetensors file to start the encoder from, or the folder of a run.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random draw; default: 0.")] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Fits under so many seeds, and keeps what they agree on.")] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any setting; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(help="The config.json of a run to repeat.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="Like 90s, 20m or 2h: ends in time with the best result so far.")] = None,
    unsure: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Leaves out the least certain pictures, like 0.05; default: none.")
    ] = None,
    cache: Cache = None,
    on: Annotated[str | None, typer.Option(metavar="local|ray://...", help="A rank on each worker of a Ray cluster.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Says what would be done, and does nothing.")] = False,
    json_: Json = False,
) -> None:
    """Sorts the pictures of SOURCE into kinds. The same command continues an interrupted run."""
    started = time.monotonic()
    from coterie import fitting
    from coterie.fitting import config as settings
    from coterie.images import default_cache

    base = _read_config(config)
    changes: dict[str, Any] = settings.words(set_ or [])
    changes |= {"encoder": encoder} if encoder else {}
    changes |= {"weights": str(weights.absolute())} if weights else {}
    changes |= {} if unsure is None else {"unsure": str(unsure)}
    budget, folder_of_cache = seconds(time_budget, "--time-budget"), cache or default_cache()
    from coterie.run.devices import Devices

    devices = Devices(device, precision, threads)
    wanted: dict[str, Any] = {"clusters": clusters, "preset": preset, "settings": changes, "base": base}
    wanted |= {"source": source, "method": method, "seed": seed, "seeds": seeds}
    with shown.progress(json_ or devices.rank > 0) as progress:
        gpu = fitting.schedule_of(output, devices.device.type == "cuda")
        images, planned = fitting.plan(**wanted, gpu=gpu, cache=cache, progress=progress)
        if plan:
            told = [] if json_ else shown.before(images, planned, devices, folder_of_cache, asked=True)
            answer(planned.to_json(), json_, "\n".join(told))
            return
        if fitting.is_finished(output):
            progress.message(f"{output} is finished already; another --seed or folder makes another")
        elif not json_ and devices.world == 1 and not (output / "work").exists():
            for line in shown.before(images, planned, devices, folder_of_cache, budget):
                progress.message(line)
        if on and not fitting.is_finished(output):
            from coterie.fitting import on_ray

            asked = on_ray.Fit(output, wanted, device, precision, budget, folder_of_cache)
            done = on_ray.fit(on, asked, threads, progress)
        else:
            done = fitting.fit(
                images, planned, output, devices=devices, time_budget=budget, progress=progress, started=started, cache=folder_of_cache
            )
    if devices.rank == 0:
        problems = f", {count(done['n_problems'], 'file')} set aside (problems.csv)" if done["n_problems"] else ""
        text = f"{done['n_images']:,} images in {done['n_clusters']} clusters, {done['seconds']:.0f} s{problems}\n"
        text += f"{done['n_unsure']:,} of them left out as unsure (cluster -1)\n" if done["n_unsure"] else ""
        text += f"verdict: {done['verdict']}\n" if done["verdict"] else ""
        answer(done, json_, text + f"next: coterie report {output}" + "".join(f"\nhealth: {warning}" for warning in done["health"]))


@app.command()
def predict(
    run: RunFolder,
    source: Source,
    output: Annotated[str, typer.Option("-o", "--output", help="A .parquet or .csv file to write, or FOLDER/ for parts.")],
    false_alarms: Annotated[float, typer.Option(metavar="SHARE", help="Of pictures that fit, called novel by mistake.")] = 0.05,
    shard: parts.Shard = "0/1",
    part_size: parts.PartSize = None,
    on: parts.On = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stays; adds a row to FILE.csv for each picture that arrives.")] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """Sorts new pictures into the clusters that exist, and marks those that fit nowhere. RUN may be a .onnx file that `export` wrote."""
    if run.suffix == ".onnx":
        if watch or on or part_size or shard != "0/1":
            raise InputError(f"{run}: --watch, --on, --shard and --part-size want the folder of a run")
        exported.answer_with(run, source, Path(output), threads, json_)
        return
    from coterie import fitting
    from coterie.fitting import assignments, new_pictures
    from coterie.run.devices import Devices

    wish = parts.wished(output, shard, part_size, on)
    if watch:
        from coterie.cli import watching
        from coterie.fitting.watching import Watch

        watching.stay(Watch(run, source, Path(output), false_alarms, Devices(device, precision, threads)), Path(output), json_)
        return
    if wish:
        from coterie.fitting.streaming import Recipe

        given = {"folder": run, "source": source, "false_alarms": false_alarms, "cache": cache, "part_size": part_size}
        parts.answer_with(wish, Recipe("predict", given, device, precision, threads), on, json_)
        return
    assignments.check_table_name(Path(output))
    new_pictures.check_rate(false_alarms)
    images, z_ND, p_NK = fitting.predict(run, source, Devices(device, precision, threads), cache)
    found = new_pictures.novelty(run, z_ND, false_alarms)
    assignments.write_table(assignments.table(images.paths, p_NK, novel=found.novel_M, novelty=found.scores_M), Path(output))
    for note in (*images.notes, *images.doubts):
        print(printable(note), file=sys.stderr)
    shown.say_aside(images.problems)
    done = {"run": str(run), "output": str(output), "n_images": len(images), "n_problems": len(images.problems)}
    done |= {"n_novel": int(found.novel_M.sum()), "false_alarms": found.false_alarms}
    mistaken = f"{100 * found.false_alarms:.3g} % of pictures of known kinds are called so by mistake"
    answer(done, json_, f"{len(images):,} images, written to {output}\n{done['n_novel']:,} fit nowhere (novel; {mistaken})")


@app.command()
def report(
    run: RunFolder,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.html", help="Default: RUN/report.html.")] = None,
    show_paths: Annotated[bool, typer.Option("--show-paths", help="Absolute paths too; without it the page tells no folder.")] = False,
    json_: Json = False,
) -> None:
    """One self-contained page that opens offline."""
    from coterie.report import page

    written = page.write(run, output, show_paths)
    answer({"run": str(run), "report": str(written)}, json_, f"written to {written}")


def main() -> None:
    """What the command `coterie` runs."""
    click_exception = typer.BadParameter.__mro__[2]  # in the copy of click that typer brings or uses
    enter(lambda: app(standalone_mode=False, prog_name="coterie"), click_exception, typer.Abort)


def _read_config(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    from coterie.run.files import read_json

    found = read_json(file)
    if "settings" not in found:
        raise InputError(f"--config {file}: no config.json of a run")
    return found
