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
from coterie.images import default_cache
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
    changes: dict[str, Any] = {"encoder": encoder, "pretext": "frozen"}
    changes |= {"weights": str(weights.absolute())} if weights else {}
    changes |= {"image_size": image_size} if image_size else {}
    images, plan = planned(source, "scan", clusters=1, settings=changes, cache=cache, progress=progress)
    config = plan.config
    if not (config.weights or config.pretrained or config.encoder == "pixels"):
        raise InputError(plan.encoder or f"encoder {config.encoder} is untrained; give its weights with --weights"
                         + ("" if config.encoder in OWN else ", or take one of `coterie encoders`"))  # fmt: skip
    if network:
        fetch(config.encoder, config.image_size)
    run = Run(devices=devices, progress=progress, cache=cache or default_cache())
    try:
        z_ND = pretext.features_of(pretext.train(images, config, run), images, config, run)
    finally:
        run.close()
    return Made(z_ND.cpu().numpy(), images.paths, config.encoder, len(images.problems))


def check_name(path: Path) -> None:
    """Raises InputError unless the name ends in .npy, .parquet or .safetensors."""
    if path.suffix not in ENDINGS:
        raise InputError(f"-o {path}: wanted a name ending in {', '.join(ENDINGS)}")


def write(made: Made, path: Path) -> None:
    """The features as a file: .parquet with columns id, path, features; .safetensors with a tensor "features", .npy the array, and beside
    these two `<name>.csv` with id and path of each row."""
    check_name(path)
    rows = pa.table({"id": np.arange(len(made.paths)), "path": pa.array(made.paths, pa.string())})
    if path.suffix == ".parquet":
        flat = pa.array(made.features_ND.reshape(-1))
        listed = pa.FixedSizeListArray.from_arrays(flat, made.features_ND.shape[1])
        write_atomically(path, lambda new: pq.write_table(rows.append_column("features", listed), new))
        return
    if path.suffix == ".npy":
        write_atomically(path, lambda new: _save(new, made.features_ND))
    else:
        write_atomically(path, lambda new: save_file({"features": made.features_ND}, new))
    write_atomically(path.with_suffix(".csv"), lambda new: pyarrow.csv.write_csv(rows, new))


def _save(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=False)
