"""The program `coterie` and what its verbs share: options, and how they answer. Nothing heavy is imported here."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.errors import InputError

app = typer.Typer(
    help="Sorts images into kinds without labels.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Source = Annotated[str, typer.Argument(help="Folder, its url, .zip, .txt, .npy / .npz, .parquet, digits, torchvision:NAME/split, hf:NAME.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default: the cores of the container.")]
Cache = Annotated[Path | None, typer.Option(help="Folder of the decoded pictures; default: the user's cache.")]


def answer(value: dict[str, Any], as_json: bool, text: str | None = None) -> None:
    """One JSON object, or the text for people, on stdout."""
    print(json.dumps(value) if as_json else text if text is not None else json.dumps(value, indent=1))


def seconds(text: str | None, option: str) -> float | None:
    """`90s`, `20m` or `2h` as seconds; None where nothing was said. Raises InputError, naming the option, for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text)
    if not found or float(found[1]) <= 0:
        raise InputError(f"{option} {text}: wanted a time like 90s, 20m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
