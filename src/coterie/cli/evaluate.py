"""The verb that scores a run against true labels."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli import shown
from coterie.cli.app import Cache, Device, Json, RunFolder, answer, app
from coterie.errors import InputError, printable

SCORES = {
    "ACC": "acc", "NMI": "nmi", "ARI": "ari", "AMI": "ami", "balanced ACC": "balanced_acc", "macro F1": "macro_f1", "top-5": "top_5",
    "many-to-one": "many_to_one", "calibration error": "calibration_error", "risk-coverage": "risk_coverage",
    "k-means on pixels": "baseline_acc", "k-means on features": "features_kmeans_acc", "weighted kNN": "knn_acc",
}  # fmt: skip
LONG = ("confusion", "curves", "classes", "superclasses")  # of the scores, in metrics.json only


@app.command()
def evaluate(
    run: RunFolder,
    on: Annotated[str | None, typer.Option(metavar="SOURCE", help="Other images than the fitted ones (split protocol).")] = None,
    labels: Annotated[str | None, typer.Option(help="builtin, superclasses, folders, or a csv file: path,label[,superclass].")] = None,
    fitted_labels: Annotated[str | None, typer.Option(help="Those of the fitted images, which knn needs with --on; as --labels.")] = None,
    protocol: Annotated[str, typer.Option(help="clusters, knn, linear, ..., or several with commas.")] = "clusters",
    train: Annotated[str | None, typer.Option(metavar="SOURCE", help="What linear and others learn from; else half of the images.")] = None,
    train_labels: Annotated[str | None, typer.Option(help="Those of --train; as --labels.")] = None,
    crops: Annotated[int, typer.Option(help="Crops of a test image that linear takes the mean of: 1 or 10.")] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A setting of a protocol.")] = None,
    device: Device = "auto",
    cache: Cache = None,
    json_: Json = False,
) -> None:
    """Scores a run against true labels, and keeps the scores in metrics.json."""
    from coterie.evaluate.protocol import PROTOCOLS
    from coterie.evaluate.scores import Scores
    from coterie.evaluate.transfer import TRANSFER
    from coterie.fitting import assignments
    from coterie.run.devices import Devices

    chosen = list(dict.fromkeys(protocol.split(",")))
    for name in chosen:
        if name not in PROTOCOLS and name not in TRANSFER:
            raise InputError(f"no protocol is called {name!r}; there are {', '.join((*PROTOCOLS, *TRANSFER))}")
    if crops not in (1, 10):
        raise InputError(f"--crops {crops}: 1 or 10 are known")
    devices = Devices(device)
    judged = [name for name in chosen if name in TRANSFER]
    settings = _settings(judged, set_ or [])
    scores, asked = dict[str, Any](), list[dict[str, Any]]()
    if whole := [name for name in chosen if name in PROTOCOLS]:
        scores = _scored(run, whole, on, labels, fitted_labels, devices, cache)
    if judged:
        given = {"on": on, "labels": labels, "train": train, "train_labels": train_labels, "crops": crops}
        scores, asked = _judged(run, settings, scores, given, devices, cache, json_)
    elif kept := Scores(run, lambda text: print(text, file=sys.stderr)).rows():
        scores["evaluation"] = kept
    assignments.write_scores(run, "metrics.json" if on is None else "metrics-on.json", scores)
    for note in scores["notes"]:
        print(f"labels: {printable(note)}", file=sys.stderr)
    lines = (_lines(scores) if whole else []) + _found(asked)
    answer({key: value for key, value in scores.items() if key not in LONG}, json_, "\n".join(lines))


def _scored(
    run: Path, protocols: list[str], on: str | None, labels: str | None, fitted_labels: str | None, devices: Any, cache: Path | None
) -> dict[str, Any]:
    """What can be said from the files of the run, and from its model where other images are given."""
    from coterie import fitting
    from coterie.evaluate.protocol import New
    from coterie.evaluate.protocol import evaluate as score
    from coterie.fitting import assignments
    from coterie.fitting.small import small
    from coterie.run.files import read_json

    others, unread = None, 0
    if on is None:
        unread = read_json(run / "environment.json", n_problems=int)["n_problems"]
    else:
        images, z, p = fitting.predict(run, on, devices, cache)
        baseline = assignments.baseline_labels(small(images), p.shape[1], 0)
        others = New(fitting.describe(on, images), images.paths, p, z, baseline)
        unread = len(images.problems)
    scores = score(run, labels, protocols, others, fitted_labels)
    if "left_out" in scores:
        scores["left_out"]["that could not be read"] = unread
    return scores


def _judged(
    run: Path, settings: dict[str, Any], scores: dict[str, Any], given: dict[str, Any], devices: Any, cache: Path | None, quiet: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scores with those of the run's encoder, and the rows of these that were asked for. Where no scores of clusters were asked for,
    those that the run keeps stay.

    settings: of each protocol that is asked for, by its name.
    """
    from coterie.evaluate.scores import Scores
    from coterie.evaluate.task import Task
    from coterie.evaluate.transfer import transfer
    from coterie.fitting.running import opened_for
    from coterie.networks.encoder import Encoder
    from coterie.networks.model import load
    from coterie.run import Run, manifest
    from coterie.run.devices import unwrap
    from coterie.run.files import expected, read_config, read_json

    model, made = load(run, devices), read_config(run)
    kept = run / ("metrics.json" if given["on"] is None else "metrics-on.json")
    if not scores:
        scores = read_json(kept) if expected(kept) else {"labels": given["labels"] or "default", "on": given["on"]}
        scores |= {"notes": []}
    with shown.progress(quiet) as progress:
        place = Run(seed=made["seed"], devices=devices, progress=progress)
        try:
            encoder = unwrap(model.encoder)
            assert isinstance(encoder, Encoder)
            weights = manifest.digest(run / "model.safetensors")[:16]
            memory = Scores(run, progress.message)
            opened = lambda source, size, download: opened_for(run, model, source, cache, size, download, progress)  # noqa: E731
            task = Task(encoder, model.image_size, weights, made["source"], opened, place, memory, **given)
            transfer(task, settings)
        finally:
            place.close()
    notes = list(dict.fromkeys([*scores["notes"], *task.notes]))
    return scores | {"notes": notes, "evaluation": memory.rows()}, memory.rows(asked=True)


