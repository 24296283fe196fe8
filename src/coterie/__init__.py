"""Coterie sorts images into kinds without labels: DeepCluster, PCP, SCAN and SPICE for a folder of pictures.

    from coterie import SCAN, open_images, load
    model = SCAN(n_clusters=10, random_state=0).fit(open_images("photos/"))

Nothing heavy is imported until one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "SCAN": "estimators",
    "SPICE": "estimators",
    "TEMI": "estimators",
    "TURTLE": "estimators",
    "DeepCluster": "estimators",
    "PCP": "estimators",
    "IR": "estimators",
    "IS": "estimators",
    "AND": "estimators",
    "IIC": "estimators",
    "CC": "estimators",
    "PICA": "estimators",
    "SeLa": "estimators",
    "DEC": "estimators",
    "IDEC": "estimators",
    "IDFD": "estimators",
    "Spectral": "estimators",
    "Agglomerative": "estimators",
    "GaussianMixture": "estimators",
    "KMeans": "estimators",
    "load": "estimators",
    "open_images": "images",
    "Images": "images",
    "InputError": "errors",
}
__all__ = [
    "AND",
    "CC",
    "DEC",
    "IDEC",
    "IDFD",
    "IIC",
    "IR",
    "IS",
    "PCP",
    "PICA",
    "SCAN",
    "SPICE",
    "TEMI",
    "TURTLE",
    "Agglomerative",
    "DeepCluster",
    "GaussianMixture",
    "Images",
    "InputError",
    "KMeans",
    "SeLa",
    "Spectral",
    "load",
    "open_images",
]

if TYPE_CHECKING:
    from coterie.errors import InputError
    from coterie.estimators import (
        AND,
        CC,
        DEC,
        IDEC,
        IDFD,
        IIC,
        IR,
        IS,
        PCP,
        PICA,
        SCAN,
        SPICE,
        TEMI,
        TURTLE,
        Agglomerative,
        DeepCluster,
        GaussianMixture,
        KMeans,
        SeLa,
        Spectral,
        load,
    )  # fmt: skip
    from coterie.images import Images, open_images


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"coterie.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
