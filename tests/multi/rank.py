"""What each of two processes does: rank.py FOLDER, with WORLD_SIZE, RANK, LOCAL_RANK and MASTER_* set (or without, for one rank)."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from coterie import fitting
from coterie.clustering.kmeans import kmeans
from coterie.images import open_images
from coterie.methods import deepcluster
from coterie.networks.encoder import EncoderSpec, build, features
from coterie.run import Run, checkpoint
from coterie.run.devices import Devices

SETTINGS = {
    "image_size": 16,
    "pretext_epochs": 2,
    "pretext_batch": 8,
    "cluster_epochs": 2,
    "cluster_steps": 5,
    "selflabel_epochs": 0,
    "n_heads": 2,
}

CLUSTERING = {"image_size": 16, "epochs": 2, "batch": 8, "pseudo_clusters": 6, "restarts": 1}
DEEP = {"v1": CLUSTERING, "v2": CLUSTERING | {"variant": "v2", "small_views": 1}}
PURIFYING = {"image_size": 16, "epochs": 4, "batch": 8, "rounds": 2}
LABELLING = {"selflabel_epochs": 2, "selflabel_batch": 8, "threshold": 0.3, "pretext_epochs": 1}


def main(folder: Path) -> None:
    devices = Devices("cpu", "fp32", 1)
    run = Run(folder / "run", seed=3, devices=devices)
    pixels = np.load(folder / "pictures.npy")
    images = open_images(pixels)
    encoder = run.new("encoder", lambda: build(EncoderSpec("small", 16)).double())  # of batches of other sizes, so in float64
    z_ND = run.once("features", features, encoder, images, run, batch_size=4)
    kept = run.once("features", features, encoder, images, run, batch_size=4)  # the second time from the disk
    clusters = kmeans(z_ND, 4, run.rng("k-means"), init="k-means++", run=run)
    wide = kmeans(torch.from_numpy(np.load(folder / "rows.npy")), 7, run.rng("k-means"), run=run)
    order = torch.cat([batch.index_B for batch in run.batches(images, 3, run.rng("order"))])
    said = {
        "rank": run.rank,
        "world": run.world,
        "order": order.tolist(),
        "sum": run.sum(torch.tensor([run.rank + 1.0])).item(),
        "gathered": run.gather(torch.tensor([[run.rank, 7]])).tolist(),
        "broadcast": run.broadcast(torch.tensor([run.rank + 5])).item(),
    }
    tensors = {"features": z_ND, "kept": kept, "labels": clusters.labels_N, "centroids": clusters.centroids_KD}
    tensors |= {"wide": wide.labels_N, "wide sizes": wide.sizes_K}
    checkpoint.save(folder / f"blocks-{run.rank}of{run.world}.safetensors", tensors)
    run.close()

    fits = {"fit": (SETTINGS, None), "hurried": (SETTINGS | {"pretext_epochs": 5000}, 0.5), "labelled": (SETTINGS | LABELLING, None)}
    fits |= {"purified": (PURIFYING, None)}
    for name, (settings, budget) in fits.items():
        if run.world > 1:
            method = "pcp" if name == "purified" else "scan"
            images, plan = fitting.plan(pixels, method, clusters=4, preset="quick", settings=settings, seed=1)
            made = _weights_of(images, plan, folder / name, devices, budget)
            checkpoint.save(folder / f"{name}-{run.rank}.safetensors", made)
    for name, settings in DEEP.items():
        images, plan = fitting.plan(pixels, "deepcluster", clusters=4, preset="quick", settings=settings, seed=1)
        fitted = deepcluster.fit(images, plan.config, Run(folder / f"{name}-{run.world}", seed=1, devices=devices))
        parts = {f"encoder.{key.removeprefix('module.')}": value.clone() for key, value in fitted.encoder.state_dict().items()}
        checkpoint.save(folder / f"{name}-{run.rank}of{run.world}.safetensors", parts | {"p": fitted.p_NK})
    kmeans_images, plan = fitting.plan(pixels, "kmeans", clusters=4, preset="quick", settings={"image_size": 16, "restarts": 2}, seed=1)
    said["sizes"] = fitting.fit(kmeans_images, plan, folder / f"k-means-{run.world}", devices=devices)["sizes"]
    said["again"] = fitting.fit(kmeans_images, plan, folder / f"k-means-{run.world}", devices=devices)["sizes"]
    (folder / f"said-{run.rank}of{run.world}.json").write_text(json.dumps(said))


def _weights_of(images, plan, folder: Path, devices: Devices, budget: float | None) -> dict[str, torch.Tensor]:
    """The weights of this rank's own copy after a fit."""
    from coterie.methods import method, scan

    found = {}
    home = method(plan.method)
    fit = home.fit

    def watched(*given):
        fitted = fit(*given)
        for part in ("encoder", "head"):
            found.update(
                {f"{part}.{key.removeprefix('module.')}": value.clone() for key, value in getattr(fitted, part).state_dict().items()}
            )
        found["p"] = fitted.p_NK
        return fitted

    home.fit = watched
    tolerance, scan.TOLERANCE = scan.TOLERANCE, 10.0  # so that self-labelling this short is not undone
    try:
        fitting.fit(images, plan, folder, devices=devices, time_budget=budget)
    finally:
        home.fit, scan.TOLERANCE = fit, tolerance
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