def _settings(protocols: list[str], words: list[str]) -> dict[str, Any]:
    """The settings of each protocol, with what `--set` changes. InputError for a word that none of them knows."""
    from coterie.evaluate.transfer import default_settings
    from coterie.fitting import config

    defaults = {name: default_settings(name) for name in protocols}
    asked = config.words(words)
    if strange := set(asked).difference(*(vars(one) for one in defaults.values())):
        there = sorted({field for one in defaults.values() for field in vars(one)})
        raise InputError(
            f"--set {strange.pop()}: no setting of {', '.join(protocols) or 'these protocols'}; there are {', '.join(there) or 'none'}"
        )
    return {
        name: config.change(one, {field: value for field, value in asked.items() if field in vars(one)}) for name, one in defaults.items()
    }


def _lines(scores: dict[str, Any]) -> list[str]:
    """The scores of the clusters."""
    within = {key: f"  {low:.3f} to {high:.3f}" for key, (low, high) in scores.get("intervals", {}).items()}
    rows = [f"{name:<20}{scores[key]:.3f}{within.get(key, '')}" for name, key in SCORES.items() if key in scores]
    if within:
        apart = ", ".join(f"{n:,} {why}" for why, n in scores["left_out"].items() if n)
        rows.append(f"{scores['n_images']:,} pictures scored, " + (f"left out: {apart}" if apart else "none left out"))
        rows.append("behind ACC, NMI and ARI where 95 of 100 draws of as many of these pictures lie, which says nothing of other seeds")
    if left := scores.get("unsure"):
        told = [f"{left['n']:,} images left out as unsure; all scores above count them in their likeliest cluster"]
        told += [f"without them ACC is {left['acc_of_others']:.3f}"] if left["acc_of_others"] is not None else []
        told += [f"they hold {left['share_of_errors']:.0%} of all errors"] if left["share_of_errors"] is not None else []
        rows.append("; ".join(told))
    return rows


def _found(rows: list[dict[str, Any]]) -> list[str]:
    """Of each block that was asked for, the number that people look for first."""
    from coterie.evaluate.transfer import FIRST

    chosen = [row for row in rows if row["metric"] in FIRST]
    return [f"{(row['protocol'] + ' ' + row['block']).strip():<19} {row['value']:.3f}  {row['metric']}, {row['set']}" for row in chosen]
