"""The verb that opens a run in the browser, to correct it there."""

import sys
from typing import Annotated

import typer

from coterie.cli.app import Json, RunFolder, answer, app
from coterie.errors import InputError


@app.command()
def review(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0: one that is free.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Says the address, and opens no browser.")] = False,
    json_: Json = False,
) -> None:
    """Look at every picture in the browser, and correct: rename, merge, split, move, confirm. Ctrl-C ends it."""
    try:
        from coterie.review import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise InputError(f'review needs {error.name}: pip install "coterie[review]"; coterie edits {run} needs nothing more') from None

    def ready(address: str) -> None:
        answer(
            {"run": str(run), "url": address},
            json_,
            f"{run} at {address}\nall you do is in {run / 'edits.jsonl'}; Ctrl-C ends this",
        )
        sys.stdout.flush()
        if not no_open:
            import webbrowser

            webbrowser.open(address)

    serve.serve(run, port, ready)
