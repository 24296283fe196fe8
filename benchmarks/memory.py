"""Peak memory of every verb as the pictures become more, and of a fit as its epochs go on. Rows go to benchmarks/results/memory.csv and
benchmarks/results/memory_epochs.csv.

    python -m benchmarks.memory 10000 100000     # each verb a process of its own, on pictures of 32 px drawn as by benchmarks.scale
    python -m benchmarks.memory epochs           # 20 epochs of SimCLR, of SCAN's heads and of self-labelling on 2,000 of them

The fit: SCAN in 100 kinds, an epoch of pretext, two of heads, one of self-labelling. `base_mb`: a process that imports torch, no more.
`slope_mb`: of a line through the memory that is held after each epoch but the first three, in MB an epoch; `noise_mb`: how far the epochs
lie from it, their standard deviation.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.record import done, record
from benchmarks.scale import KINDS, draw

SETTINGS = {"pretext_epochs": 1, "cluster_epochs": 2, "selflabel_epochs": 1, "network_epochs": 0}
MEASURED = """
import resource, sys
from coterie.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print("peak", peak, file=sys.stderr)
sys.exit(code)
"""
WARM = 3  # epochs in which memory is still being taken for the first time


def peak_of(*words: object) -> float:
    """MB of the largest process of a command."""
    done = subprocess.run([sys.executable, "-c", MEASURED, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stderr}")
    return round(int(done.stderr.rpartition("peak ")[2]) / 1024)


def verbs(n: int) -> None:
    idle = "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    base = round(int(subprocess.run([sys.executable, "-c", idle], capture_output=True, text=True, check=True).stdout) / 1024)
    with tempfile.TemporaryDirectory(prefix="memory-") as place:
        home = Path(place)
        source, new, run, cache = home / "pictures.parquet", home / "new.parquet", home / "run", ("--cache", home / "cache")
        draw(n, source), draw(n // 10, new)
        truth = home / "truth.csv"
        truth.write_text("path,label\n" + "".join(f"#{i},{i % KINDS}\n" for i in range(n)))
        settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
        commands = {
            "fit": ("fit", source, "-o", run, "--clusters", KINDS, "--preset", "quick", *settings, *cache),
            "show": ("show", run),
            "report": ("report", run),
            "evaluate": ("evaluate", run, "--labels", truth),
            "predict": ("predict", run, source, "-o", home / "all.parquet", *cache),
            "predict, parts": ("predict", run, source, "-o", f"{home / 'parts'}/"),
            "features": ("features", source, "--encoder", "pixels", "-o", home / "features.npy", *cache),
            "features, parts": ("features", source, "--encoder", "pixels", "-o", f"{home / 'rows'}/"),
            "export, csv": ("export", run, "--to", "csv", home / "all.csv"),
            "export, folders": ("export", run, "--to", "folders", home / "folders"),
            "recut": ("recut", run, "--clusters", KINDS // 2, "-o", home / "recut"),
            "compare": ("compare", run, home / "recut"),
            "update": ("update", run, new, "-o", home / "more", *cache),
        }
        for name, words in commands.items():
            peak = peak_of(*words)  # also of what is known: a verb may want what another one left
            if not done("memory", {"verb": name, "n": n}):
                record("memory", {"verb": name, "n": n, "peak_mb": peak, "base_mb": base})
            print(n, name, peak, flush=True)


def epochs(n: int = 2000, count: int = 20) -> None:
    from coterie import fitting
    from coterie.run import Run
    from coterie.run.devices import Devices

    held: dict[str, list[float]] = {}
    log = Run.log

    def noted(self: Run, **scalars: object) -> None:
        log(self, **scalars)
        held.setdefault(self._stage, []).append(now())

    Run.log = noted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="memory-") as place:
        home = Path(place)
        draw(n, home / "pictures.parquet")
        settings = {"pretext_epochs": count, "cluster_epochs": count, "selflabel_epochs": count}
        images, plan = fitting.plan(str(home / "pictures.parquet"), "scan", clusters=10, preset="quick", settings=settings, cache=home)
        fitting.fit(images, plan, home / "run", devices=Devices("cpu"), cache=home)
    for stage, mb in held.items():
        after = np.array(mb[WARM:])
        if len(mb) == count:
            slope, start = np.polyfit(np.arange(len(after)), after, 1)
            noise = float((after - start - slope * np.arange(len(after))).std())
            row = {"stage": stage, "n": n, "epochs": count, "slope_mb": round(float(slope), 2), "noise_mb": round(noise, 2)}
            record("memory_epochs", row | {"last_mb": round(mb[-1]), "all_mb": json.dumps([round(one) for one in mb])})
            print(row, flush=True)


def now() -> float:
    """MB of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("what", nargs="+", help="numbers of pictures, or epochs")
    for one in words.parse_args().what:
        epochs() if one == "epochs" else verbs(int(one))


if __name__ == "__main__":
    main()
