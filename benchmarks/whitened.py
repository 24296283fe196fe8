"""Among which features SCAN finds neighbours best, and how it labels itself then: `python -m benchmarks.whitened digits [--axes 0 64]`.

The pretext of a preset learns digits, a seed at a time (0 to 9 chose the defaults; nothing else is told from here). For each number of axes
to which its features are whitened (0: as they are) a row of whitened.csv: how many of an image's neighbours have its label (purity), ACC of
the chosen head, and ACC after self-labelling by two rates and memories (fast, gentle). No label chose anything within a fit.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.record import done, record
from coterie.evaluate.metrics import accuracy
from coterie.fitting import presets
from coterie.images import Images, open_images
from coterie.methods import pretext, scan
from coterie.methods.fitted import Fitted
from coterie.networks.encoder import features
from coterie.run import Run
from coterie.run.devices import Devices

AXES = 0, 32, 64, 128
WAYS = {"fast": (2e-3, 2.5), "gentle": (1e-3, 5.0)}  # rate and memory of self-labelling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=("quick", "digits"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--axes", type=int, nargs="*", default=list(AXES))
    asked = parser.parse_args()
    devices, labels = Devices(), load_digits().target
    for seed in range(asked.seeds):
        keys = [{"set": "digits", "preset": asked.preset, "seed": seed, "components": n} for n in asked.axes]
        if all(done("whitened", key) for key in keys):
            continue
        own = presets.settings("scan", asked.preset, len(labels), gpu=False, own="digits")
        config = scan.Config(**own | {"n_clusters": 10, "encoder": "small"})
        images, run = open_images("digits", size=config.image_size), Run(seed=seed, devices=devices)
        encoder = pretext.train(images, config, run)
        z_ND = features(encoder, images, run)
        run.close()
        for key in keys:
            if not done("whitened", key):
                ends = replace(config, neighbor_components=key["components"])
                record("whitened", key | judged(encoder, z_ND, labels, images, ends, seed, devices))


def judged(
    encoder: nn.Module, z_ND: Tensor, labels: NDArray[np.int64], images: Images, config: scan.Config, seed: int, devices: Devices
) -> dict[str, float]:
    run = Run(seed=seed, devices=devices)
    neighbours_NK = scan.neighbours(z_ND, config, run)
    head = scan.cluster(z_ND, neighbours_NK, config, run)
    run.close()
    clustered, labels_N = Fitted.from_parts(encoder, head, z_ND), torch.as_tensor(labels)
    row = {
        "purity": round(float((labels_N[neighbours_NK] == labels_N[:, None]).float().mean()), 4),
        "heads_acc": round(accuracy(labels, clustered.p_NK.argmax(1).numpy()), 4),
    }
    for way, (rate, memory) in WAYS.items():
        run = Run(seed=seed, devices=devices)
        gone_on = replace(config, selflabel_rate=rate, average_epochs=memory)
        p_NK = scan.self_label(clustered, neighbours_NK, images, gone_on, run).p_NK
        row[f"{way}_acc"] = round(accuracy(labels, p_NK.argmax(1).numpy()), 4)
        run.close()
    return row


if __name__ == "__main__":
    main()
