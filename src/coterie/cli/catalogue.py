"""The verbs that say what there is: methods, presets, encoders, the cache; and features alone."""

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli import parts
from coterie.cli.app import Cache, Device, Json, Precision, Source, Threads, answer, app
from coterie.errors import printable


@app.command()
def methods(json_: Json = False) -> None:
    """The methods there are, of Coterie and of installed packages."""
    from coterie.methods import summaries

    answer(found := summaries(), json_, "\n".join(f"{name:<16}{text}" for name, text in found.items()))


@app.command()
def presets(json_: Json = False) -> None:
    """The presets there are."""
    from coterie.fitting.presets import KINDS
    from coterie.fitting.recipes import RECIPES

    found = {name: text for name, (text, _) in KINDS.items()}
    found |= {name: f"the published recipe of {text}, hundreds of epochs" for name, (_, text, _) in RECIPES.items()}
    width = max(map(len, found)) + 2
    answer(found, json_, "\n".join(f"{name:<{width}}{text}" for name, text in found.items()))


@app.command()
def encoders(json_: Json = False) -> None:
    """The encoders with published weights, and which of them are on this machine."""
    from coterie.networks.published import PUBLISHED
    from coterie.networks.weights import is_here

    found = {
        name: {
            "dimensions": one.n_features, "px": one.px, "megabytes": one.megabytes, "trained": one.trained, "labels": one.labels,
            "licence": one.licence, "source": one.source, "here": is_here(name),
        }
        for name, one in PUBLISHED.items()
    }  # fmt: skip
    lines = [f"{'':<16}{'dims':>5}{'px':>5}{'MB':>5}  {'here':<5} trained on; licence; from"]
    lines += [
        f"{name:<16}{row['dimensions']:>5}{row['px']:>5}{row['megabytes']:>5}  {'yes' if row['here'] else 'no':<5} "
        f"{row['trained']}; {row['licence']}; {row['source']}"
        for name, row in found.items()
    ]
    answer(found, json_, "\n".join(lines))


@app.command()
def features(
    source: Source,
    output: Annotated[str, typer.Option("-o", "--output", help="A .npy, .parquet or .safetensors file, or FOLDER/ for parts.")],
    encoder: Annotated[str, typer.Option(help="See `coterie encoders`, any timm name, or auto.")] = "auto",
    weights: Annotated[Path | None, typer.Option(help="A local safetensors file, or the folder of a run.")] = None,
    image_size: Annotated[int | None, typer.Option(help="px; default: the encoder's own.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Weights that are not here may be downloaded.")] = False,
    shard: parts.Shard = "0/1",
    part_size: parts.PartSize = None,
    on: parts.On = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """The features of an encoder alone, with ids and paths; kept in the cache, where a later fit finds them."""
    from coterie.cli.shown import progress
    from coterie.fitting import features as alone
    from coterie.run.devices import Devices

    if wish := parts.wished(output, shard, part_size, on):
        from coterie.fitting.streaming import Recipe

        given = {"source": source, "encoder": encoder, "weights": weights, "image_size": image_size, "network": pretrained}
        given |= {"cache": cache, "part_size": part_size}
        parts.answer_with(wish, Recipe("features", given, device, precision, threads), on, json_)
        return
    alone.check_name(Path(output))
    with progress(json_) as display:
        made = alone.features(source, encoder, weights, image_size, Devices(device, precision, threads), cache, display, network=pretrained)
    alone.write(made, Path(output))
    text = f"{len(made.paths):,} rows of {made.features_ND.shape[1]} dimensions ({made.encoder}), written to {output}"
    about = {"output": str(output), "n_images": len(made.paths), "dimensions": made.features_ND.shape[1], "encoder": made.encoder}
    answer(about | {"n_problems": made.n_problems}, json_, text)


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Deletes what was decoded and computed; originals and runs stay.")] = False,
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """The store of decoded pictures, of the features of frozen encoders, and of the thumbnails of reports."""
    from coterie.images import cache_entries, clear_cache, default_cache
    from coterie.run import cached

    folder = cache or default_cache()
    if clear:
        freed = clear_cache(folder) + cached.clear(folder)
        answer({"cache": str(folder), "freed": freed}, json_, f"{freed / 1e6:,.1f} MB freed in {folder}")
        return
    entries: list[dict[str, Any]] = [
        {"key": key, "source": name, "n_images": n, "bytes": size} for key, name, n, size in cache_entries(folder)
    ]
    lines = [f"{entry['bytes'] / 1e6:>10,.1f} MB {entry['n_images']:>9,} {'images':<10}{printable(entry['source'])}" for entry in entries]
    for row in cached.entries(folder):
        made_by = {"encoder": row.encoder} if row.kind == cached.FEATURES else {}
        entries.append({"key": row.path.stem, "source": row.source, "n_images": row.n, "bytes": row.bytes, "kind": row.kind} | made_by)
        by = f" ({row.encoder})" if made_by else ""
        lines.append(f"{row.bytes / 1e6:>10,.1f} MB {row.n:>9,} {row.kind:<10}{printable(row.source)}{by}")
    answer({"cache": str(folder), "entries": entries}, json_, "\n".join(lines) or f"nothing in {folder}")
