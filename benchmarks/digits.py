"""A method on digits over seeds: `python -m benchmarks.digits [--method scan] [--seeds 8] [--first 100] [--set FIELD=VALUE ...]`.

A row per seed; seeds done are skipped. Settings are chosen on seeds 0 to 9, results are of seeds from 100 on. DeepCluster gets a second
row, in settling.csv: NMI of successive clusterings and share of re-assigned images at the start and at the end. Each seed trains its own
pretext. True labels are read after the fit, by `evaluate`.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.record import done, record
from benchmarks.run_cli import coterie
from coterie.run.files import read_json_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--method", default="scan")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    note = " ".join(options.set)
    for seed in range(options.first, options.first + options.seeds):
        key = {"method": options.method, "seed": seed, "set": note}
        if done("digits", key):
            continue
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            words = [word for setting in options.set for word in ("--set", setting)]
            fitted = coterie("fit", "digits", "-o", run, "--method", options.method, "--seed", seed, *words)
            scores = coterie("evaluate", run, "--labels", "builtin", "--protocol", "clusters,knn")
            settling = settled(run) if options.method == "deepcluster" else {}
        figures = ("acc", "nmi", "ari", "knn_acc", "baseline_acc", "features_kmeans_acc")
        record("digits", {**key, "fit_seconds": fitted["seconds"], **{name: round(scores[name], 4) for name in figures}})
        if settling:
            record("settling", key | settling)


def settled(run: Path) -> dict[str, float]:
    """NMI with the clustering before, and share of re-assigned images: at the second epoch and as the mean of the last five."""
    rows = [row for row in read_json_lines(run / "history.jsonl") if "nmi" in row]
    ends = {"first": rows[:1], "last": rows[-5:]}
    return {
        f"{name}_{when}": round(sum(row[name] for row in some) / len(some), 4) for when, some in ends.items() for name in ("nmi", "changed")
    }


if __name__ == "__main__":
    main()
