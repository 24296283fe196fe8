"""Features of a frozen encoder, kept in the cache: another number of clusters, another method, another seed takes seconds.

The key is made of the pictures, the network and its weights, the working size, the precision and the kind of device.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from coterie.images import Images
from coterie.networks import encoder as networks
from coterie.run import cached, checkpoint
from coterie.run.devices import unwrap

if TYPE_CHECKING:
    from coterie.run import Run


def features(encoder: nn.Module, images: Images, run: "Run") -> Tensor:
    """Features (N, D) float32 as `encoder.features` computes them, from the run's cache where they are there."""
    if run.cache is None:
        return networks.features(encoder, images, run)
    plain: Any = unwrap(encoder)
    key = checkpoint.fingerprint(images, plain, plain.spec.name, *images.size, run.devices.precision, run.devices.device.type)
    found = cached.read(run.cache, cached.FEATURES, key) if run.rank == 0 else None
    if run.broadcast(torch.tensor(float(found is not None), device=run.devices.device)):  # as the first rank found it
        found = found or cached.read(run.cache, cached.FEATURES, key)
        assert found is not None, "the first rank read it a moment ago"
        run.note(f"the features of {len(images):,} pictures were in the cache")
        return found["features"].to(run.devices.device)
    z_ND = networks.features(encoder, images, run)
    about = images.name, len(z_ND), plain.spec.name
    if run.rank == 0 and (lost := cached.keep(run.cache, cached.FEATURES, key, {"features": z_ND}, *about)):
        run.note(lost)
    return z_ND


def likely(cache: Path, source: str, encoder: str, n: int) -> bool:
    """Whether features of so many pictures under these names are kept. The pictures themselves are compared when features are used."""
    return any((entry.source, entry.encoder, entry.n) == (source, encoder, n) for entry in cached.entries(cache, [cached.FEATURES]))
