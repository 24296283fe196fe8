"""What can be said of a run without labels, in words: the verdict of the fit, and the numbers that it rests on."""

from typing import Any, NamedTuple

from coterie.report.wording import count, percent

TONES = {"solid": "ok", "partly": "fair"}  # any other finding is a warning


class Verdict(NamedTuple):
    sentence: str
    tone: str  # ok, fair or warn
    reasons: list[str]


def verdict(environment: dict[str, Any]) -> Verdict | None:
    """None for runs that were made before there was one. KeyError or TypeError when the evidence is not what a fit writes."""
    found = environment.get("evidence")
    if not environment.get("verdict") or not found:
        return None
    return Verdict(environment["verdict"], TONES.get(found["finding"], "warn"), [text for text in _reasons(found) if text])


def _reasons(found: dict[str, Any]) -> list[str]:
    k = found["n_clusters"]
    return [
        f"From chance (0 %) to always (100 %), neighbours share a cluster {_share(found['agreement'])}; in a cloud without structure, "
        f"cut the same way, {_share(found['agreement_cloud'])}.",
        f"On the same scale, clusters found in one half of the pictures and in the other are {_share(found['stability'])} alike "
        f"(in the cloud {_share(found['stability_cloud'])}); these clusters and those of k-means under other seeds "
        f"{_share(found['seeds'])}.",
        f"{count(found['fits'], 'fit')} under different seeds are {_share(found['fits_alike'])} alike, on the same scale. What they agree "
        f"on is shown here; new pictures are sorted by the model of seed {found['fits_nearest']}, the nearest."
        if "fits" in found
        else "",
        f"About {count(found['other_k'], 'cluster')} would be {_share(found['other_stability'])} alike instead of "
        f"{_share(found['stability'])} for {k}."
        if "other_k" in found
        else "",
        f"Of what guessing leaves open, the mean colour of a picture tells {_share(found['colour'])}, a thumbnail of 4 × 4 "
        f"{_share(found['thumbnail'])}, its features {_share(found['features'])}."
        if "colour" in found
        else "",
        f"{percent(found['between'])} of the pictures lie between clusters: no more of their neighbours are in their own than in another."
        if found["between"]
        else "No picture lies between clusters.",
        f"Label-free score {found['score']:.2f}; {found['other_score']:.2f} for "
        + ("what the method found, which k-means on its features replaces." if found["replaced"] else "k-means on the same features."),
        f"All this was asked of {count(found['n_images'], 'picture')}.",
    ]


def _share(value: float) -> str:
    return percent(max(0.0, value))
