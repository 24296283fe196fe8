"""Features parted from the last step: the encoder of each method, frozen, under k-means, diffusion and heads, beside the method's own end.

The last step alone is a fit of `kmeans` with that encoder's weights, whose own rule never puts another clustering in its place; on the
whitened features, as every method with a last step has them.
"""

from collections.abc import Iterator

from coterie.bench import Asked, page
from coterie.bench.fits import Fit
from coterie.bench.listed import listed
from coterie.methods import method

METHODS = ("scan", "spice", "deepcluster", "pcp", "ir", "is", "and")
SETS = ("digits",)
STEPS = ("k-means", "diffusion", "heads")
ABOUT = """\
Made by `coterie bench last-step`. Each method is fitted once a seed (its own end); then its encoder, frozen, ends in each last step, on
whitened features: k-means, diffusion along the graph of neighbours, or the heads of SCAN's clustering stage. Among the lines of one
method's features the last step alone differs."""


def runs(asked: Asked) -> Iterator[Fit]:
    for name in asked.methods:
        method(name)  # refuses one that is none
    for seed in asked.seeds:
        for name in asked.sets or SETS:
            for one in asked.methods or METHODS:
                yield (own := Fit(one, name, seed))
                for step in STEPS:
                    yield Fit("kmeans", name, seed, {"final": step, "whiten": True}, features=own)


def named(row: page.Row) -> str:
    return f"`{row['features'] or row['method']}`, {page.options(row).split(',')[0].removeprefix('final=') or 'its own end'}"


TABLE = listed("last-step", "Features and last steps", ABOUT, runs, named)
