"""What each of some processes does: method.py ROWS FOLDER METHODS [DIES_AT]: tiny fits of pictures (N, H, W, 3) or features (N, D), one
after another, into FOLDER/METHOD, "scan*2" as the consensus of two seeds; with DIES_AT the last rank kills itself at that line of the
first one's history. Ends as the command line does."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from coterie import fitting
from coterie.cli import door
from coterie.run import Run
from coterie.run.devices import Devices

sys.path.insert(0, str(Path(__file__).parents[1]))
from systems.runs import TINY  # noqa: E402


def main(rows: str, folder: str, names: str, dies_at: str = "0") -> None:
    devices, given = Devices("cpu", "fp32", 1), np.load(rows)
    if devices.rank == devices.world - 1 and int(dies_at):
        log, left = Run.log, [int(dies_at)]

        def dying(self: Run, **scalars: object) -> None:
            log(self, **scalars)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        Run.log = dying  # type: ignore[method-assign]
    for name in names.split(","):
        method, _, seeds = name.partition("*")
        settings = TINY[method] | ({"encoder": "precomputed"} if given.ndim == 2 else {})
        images, plan = fitting.plan(given, method, clusters=4, preset="quick", settings=settings, seeds=int(seeds or 1))
        fitting.fit(images, plan, Path(folder) / name, devices=devices)


if __name__ == "__main__":
    door.enter(lambda: main(*sys.argv[1:]), (), KeyboardInterrupt)
