"""Every method on every set at hand: k-means on pixels and the four systems, or those that --methods names, a run a seed."""

from collections.abc import Iterator

from coterie.bench import OWN, Asked, page
from coterie.bench.fits import Fit
from coterie.bench.listed import listed
from coterie.methods import method

METHODS = ("kmeans", "deepcluster", "pcp", "scan", "spice")
SETS = ("digits", "fashion_mnist:10000", "mnist:10000", "cifar10:10000")
QUICK = ("digits", "fashion_mnist:2000")  # of any other preset than the sets' own
ABOUT = """\
Made by `coterie bench overview`, each method from the pixels alone, with the presets of a CPU unless the device is a GPU.
`kmeans` is k-means on pixels, which every method has to beat; the others end as they do by default."""


def runs(asked: Asked) -> Iterator[Fit]:
    """Seed by seed, so that a table that was interrupted has something of everything."""
    for name in asked.methods:
        method(name)  # refuses one that is none
    for seed in asked.seeds:
        for name in asked.sets or (SETS if asked.preset == OWN else QUICK):
            for one in asked.methods or METHODS:
                yield Fit(one, name, seed)


def named(row: page.Row) -> str:
    return row["method"]


TABLE = listed("overview", "Every method on every set", ABOUT, runs, named)
