"""What a run says of its own confidence, in words: how it was calibrated, how each cluster is, which pairs are hard to tell apart."""

from typing import Any, NamedTuple

from coterie.report.wording import count, percent


class Told(NamedTuple):
    calibrated: str  # one sentence, or nothing
    clusters: dict[int, str]  # a few words each
    pairs: list[str]


def confidence(environment: dict[str, Any]) -> Told:
    """Nothing for runs made before there was any. KeyError or TypeError when it is not what a fit writes."""
    found = environment.get("confidence") or {}
    return Told(
        f"Confidences are calibrated without labels: another way of sorting the same pictures agrees on {percent(found['agreed'])} of them."
        if found.get("witness")
        else "",
        {int(row["cluster"]): _words(row) for row in found.get("clusters", [])},
        [_pair(row) for row in found.get("confused", [])],
    )


def _words(row: dict[str, Any]) -> str:
    return f"neighbours {percent(row['neighbours'])} its own, cohesion {row['cohesion']:.2f}, lead {percent(row['margin'])}"


def _pair(row: dict[str, Any]) -> str:
    a, b = (int(cluster) for cluster in row["pair"])
    told = f"Clusters {a} and {b}: {percent(row['mixing'])}, {count(row['crossing'], 'pair')} of neighbours cross. "
    return told + (f"One kind? coterie recut RUN --merge {a},{b} -o RUN2" if row["suggestion"] == "merge" else "Look at their border.")
