"""What each step costs a picture as the pictures become more: time and peak memory. Rows go to benchmarks/results/scale.csv.

    python -m benchmarks.scale 10000 100000       # `make scale`: some minutes on two cores; 1000000 takes hours

Pictures of 32 px are drawn on the fly, of 100 kinds (a shape, its colour, the colour behind it), and kept as JPEGs in the rows of one
parquet file. The steps, each a process of its own: open (decode into the store), features (`small`, untrained: 128 dimensions), neighbours
(20; approximate where a fit would), clusters (100, k-means), fit (k-means, 10,000 of them), predict (into parts, by that run), export (to
csv, what was predicted), killed (predict again, ended by SIGKILL ten times at random moments; `same`: whether the rows are the same).
`peak_mb`: largest memory of any process of the step. `load`: of the machine at its start.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.record import record

STEPS = ("open", "features", "neighbours", "clusters", "fit", "predict", "export", "killed")
SIDE, KINDS, WIDTH, FITTED, KILLS = 32, 100, 128, 10_000, 10


def draw(n: int, path: Path) -> None:
    """A parquet file of n JPEGs; picture i is of kind i % 100."""
    y, x = np.mgrid[:SIDE, :SIDE]
    colours = np.random.default_rng(1).integers(0, 256, (KINDS, 2, 3))
    with pq.ParquetWriter(path, pa.schema([("image", pa.binary())])) as file:
        for start in range(0, n, 1000):
            rng, rows = np.random.default_rng((2, start)), []
            for i in range(start, min(start + 1000, n)):
                kind, (cy, cx) = i % KINDS, rng.integers(10, 22, 2)
                away = (np.hypot(y - cy, x - cx), abs(y - cy) + abs(x - cx), np.maximum(abs(y - cy), abs(x - cx)), abs(y - cy))[kind % 4]
                picture = np.where((away < 7)[..., None], colours[kind, 0], colours[kind, 1]) + rng.integers(-25, 26, (SIDE, SIDE, 3))
                held = io.BytesIO()
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(held, "JPEG", quality=90)
                rows.append(held.getvalue())
            file.write_table(pa.table({"image": pa.array(rows, pa.binary())}), row_group_size=1000)


def step(name: str, n: int, home: Path) -> dict:
    """One step; what is told of it."""
    import torch
    from safetensors.torch import load_file, save_file

    from coterie import fitting
    from coterie.clustering.kmeans import kmeans
    from coterie.clustering.neighbours import nearest
    from coterie.fitting import streaming
    from coterie.images import open_images
    from coterie.methods import near
    from coterie.networks import encoder as networks
    from coterie.run import Run, seeding
    from coterie.run.devices import Devices

    devices, source, kept = Devices("cpu", "fp32"), home / "pictures.parquet", home / "features.safetensors"
    run = Run(devices=devices)
    if name == "open":
        return {"told": f"{len(open_images(source, SIDE, home / 'cache'))} pictures"}
    if name in ("features", "fit"):
        images = open_images(source, SIDE, home / "cache")
        with seeding.forked(0, "encoder"):
            encoder = networks.build(networks.EncoderSpec("small", SIDE))
        if name == "features":
            save_file({"features": networks.features(encoder, images, run)}, kept)
            return {"told": f"{WIDTH} dimensions"}
        save_file(encoder.backbone.state_dict(), home / "weights.safetensors")
        some = images[torch.linspace(0, n - 1, min(n, FITTED)).long()]
        settings = {"encoder": "small", "weights": str(home / "weights.safetensors"), "pretext": "frozen", "restarts": 1}
        some, plan = fitting.plan(some, "kmeans", clusters=KINDS, preset="quick", settings=settings)
        fitting.fit(some, plan, home / "run", devices=devices)
        return {"told": f"{len(some)} pictures"}
    if name == "neighbours":
        z_ND = load_file(kept)["features"]
        approximate = near.approximately("auto", z_ND, run)
        nearest(z_ND, 20, approximate=approximate)
        return {"told": "in cells" if approximate else "all pairs"}
    if name == "clusters":
        found = kmeans(load_file(kept)["features"], KINDS, seeding.generator(0, "k"), 20, "k-means++", spherical=True)
        return {"told": f"{int((found.sizes_K > 0).sum())} clusters"}
    if name == "export":
        from coterie.export import write_csv

        write_csv(pq.read_table(home / "sorted"), home / "sorted.csv")
        return {"told": f"{(home / 'sorted.csv').stat().st_size / 1e6:.0f} MB"}
    todo = streaming.predict(home / "run", str(source), devices=devices)
    folder = home / ("sorted" if name == "predict" else "again")
    return {"told": f"{streaming.work('predict', streaming.Wish(folder), todo)['parts']} parts"}


def killed(command: list[str], folder: Path) -> None:
    """The command, ended ten times at random moments after it made a part, or before."""
    rng = random.Random(0)
    for _ in range(KILLS):
        there = len(list(folder.glob("part-*")))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(folder.glob("part-*"))) < there + rng.randint(0, 3):
            time.sleep(rng.random() / 10)
        process.send_signal(signal.SIGKILL)
        process.wait()


def measured(n: int, home: Path) -> None:
    draw(n, home / "pictures.parquet")
    for name in STEPS:
        command = [sys.executable, "-m", "benchmarks.scale", "--step", name, str(n), "--home", str(home)]
        load, begun = round(os.getloadavg()[0], 1), time.perf_counter()
        if name == "killed":
            killed(command, home / "again")
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds, told = time.perf_counter() - begun, json.loads(out.splitlines()[-1])
        same = pq.read_table(home / "sorted") == pq.read_table(home / "again") if name == "killed" else ""
        count = min(n, FITTED) if name == "fit" else n
        row = {"step": name, "n": count, "of": n, "seconds": round(seconds, 1), "us_per_picture": round(1e6 * seconds / count, 1)}
        record("scale", row | {"peak_mb": told["peak_mb"], "told": told["told"], "same": same, "load": load})
        print(row, told, same, flush=True)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("n", type=int, nargs="+")
    words.add_argument("--step", choices=STEPS)
    words.add_argument("--home", type=Path)
    given = words.parse_args()
    if given.step:
        told = step(given.step, given.n[0], given.home)
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps(told | {"peak_mb": round(peak / 1024)}))
        return
    for n in given.n:
        home = Path(tempfile.mkdtemp(prefix="scale-"))
        try:
            measured(n, home)
        finally:
            shutil.rmtree(home)


if __name__ == "__main__":
    main()
