"""Features of a frozen encoder, kept in the cache: another number of clusters, another method, another seed takes seconds.

A file `features/<key>.safetensors` in the cache folder; the key is made of the pictures, the network and its weights, the working size, the
precision and the kind of device, so that a file is never stale.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.networks import encoder as networks
from coterie.run import checkpoint
from coterie.run.devices import unwrap

if TYPE_CHECKING:
    from coterie.run import Run

FOLDER = "features"


class Entry(NamedTuple):
    """One file of the cache: what it holds, how many rows, how many bytes."""

    path: Path
    source: str
    encoder: str
    n: int
    bytes: int


def features(encoder: nn.Module, images: Images, run: "Run") -> Tensor:
    """Features (N, D) float32 as `encoder.features` computes them, from the run's cache where they are there."""
    if run.cache is None:
        return networks.features(encoder, images, run)
    plain: Any = unwrap(encoder)
    key = checkpoint.fingerprint(images, plain, plain.spec.name, *images.size, run.devices.precision, run.devices.device.type)
    file = run.cache / FOLDER / f"{key}.safetensors"
    found = _read(file) if run.rank == 0 else None
    if run.broadcast(torch.tensor(float(found is not None), device=run.devices.device)):  # as the first rank found it
        z_ND = found if found is not None else checkpoint.load(file)["features"]
        run.note(f"the features of {len(images):,} pictures were in the cache")
        return z_ND.to(run.devices.device)
    z_ND = networks.features(encoder, images, run)
    if run.rank == 0:
        about = {"source": images.name, "encoder": plain.spec.name, "n": len(z_ND)}
        checkpoint.save(file, {"features": z_ND, "about": about}, keep_previous=False)
    return z_ND


def entries(cache: Path) -> list[Entry]:
    """The features kept in `cache`; a damaged file is listed too, as "?"."""
    found = []
    for path in sorted((cache / FOLDER).glob("*.safetensors")):
        about = _about(path)
        found.append(Entry(path, about.get("source", "?"), about.get("encoder", "?"), about.get("n", 0), path.stat().st_size))
    return found


def likely(cache: Path, source: str, encoder: str, n: int) -> bool:
    """Whether features of so many pictures under these names are kept. The pictures themselves are compared when features are used."""
    return any((entry.source, entry.encoder, entry.n) == (source, encoder, n) for entry in entries(cache))


def clear(cache: Path) -> int:
    """Removes all of them; returns the bytes freed."""
    freed = 0
    for entry in entries(cache):
        entry.path.unlink(missing_ok=True)
        freed += entry.bytes
    return freed


def _read(file: Path) -> Tensor | None:
    try:
        return checkpoint.load(file)["features"]
    except FileNotFoundError:
        return None
    except InputError:  # damaged: they are computed again, and the file is replaced
        return None


def _about(path: Path) -> dict[str, Any]:
    try:
        return checkpoint.load(path)["about"]
    except InputError:
        return {}
