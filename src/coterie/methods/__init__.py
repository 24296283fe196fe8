"""One file per paper. A method is a module with `Config`, a frozen dataclass, and `fit(images, config, run) -> Fitted`.

Its presets are in coterie.presets.
"""

from importlib import import_module
from types import ModuleType

from coterie.errors import InputError

METHODS = {
    "scan": "coterie.methods.scan",
    "spice": "coterie.methods.spice",
    "deepcluster": "coterie.methods.deepcluster",
    "kmeans": "coterie.methods.baselines",
}
SUMMARIES = {
    "scan": "neighbours share a cluster, then confident images teach the network (Van Gansbeke et al. 2020)",
    "spice": "prototypes label the images near them, then reliable ones teach the network (Niu et al. 2022)",
    "deepcluster": "the network learns its own clusters, is clustered again, and so on, from scratch (Caron et al. 2018; v2: 2020)",
    "kmeans": "k-means on pixels, or on an encoder's features: the baseline everyone must beat",
}


def method(name: str) -> ModuleType:
    """The module of a method. Raises InputError for a name that is none."""
    if name not in METHODS:
        raise InputError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    return import_module(METHODS[name])
