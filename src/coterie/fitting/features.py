"""Features of an encoder alone, for people who want just these: a row for each readable picture, with its id and path."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from coterie.errors import InputError
from coterie.fitting.encoders import AUTO
from coterie.fitting.planning import plan as planned
from coterie.images import Images, default_cache
from coterie.methods import pretext
from coterie.networks.encoder import OWN
from coterie.networks.weights import fetch
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.files import write_atomically
from coterie.run.progress import Silent

ENDINGS = (".npy", ".parquet", ".safetensors")


class Made(NamedTuple):
    """features_ND float32 (N, D), as the encoder gives them (not of unit length); paths (N,); the encoder's name; files set aside."""

    features_ND: np.ndarray
    paths: list[str]
    encoder: str
    n_problems: int


def features(
    source: Any, encoder: str = AUTO, weights: Path | None = None, image_size: int | None = None, devices: Devices | None = None,
    cache: Path | None = None, progress: Silent | None = None, network: bool = False,
) -> Made:  # fmt: skip
    """The features of the pictures of `source`. Raises InputError where the encoder would be untrained."""
    devices = devices or Devices()
    images, config = frozen(source, encoder, weights, image_size, network, cache=cache, progress=progress)
    run = Run(devices=devices, progress=progress, cache=cache or default_cache())
    try:
        z_ND = pretext.features_of(pretext.train(images, config, run), images, config, run)
    finally:
        run.close()
    return Made(z_ND.cpu().numpy(), images.paths, config.encoder, len(images.problems))


def frozen(
    source: Any, encoder: str, weights: Path | None, image_size: int | None, network: bool, preset: str | None = None,
    cache: Path | None = None, progress: Silent | None = None,
) -> tuple[Images, pretext.PretextConfig]:  # fmt: skip
    """The pictures of `source`, opened at the size of the encoder, and its settings. Raises InputError where it would be untrained."""
    changes: dict[str, Any] = {"encoder": encoder, "pretext": "frozen"}
    changes |= {"weights": str(weights.absolute())} if weights else {}
    changes |= {"image_size": image_size} if image_size else {}
    images, plan = planned(source, "scan", clusters=1, preset=preset, settings=changes, cache=cache, progress=progress)
    config = plan.config
    if not (config.weights or config.pretrained or config.encoder == "pixels"):
        raise InputError(plan.encoder or f"encoder {config.encoder} is untrained; give its weights with --weights"
                         + ("" if config.encoder in OWN else ", or take one of `coterie encoders`"))  # fmt: skip
    if network:
        fetch(config.encoder, config.image_size)
    return images, config


def rows_of(z_ND: np.ndarray, paths: list[str]) -> pa.Table:
    """The columns id, path, features of float32 (N, D)."""
    listed = pa.FixedSizeListArray.from_arrays(pa.array(z_ND.reshape(-1)), z_ND.shape[1])
    return pa.table({"id": np.arange(len(paths)), "path": pa.array(paths, pa.string()), "features": listed})


def check_name(path: Path) -> None:
    """Raises InputError unless the name ends in .npy, .parquet or .safetensors."""
    if path.suffix not in ENDINGS:
        raise InputError(f"-o {path}: wanted a name ending in {', '.join(ENDINGS)}")


def write(made: Made, path: Path) -> None:
    """The features as a file: .parquet with columns id, path, features; .safetensors with a tensor "features", .npy the array, and beside
    these two `<name>.csv` with id and path of each row."""
    check_name(path)
    rows = rows_of(made.features_ND, made.paths)
    if path.suffix == ".parquet":
        write_atomically(path, lambda new: pq.write_table(rows, new))
        return
    if path.suffix == ".npy":
        write_atomically(path, lambda new: _save(new, made.features_ND))
    else:
        write_atomically(path, lambda new: save_file({"features": made.features_ND}, new))
    write_atomically(path.with_suffix(".csv"), lambda new: pyarrow.csv.write_csv(rows.select(["id", "path"]), new))


def _save(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)
