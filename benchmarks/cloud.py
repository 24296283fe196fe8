"""How fast pictures are read through fsspec, beside the same folder. Rows go to benchmarks/results/cloud.csv. `python -m benchmarks.cloud`

3,000 JPEG files of 160 x 160 px (photographs, in the page cache) become a store of 96 px: from the folder, from its file:// url, from
memory://. They take turns, 5 rounds; another round first that is not counted. `ratio`: pictures a second over those from the folder in
the same round; `cpu_ratio` the same by seconds of the cores, of all processes, which other work on the machine changes less.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import fsspec

from benchmarks import data, store
from benchmarks.record import record
from coterie.images import open_images


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--n", type=int, default=3000)
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    store.PHOTOS = data.folder() / store.PHOTOS.name
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        content = store.make_jpegs(home / "pictures", given.n, 0)
        memory = fsspec.filesystem("memory")
        for path in (home / "pictures").iterdir():
            memory.pipe_file(f"/pictures/{path.name}", path.read_bytes())
        sources = {"folder": str(home / "pictures"), "file": (home / "pictures").as_uri(), "memory": "memory://pictures"}
        for number in range(given.rounds + 1):
            load = round(os.getloadavg()[0], 1)
            took = {name: timed(source, home / f"{name}{number}", given.n) for name, source in sources.items()}
            for name in sources if number else ():
                row = {"source": name, "n": given.n, "content": content, "round": number, "load": load}
                seconds, cpu = took[name]
                row |= {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "images_per_second": round(given.n / seconds)}
                row |= {"ratio": round(took["folder"][0] / seconds, 3), "cpu_ratio": round(took["folder"][1] / cpu, 3)}
                record("cloud", row)
                print(row, flush=True)


def timed(source: str, cache: Path, n: int) -> tuple[float, float]:
    """Seconds on the clock, and of the cores."""
    begun, before = time.perf_counter(), cores()
    images = open_images(source, store.SIZE, cache)
    took = time.perf_counter() - begun, cores() - before
    assert len(images) == n and not images.problems
    return took


def cores() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
