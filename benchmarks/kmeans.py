"""k-means and exact neighbours against faiss-cpu, in turns in one process with equal threads. `python -m benchmarks.kmeans`

Rows: Fashion-MNIST's 60,000 training pictures, pixels on their first 128 principal components. k-means runs all of its 20 iterations on
both sides (no early stop) from the same random rows, faiss without its subsampling and followed by the search that gives labels, as ours
does. Neighbours: k = 20 without the row itself, against an inner-product search for 21 among unit rows. A ratio is seconds of ours over
seconds of faiss; the target is at most 1.5. Quality: final inertia of each side, or the largest difference of a similarity. Memory: peak
beyond what the process held with the features loaded, in a process of its own (two iterations). --large: 1,000,000 random rows x 256,
k = 10,000, one iteration of ours alone; the target is less than 1 GB. --large --against-faiss: two iterations of both, each in a process of
its own, the time of the whole call with its last assignment.
--near: k from N / 20 to near N on the first 50,000 rows and on random ones, by merging (clustering.merging); the ratio is to k-means with
k = 1,000 on the same rows, in turns, and the target at most 3; the quality beside it is the inertia of plain k-means with that k.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import torch

from benchmarks.data import load_packed
from benchmarks.record import record
from coterie.clustering.kmeans import kmeans
from coterie.clustering.merging import merged
from coterie.clustering.neighbours import nearest
from coterie.clustering.rows import unit

ITERS, NEIGHBOURS = 20, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--clusters", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--no-neighbours", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--against-faiss", action="store_true", help="with --large")
    parser.add_argument("--near", action="store_true")
    chosen = parser.parse_args()
    set_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npy"
        if chosen.large:
            large(file, chosen.threads, chosen.against_faiss)
            return
        x = pixels_on_components()
        if chosen.near:
            near(x[:50_000], chosen.threads, chosen.pairs)
            return
        np.save(file, x.numpy())
        for k in chosen.clusters:
            megabytes = peak(file, "kmeans", k, 2, chosen.threads)
            for pair in range(chosen.pairs):
                # faiss shuffles rows as torch does, with its seed + 1: both start alike
                ours, got = timed(lambda k=k, seed=pair + 1: kmeans(x, k, torch.Generator().manual_seed(seed), ITERS, tol=-1))
                theirs, inertia = timed(lambda k=k, seed=pair: faiss_kmeans(x, k, seed))
                write("kmeans", x.shape, k, chosen.threads, pair, ours, theirs, got.inertia, inertia, megabytes)
        if not chosen.no_neighbours:
            megabytes = peak(file, "nearest", NEIGHBOURS, 0, chosen.threads)
            for pair in range(chosen.pairs):
                ours, found = timed(lambda: nearest(x, NEIGHBOURS))
                theirs, similarity = timed(lambda: faiss_nearest(x))
                difference = float(np.abs(similarity[:, 1:] - found.similarity_NK.numpy()).max())
                write("nearest", x.shape, NEIGHBOURS, chosen.threads, pair, ours, theirs, difference, 0.0, megabytes)


def near(x: torch.Tensor, threads: int, pairs: int) -> None:
    """The column `faiss` says what stands in the place of faiss."""
    n = len(x)
    for name, rows in {"pixels": unit(x), "random": unit(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))}.items():
        for k in (n - 500, n * 9 // 10, n // 2, n // 5, n // 10, n // 20):
            for pair in range(pairs):
                start = [torch.Generator().manual_seed(pair) for _ in range(3)]
                merging, got = timed(lambda k=k, rows=rows, start=start: merged(rows, k, start[0]))
                thousand, _ = timed(lambda rows=rows, start=start: kmeans(rows, 1000, start[1], ITERS, tol=-1))
                plain = kmeans(rows, k, start[2], 5 if k >= n // 2 else ITERS).inertia if pair == 0 else 0.0  # settled by then
                row = {"what": f"merging, {name}", "n": n, "d": x.shape[1], "k": k, "threads": threads, "pair": pair}
                row |= {"faiss": "ours: time at k = 1000, inertia at k", "seconds": round(merging, 3), "seconds_faiss": round(thousand, 3)}
                row |= {"ratio": round(merging / thousand, 3), "quality": f"{got.inertia:.8g}", "quality_faiss": f"{plain:.8g}"}
                record("kmeans", row | {"peak_mb": ""})
                print(row, flush=True)


def pixels_on_components(n_components: int = 128) -> torch.Tensor:
    images, _, _ = load_packed("fashion_mnist")
    pixels = torch.from_numpy(images).flatten(1).float() / 255
    pixels -= pixels.mean(0)
    _, axes = torch.linalg.eigh(pixels.T @ pixels)
    return (pixels @ axes.flip(1)[:, :n_components]).contiguous()


def faiss_kmeans(x: torch.Tensor, k: int, seed: int, iters: int = ITERS) -> float:
    model = faiss.Kmeans(x.shape[1], k, niter=iters, seed=seed, max_points_per_centroid=1 << 30, min_points_per_centroid=1)
    model.train(x.numpy())
    return float(model.index.search(x.numpy(), 1)[0].sum(dtype=np.float64))


def faiss_nearest(x: torch.Tensor) -> np.ndarray:
    rows = unit(x).numpy()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index.search(rows, NEIGHBOURS + 1)[0]


def timed(work):
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)


def write(what, shape, k, threads, pair, ours, theirs, quality, faiss_quality, megabytes) -> None:
    row = {"what": what, "n": shape[0], "d": shape[1], "k": k, "threads": threads, "pair": pair, "faiss": faiss.__version__}
    row |= {"seconds": round(ours, 3), "seconds_faiss": round(theirs, 3), "ratio": round(ours / theirs, 3) if theirs else ""}
    row |= {"quality": f"{quality:.8g}", "quality_faiss": f"{faiss_quality:.8g}", "peak_mb": megabytes}
    record("kmeans", row)
    print(row, flush=True)


def peak(file: Path, what: str, k: int, iters: int, threads: int) -> int:
    """Megabytes above the process with the features loaded."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (file, what, k, iters, threads))


