"""The verb that gives a result to other programs."""

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import shown
from coterie.cli.app import Json, RunFolder, answer, app


@app.command()
def export(
    run: RunFolder,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder, or a file to write.")],
    to: Annotated[str, typer.Option(help="folders, csv, parquet, imagefolder, coco, label-studio, fiftyone, onnx or history.")],
    link: Annotated[str, typer.Option(help="How pictures come to lie there: copy, hard or symlink.")] = "copy",
    source: Annotated[list[Path] | None, typer.Option(help="Where the pictures lie now, if they were moved; may be repeated.")] = None,
    val: Annotated[float, typer.Option(metavar="SHARE", help="For imagefolder: of each cluster, to validate on.")] = 0.2,
    seed: Annotated[int, typer.Option(help="For imagefolder: which these are.")] = 0,
    edits: Annotated[bool, typer.Option("--with-edits/--without-edits", help="What a person corrected, or what the method said.")] = True,
    json_: Json = False,
) -> None:
    """The result in another form, as it was corrected. Never moves, changes or deletes an original."""
    from coterie.export import export as write

    count, aside = write(run, to, dest, source, link, edits=edits, val=val, seed=seed)
    shown.say_aside(aside)
    done = {"run": str(run), "to": to, "dest": str(dest), "n_images": count, "n_set_aside": len(aside)}
    what = {"onnx": f"the model of {count:,} images", "history": f"{count:,} epochs"}.get(to, f"{count:,} images")
    answer(done, json_, f"{what} to {dest}" + (f", {len(aside):,} set aside" if aside else ""))
