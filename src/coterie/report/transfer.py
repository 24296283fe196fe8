"""What evaluation.csv says of the features: a table for each protocol and set, a row a block."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from coterie.run.files import EVALUATION, expected, read_rows

WORDS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "top_5": "top-5", "mAP": "mAP", "mean_iou": "mean IoU"}


class Judged(NamedTuple):
    """metrics: the names of the columns; rows: (block, a number or None for each of these)."""

    protocol: str
    on: str
    metrics: list[str]
    rows: list[tuple[str, list[float | None]]]


def judged(run: Path) -> list[Judged]:
    """An empty list where no protocol has judged the encoder. Counts and settings stay in the file. InputError when it is damaged,
    ValueError or KeyError when it is not what `evaluate` writes."""
    tables: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in read_rows(run / EVALUATION) if expected(run / EVALUATION) else []:
        value = float(row["value"])
        if row["metric"] in WORDS and np.isfinite(value):
            tables.setdefault((row["protocol"], row["set"]), {}).setdefault(row["block"], {})[row["metric"]] = value
    found = []
    for (protocol, on), blocks in tables.items():
        metrics = [name for name in WORDS if any(name in block for block in blocks.values())]
        rows = [(name, [block.get(metric) for metric in metrics]) for name, block in blocks.items()]
        found.append(Judged(protocol, on, [WORDS[metric] for metric in metrics], rows))
    return found
