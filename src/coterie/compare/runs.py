"""What of a run is compared with others: its clusters, the content of its pictures, and the numbers that are known of it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coterie.export.result import Result, read_result
from coterie.images.items import read_items
from coterie.learning.words import CONFIDENT
from coterie.run.files import expected, read_config, read_json

SCORES = ("acc", "nmi", "ari")  # of metrics.json
EVIDENCE = ("agreement", "stability", "score")  # of environment.json, without labels


class Sorting(NamedTuple):
    """result: clusters and names as they were corrected; paths, digests: of each of the N pictures, "" where a digest is not known;
    features: whether features were fitted, whose rows tell nothing of the pictures."""

    run: Path
    result: Result
    paths: list[str]
    digests: list[str]
    features: bool

    @property
    def cluster_N(self) -> np.ndarray:
        return self.result.cluster_N


def read(run: Path, edits: bool = True) -> Sorting:
    """A finished run; edits: with its corrections. InputError when it is not finished, or damaged."""
    run = Path(run)
    result = read_result(run, edits)
    items = read_items(run, len(result.table))
    paths = result.table["path"].to_pylist()
    digests = [""] * len(paths)
    if items is not None:
        for i, digest in zip(items["id"].to_pylist(), items["digest"].to_pylist()):
            if i >= 0:
                digests[i] = digest
    return Sorting(run, result, paths, digests, read_config(run)["settings"]["encoder"] == "precomputed")


def told(one: Sorting) -> dict[str, Any]:
    """What is known of a run, as plain data; scores against labels where `evaluate` left them, None for what a run does not say.

    agreement: of neighbours, 0 chance to 1; stability: of clusters found in two halves of the pictures; score: the label-free score that
    fits of one set can be compared by (docs/verdict.md); confidence: mean, 0..1; confident: share with at least 0.9.
    """
    made = read_config(one.run)
    environment = read_json(one.run / "environment.json", seconds=float, health=list)
    evidence = environment.get("evidence") or {}
    scores = read_json(one.run / "metrics.json") if expected(one.run / "metrics.json") else {}
    confidence_N = one.result.table["confidence"].to_numpy()
    sizes = {cluster: int((one.cluster_N == cluster).sum()) for cluster in one.result.names}
    return {
        "run": str(one.run), "method": made["method"], "encoder": made["settings"]["encoder"], "seed": made["seed"],
        "n_images": len(one.paths), "n_clusters": len(one.result.names), "n_unsure": int((one.cluster_N < 0).sum()),
        "sizes": sizes, "corrections": len(one.result.edits.applied) if one.result.edits else 0,
        "confidence": float(confidence_N.mean()) if len(confidence_N) else None,
        "confident": float((confidence_N >= CONFIDENT).mean()) if len(confidence_N) else None,
        **{name: _number(evidence.get(name)) for name in EVIDENCE},
        "verdict": str(environment.get("verdict") or ""), "n_warnings": len(environment["health"]), "seconds": environment["seconds"],
        **{name: _number(scores.get(name)) for name in SCORES},
    }  # fmt: skip


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
