"""If there were fewer or more kinds: the first merges and splits of the run's hierarchy, in words."""

from typing import Any, NamedTuple

from coterie.report.wording import percent

MOST = 5  # of either
MERGES = (  # overlap from which it is so
    (0.2, "their pictures are each other’s neighbours like those of one kind that was cut in two"),
    (0.1, "their pictures are often each other’s neighbours"),
    (0.01, "few of their pictures are neighbours"),
    (0.0, "they do not touch, and are only the two most alike of what is left"),
)
SPLITS = (  # how far its parts are apart (docs/recut.md)
    (0.5, "two clear groups"),
    (0.3, "two groups that run into each other"),
    (0.0, "no clear gap: hardly two kinds"),
)


class Fewer(NamedTuple):
    """With `left` kinds these clusters would be one."""

    left: int
    clusters: list[int]
    why: str
    overlap: str


class More(NamedTuple):
    cluster: int
    sizes: str
    why: str
    apart: str


class FewerMore(NamedTuple):
    fewer: list[Fewer]
    more: list[More]


def fewer_more(hierarchy: dict[str, Any] | None, k: int) -> FewerMore | None:
    """None for runs that keep no hierarchy, or cannot be cut otherwise."""
    if hierarchy is None or not (hierarchy["merges"] or hierarchy["splits"]):
        return None
    of = [[cluster] for cluster in range(k)]
    fewer = []
    for i, one in enumerate(hierarchy["merges"][:MOST]):
        of[one["a"]] = sorted(of[one["a"]] + of[one["b"]])
        fewer.append(Fewer(k - 1 - i, of[one["a"]], _word(MERGES, one["overlap"]), percent(max(0.0, min(1.0, one["overlap"])))))
    more = [
        More(
            one["cluster"],
            f"{one['sizes'][0]:,} and {one['sizes'][1]:,} pictures",
            _word(SPLITS, one["apart"]),
            percent(max(0.0, min(1.0, one["apart"]))),
        )
        for one in hierarchy["splits"][:MOST]
    ]
    return FewerMore(fewer, more)


def _word(words: tuple[tuple[float, str], ...], value: float) -> str:
    return next((text for least, text in words if value >= least), words[-1][1])
