"""What `predict` and `features` share where the result is a folder of parts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coterie.cli import shown
from coterie.cli.app import answer
from coterie.errors import InputError
from coterie.report.wording import count

if TYPE_CHECKING:
    from coterie.fitting.streaming import Recipe, Wish

Shard = Annotated[str, typer.Option(metavar="I/N", help="With -o FOLDER/: makes the parts of shard I of N alone.")]
On = Annotated[str | None, typer.Option(metavar="local|ray://...", help="With -o FOLDER/: on the workers of a Ray cluster.")]
PartSize = Annotated[int | None, typer.Option(metavar="N", help="With -o FOLDER/: pictures of a part; default: 4,096.")]


def wished(output: str, shard: str, part_size: int | None, on: str | None) -> "Wish | None":
    """What is asked of a folder, where -o names one: ends in a slash, or is there. InputError for a shard of a file."""
    if output.endswith("/") or Path(output).is_dir():
        from coterie.fitting.parts import read_shard
        from coterie.fitting.streaming import Wish

        return Wish(Path(output), read_shard(shard))
    if shard != "0/1" or part_size is not None or on is not None:
        folder = Path(output).with_suffix("")
        raise InputError(f"-o {output}: --shard, --part-size and --on are for a folder of parts; name one, -o {folder}/")
    return None


def answer_with(wish: "Wish", recipe: "Recipe", on: str | None, as_json: bool) -> None:
    """Makes the parts, here or on a cluster, and says what was made."""
    with shown.progress(as_json) as progress:
        done: dict[str, Any]
        if on is None:
            from coterie.fitting import streaming

            done = streaming.work(recipe.verb, wish, recipe.work(), progress)
        else:
            from coterie.fitting import on_ray

            done = on_ray.work(on, wish, recipe, progress)
    first, last = done["items"]
    items = f"items {first:,} to {last - 1:,} of {done['of_items']:,}" if last > first else f"no item of {done['of_items']:,}"
    lines = [f"{done['n_images']:,} images ({items}) in {done['parts']:,} parts, {done['parts_made']:,} of them made now, in {wish.folder}"]
    lines += [f"{count(done['n_problems'], 'file')} set aside (_problems-*.csv)"] if done["n_problems"] else []
    lines += [f"{done['n_novel']:,} fit nowhere (novel)"] if "n_novel" in done else []
    lines += [f"{done['parts_left']:,} parts are left for other shards"] if done["parts_left"] else []
    answer(done, as_json, "\n".join(lines))
