"""How fast a folder of JPEGs becomes a store, against two processes that only decode and resize. `python -m benchmarks.store`

Both sides read 10,000 JPEG files of 160 x 160 px (already in the page cache) with the same Pillow calls: open, draft to twice the working
size, convert to RGB, one bicubic resize of the centre square to 96 px with reducing_gap 2. `open_images` also hashes every
file, checks sizes and orientation, writes the store, syncs it to the disk and loads it again; the pool of two processes keeps nothing.
The two take turns, 3 pairs. The ratio is images per second of open_images over those of the pool; the target is 0.80.
"""

import argparse
import io
import multiprocessing
import os
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from benchmarks.record import record
from coterie.images import open_images

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "caltech101_photos160.zip"
SIZE = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        content = make_jpegs(Path(folder) / "pictures", chosen.n, chosen.seed)
        for pair in range(chosen.pairs):
            load = os.getloadavg()[0]  # of others, before the first pair: above about 0.5 the times say little
            seconds_pool = timed_pool(Path(folder) / "pictures")
            seconds_open = timed_open(Path(folder) / "pictures", Path(folder) / f"cache{pair}")
            row = {
                "seed": chosen.seed,
                "content": content,
                "pillow": PIL.__version__,
                "n": chosen.n,
                "size": SIZE,
                "pair": pair,
                "load": round(load, 2),
            }
            row |= {"seconds_open": round(seconds_open, 2), "seconds_pool": round(seconds_pool, 2)}
            row |= {"ratio": round(seconds_pool / seconds_open, 3)}
            record("store", row)
            print(row)


def make_jpegs(folder: Path, n: int, seed: int) -> str:
    """n files of 160 x 160 px, quality 90: photographs with repeats, or smooth noise where they are not at hand. Returns which."""
    folder.mkdir()
    if PHOTOS.exists():
        with zipfile.ZipFile(PHOTOS) as archive:
            photos = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
        images = [Image.open(io.BytesIO(data)).convert("RGB").resize((160, 160)) for data in photos[: min(n, 3000)]]
    else:
        noise = np.random.default_rng(seed).integers(0, 256, (300, 40, 40, 3), dtype=np.uint8)
        images = [Image.fromarray(array).resize((160, 160), Image.Resampling.BICUBIC) for array in noise]
    encoded = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    for i in range(n):
        (folder / f"{i:05}.jpg").write_bytes(encoded[i % len(encoded)])
    return "photographs" if PHOTOS.exists() else "synthetic"


def timed_open(folder: Path, cache: Path) -> float:
    started = time.perf_counter()
    images = open_images(folder, SIZE, cache)
    seconds = time.perf_counter() - started
    assert len(images) == len(list(folder.iterdir())) and not images.problems
    return seconds


def timed_pool(folder: Path) -> float:
    """Two processes, their start counted; chunks of 64 files."""
    started = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        total = sum(pool.imap_unordered(decoded, sorted(folder.iterdir()), chunksize=64))
    seconds = time.perf_counter() - started
    assert total == len(list(folder.iterdir())) * SIZE * SIZE * 3
    return seconds


def decoded(path: Path) -> int:
    with Image.open(path) as image:
        image.draft(None, (2 * SIZE, 2 * SIZE))
        rgb = image.convert("RGB")
    side = min(rgb.size)
    left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
    small = rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side), reducing_gap=2.0)
    return len(small.tobytes())


if __name__ == "__main__":
    main()
