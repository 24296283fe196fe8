"""SimCLR as a fit trains it, against the same training as it is usually written: `python -m benchmarks.conventional [--device cuda]`.

Images per second of the second epoch of two, as the history has them, against an epoch of benchmarks/torchvision_simclr.py, always fp32.
Ours and the other take turns, a pair a row after one pair to warm up; the ratio is ours / other. Pictures are random, 32 px, in memory.
On a CPU only where pictures are the bottleneck, with the encoder `small`. Target: at least 5.
What a fit costs beside its network is another table: `coterie bench speed`.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.record import record
from benchmarks.torchvision_simclr import conventional
from coterie.images import Images, open_images
from coterie.methods import pretext
from coterie.methods.pretext import PretextConfig
from coterie.run import Run
from coterie.run.devices import Devices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", nargs="+", default=["small", "resnet18-cifar"])
    parser.add_argument("--size", type=int, default=32, help="of the pictures, px")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, help="how many in place of some seconds' worth")
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    devices = Devices(options.device, "auto", options.threads)
    on_cpu, batch = devices.device.type == "cpu", options.batch
    for name in options.encoder:
        if on_cpu and not name.startswith("small"):
            continue
        config = PretextConfig(encoder=name, image_size=options.size, pretext_epochs=2, pretext_batch=batch)
        images = pictures(options.images or (16 if on_cpu else 100) * batch, options.size)
        fewer = images[: 32 * batch]  # an epoch that is long enough to time
        epoch, whole = conventional(fewer.pixels.numpy(), config, devices.device), len(fewer) // batch * batch
        for pair in range(-1, options.pairs):
            ours, other = trained(images, config, devices), whole / seconds(epoch, devices)
            if pair < 0:
                continue
            row = {"encoder": name, "size": options.size, "batch": batch, "precision": devices.precision}
            row |= {"threads": torch.get_num_threads(), "pair": pair, "ours": f"{ours:.5g}", "other": f"{other:.5g}"}
            row |= {"ratio": round(ours / other, 3), "unit": "images/s"}
            record("conventional", row)
            print(row, flush=True)


def trained(images: Images, config: PretextConfig, devices: Devices) -> float:
    run = Run(devices=devices)
    pretext.train(images, config, run)
    run.close()
    return run.history[-1]["images_per_second"]


def pictures(n: int, size: int) -> Images:
    return open_images(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def seconds(work: Callable[[], object], devices: Devices) -> float:
    wait = torch.cuda.synchronize if devices.device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
