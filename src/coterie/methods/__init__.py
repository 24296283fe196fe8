"""One file per paper. A method is a module, or a part of one, with `Config`, a frozen dataclass, and `fit(images, config, run) -> Fitted`.

Its presets are in coterie.fitting.presets. Installed packages may bring others (outside.py).
"""

from importlib import import_module
from typing import Any

from coterie.errors import InputError

METHODS = {
    "scan": "coterie.methods.scan",
    "spice": "coterie.methods.spice",
    "temi": "coterie.methods.temi",
    "turtle": "coterie.methods.turtle",
    "deepcluster": "coterie.methods.deepcluster",
    "pcp": "coterie.methods.pcp",
    "ir": "coterie.methods.instance_level:IR",
    "is": "coterie.methods.instance_level:IS",
    "and": "coterie.methods.instance_level:AND",
    "idfd": "coterie.methods.instance_level:IDFD",
    "iic": "coterie.methods.iic",
    "cc": "coterie.methods.cc",
    "pica": "coterie.methods.pica",
    "sela": "coterie.methods.sela",
    "dec": "coterie.methods.dec:DEC",
    "idec": "coterie.methods.dec:IDEC",
    "spectral": "coterie.methods.classical:Spectral",
    "agglomerative": "coterie.methods.classical:Agglomerative",
    "gmm": "coterie.methods.classical:Mixture",
    "kmeans": "coterie.methods.baselines",
}
SUMMARIES = {
    "scan": "neighbours share a cluster, then confident images teach the network (Van Gansbeke et al. 2020)",
    "spice": "prototypes label the images near them, then reliable ones teach the network (Niu et al. 2022)",
    "temi": "heads on frozen features that tell neighbours from chance, with a slow teacher (Adaloglou et al. 2023)",
    "turtle": "the labelling of frozen features to which a linear classifier generalises best (Gadetsky et al. 2024)",
    "deepcluster": "the network learns its own clusters, is clustered again, and so on, from scratch (Caron et al. 2018; v2: 2020)",
    "pcp": "clusters that grow as the features do, purified before they are learned (Zhang et al. 2020)",
    "ir": "instance discrimination with a memory bank, then diffusion (Wu et al. 2018)",
    "is": "invariant and spreading features, then diffusion (Ye et al. 2019)",
    "and": "anchor neighbourhoods in rounds, then diffusion (Huang et al. 2019)",
    "idfd": "instance discrimination whose features are told apart as well, then diffusion (Tao et al. 2021)",
    "iic": "two views share their cluster, and all clusters are used, from the first epoch on (Ji et al. 2019)",
    "cc": "rows of a batch contrast images, its columns clusters, both at once (Li et al. 2021)",
    "pica": "clusters that are unlike over a batch, and sure of whom they have, from the first epoch on (Huang et al. 2020)",
    "sela": "the network learns labels that are likely and even in size, is labelled again, and so on, from scratch (Asano et al. 2020)",
    "dec": "an autoencoder's few dimensions, whose clusters then sharpen themselves (Xie et al. 2016)",
    "idec": "DEC that goes on drawing its images, so that the features keep telling what they are (Guo et al. 2017)",
    "spectral": "cuts of the graph of neighbours, on pixels or on an encoder's features (Ng, Jordan and Weiss 2001)",
    "agglomerative": "clusters that are merged, the nearest first, on pixels or on an encoder's features (Ward 1963)",
    "gmm": "a Gaussian mixture on pixels or on an encoder's features (Dempster, Laird and Rubin 1977)",
    "kmeans": "k-means on pixels, or on an encoder's features: the baseline everyone must beat",
}


def method(name: str) -> Any:
    """What has the `Config` and the `fit` of a method, of ours or of an installed package. Raises InputError for a name that is none."""
    if name in METHODS:
        home, _, part = METHODS[name].partition(":")
        module = import_module(home)
        return getattr(module, part) if part else module
    there = summaries()
    if name not in there:
        raise InputError(f"no method is called {name!r}; there are {', '.join(there)}")
    from coterie.methods import outside

    return outside.load(name)


def summaries() -> dict[str, str]:
    """Every method there is, ours and those that installed packages bring, a line each; none of them is imported. Our names stay ours."""
    from coterie.methods import outside

    return SUMMARIES | {name: outside.summary(some) for name, some in outside.points().items() if name not in SUMMARIES}


def summary(name: str) -> str:
    """The line of one method."""
    return SUMMARIES.get(name) or summaries()[name]