def _peak(file: Path, what: str, k: int, iters: int, threads: int) -> int:
    set_threads(threads)
    x = torch.from_numpy(np.load(file))
    kmeans(x[:100], 3)  # what libraries allocate once
    nearest(x[:100], 3)
    before = status("VmRSS")
    _ = kmeans(x, k, iters=iters, tol=-1) if what == "kmeans" else nearest(x, k)
    return (status("VmHWM") - before) >> 10


def status(name: str) -> int:
    """Kilobytes. getrusage will not do: a process starts with the peak of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def large(file: Path, threads: int, against_faiss: bool) -> None:
    x = torch.randn(1_000_000, 256, generator=torch.Generator().manual_seed(0))
    np.save(file, x.numpy())
    shape, x = x.shape, None
    if not against_faiss:
        seconds, megabytes = timed(lambda: peak(file, "kmeans", 10_000, 1, threads))
        write("kmeans, one iteration", shape, 10_000, threads, 0, seconds, 0.0, 0.0, 0.0, megabytes)
        return
    context = multiprocessing.get_context("spawn")
    found = []
    for side in ("ours", "faiss"):
        with context.Pool(1) as pool:
            found.append(pool.apply(_two_iterations, (file, side, threads)))
    (ours, inertia, megabytes), (theirs, faiss_inertia, _) = found
    write("kmeans, two iterations", shape, 10_000, threads, 0, ours, theirs, inertia, faiss_inertia, megabytes)


def _two_iterations(file: Path, side: str, threads: int) -> tuple[float, float, int]:
    """Seconds, inertia, and megabytes above the process with the features loaded, from the same random rows."""
    set_threads(threads)
    x = torch.from_numpy(np.load(file))
    before = status("VmRSS")
    if side == "ours":
        seconds, inertia = timed(lambda: kmeans(x, 10_000, torch.Generator().manual_seed(1), 2, tol=-1).inertia)
    else:
        seconds, inertia = timed(lambda: faiss_kmeans(x, 10_000, 0, 2))
    return seconds, inertia, (status("VmHWM") - before) >> 10


if __name__ == "__main__":
    main()
