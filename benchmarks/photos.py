"""Ten classes of Caltech-101 photographs, from scratch, with the preset a folder gets: `python -m benchmarks.photos [--seeds 3]`.

The ten classes are every tenth of the hundred in the file, 30 photographs each: 300 pictures, as a user's small folder.
"""

import argparse
import tempfile
import zipfile
from pathlib import Path

from benchmarks.data import folder as data_folder
from benchmarks.record import done, record
from benchmarks.run_cli import coterie


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    note = " ".join(options.set)
    with tempfile.TemporaryDirectory() as temporary:
        photos = ten_classes(Path(temporary))
        for seed in range(options.seeds):
            key = {"seed": seed, "set": note}
            if done("photos", key):
                continue
            run = Path(temporary) / f"run{seed}"
            words = [word for setting in options.set for word in ("--set", setting)]
            fitted = coterie("fit", photos, "-o", run, "--clusters", 10, "--seed", seed, *words)
            scores = coterie("evaluate", run, "--labels", "folders", "--protocol", "clusters,knn")
            figures = ("acc", "nmi", "ari", "knn_acc", "baseline_acc", "features_kmeans_acc")
            record(
                "photos", {**key, "n": fitted["n_images"], "fit_seconds": fitted["seconds"], **{k: round(scores[k], 4) for k in figures}}
            )


def ten_classes(temporary: Path) -> Path:
    """A folder with every tenth class of the file, unpacked."""
    with zipfile.ZipFile(data_folder() / "caltech101_photos160.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        classes = sorted({name.split("/")[-2] for name in names})[::10]
        archive.extractall(temporary, [name for name in names if name.split("/")[-2] in classes])
    return temporary / "photos"


if __name__ == "__main__":
    main()
