"""What everything around the network costs: `python -m benchmarks.speed [--what simclr features heads torchvision] [--device cuda]`.

Ours and the other take turns, a pair a row after one pair to warm up; the ratio is ours / other. Pictures are random, 32 px, in memory.

simclr       Images per second of SimCLR as a fit trains it: batches, augmentation, network, loss, AdamW; as the history has them for the
             second epoch of two, since the first also places the pictures and makes AdamW's state. Against forward and backward of the
             same encoder and projector on ready views, same autocast and memory format, no loss, no optimizer, after one step to warm
             up. Target: at least 0.95 for each encoder.
features     Images per second of `encoder.features`, against the forward pass alone, in eval mode under inference_mode and the same
             autocast, on a ready batch. Target: at least 0.95.
heads        Seconds of SCAN's clustering stage, five epochs on 10,000 random features x 128, with 10 heads against 1; also 20 against 1.
             Target: at most 1.3.
prototypes   Seconds of SPICE's second stage, two epochs on 10,000 random features x 128, no encoder in it, with 10 heads against 1.
             Target: at most 1.3.
torchvision  The images per second of `simclr` in the device's own precision, against an epoch of benchmarks/torchvision_simclr.py, always
             fp32. On a CPU only where pictures are the bottleneck, with the encoder `small`. Target: at least 5.

The other side shares our process, and so our cuDNN settings (deterministic, TF32 allowed).
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.record import record
from benchmarks.torchvision_simclr import conventional
from coterie.images import Images, open_images
from coterie.images.collection import open_rows
from coterie.methods import pretext, scan, spice
from coterie.methods.pretext import PretextConfig
from coterie.networks.encoder import PRECOMPUTED, EncoderSpec, build, features
from coterie.networks.heads import Projector
from coterie.run import Run
from coterie.run.devices import Devices

Pair = tuple[int, Callable[[], float], Callable[[], float]]  # batch, ours, other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--encoder", nargs="+", default=["small", "resnet18-cifar"])
    parser.add_argument("--precision", nargs="+", default=["auto", "bf16"], help="for simclr and features")
    parser.add_argument("--size", type=int, default=32, help="of the pictures, px")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, help="how many (rows of features for heads) in place of some seconds' worth")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    for what in options.what:
        precisions = {"heads": ["fp32"], "prototypes": ["fp32"], "torchvision": ["auto"]}.get(what, options.precision)
        places = {place.precision: place for place in (Devices(options.device, name, options.threads) for name in precisions)}
        for devices in places.values():
            for name in {"heads": ["10 heads", "20 heads"], "prototypes": ["10 heads"]}.get(what, options.encoder):
                if what == "torchvision" and slow(name, devices):
                    continue
                batch, ours, other = WHAT[what](name, devices, options)
                size, unit = ("", "x time") if name.endswith(" heads") else (options.size, "images/s")
                row = {"what": what, "encoder": name, "size": size, "batch": batch, "precision": devices.precision}
                ours(), other()
                for pair in range(options.pairs):
                    row |= {"threads": torch.get_num_threads(), "pair": pair, "ours": f"{ours():.5g}", "other": f"{other():.5g}"}
                    row |= {"ratio": round(float(row["ours"]) / float(row["other"]), 3), "unit": unit}
                    record("speed", row)
                    print(row, flush=True)


def simclr(encoder: str, devices: Devices, options: argparse.Namespace) -> Pair:
    config, images = training(encoder, devices, options)
    run, batch = Run(devices=devices), config.pretext_batch
    network = run.new("encoder", build, EncoderSpec(encoder, options.size))
    network = nn.Sequential(network, run.new("projector", Projector, network.n_features, config.projection)).train()
    ready = next(run.batches(images[torch.arange(2 * batch) % len(images)], 2 * batch)).pixels_B3HW

    def bare(steps: int) -> None:
        for _ in range(steps):
            network.zero_grad()
            with run.autocast():
                z = network(ready)
            z.sum().backward()

    def other() -> float:
        bare(1)
        steps = len(images) // batch
        return steps * batch / seconds(lambda: bare(steps), devices)

    return batch, lambda: trained(images, config, devices), other


def encode(encoder: str, devices: Devices, options: argparse.Namespace) -> Pair:
    batch, run = options.batch or 512, Run(devices=devices)
    n = options.images or (40_960 if devices.device.type == "cuda" else 2048)
    images = pictures(-(-n // batch) * batch, options.size)  # whole batches
    network = run.new("encoder", build, EncoderSpec(encoder, options.size)).eval()
    ready = next(run.batches(images, batch)).pixels_B3HW

    @torch.inference_mode()
    def bare() -> None:
        for _ in range(len(images) // batch):
            with run.autocast():
                network(ready)

    def rate(work: Callable[[], object]) -> float:
        return len(images) / seconds(work, devices)

    return batch, lambda: rate(lambda: features(network, images, run, batch)), lambda: rate(bare)


def heads(many: str, devices: Devices, options: argparse.Namespace) -> Pair:
    n, generator = options.images or 10_000, torch.Generator().manual_seed(0)
    z_ND = torch.randn(n, 128, generator=generator).to(devices.device)
    neighbours_NK = torch.randint(n, (n, 20), generator=generator).to(devices.device)

    def clustered(n_heads: int) -> float:
        config = scan.Config(n_heads=n_heads, cluster_epochs=5)
        return seconds(lambda: scan.cluster(z_ND, neighbours_NK, config, Run(devices=devices)), devices)

    return min(n, scan.Config.cluster_batch), lambda: clustered(int(many.split()[0])), lambda: clustered(1)


def prototypes(many: str, devices: Devices, options: argparse.Namespace) -> Pair:
    n = options.images or 10_000
    z_ND = torch.randn(n, 128, generator=torch.Generator().manual_seed(0))
    rows, neighbours_NK = open_rows(z_ND), torch.randint(n, (n, 20), generator=torch.Generator().manual_seed(1)).to(devices.device)

    def learned(n_heads: int) -> float:
        config, run = spice.Config(encoder=PRECOMPUTED, n_heads=n_heads, head_epochs=2), Run(devices=devices)
        encoder = run.new("encoder", build, EncoderSpec(PRECOMPUTED, 0))
        placed = z_ND.to(devices.device)
        return seconds(lambda: spice.learn_prototypes(encoder, placed, neighbours_NK, rows, config, run), devices)

    return 1000, lambda: learned(int(many.split()[0])), lambda: learned(1)


def torchvision(encoder: str, devices: Devices, options: argparse.Namespace) -> Pair:
    config, images = training(encoder, devices, options)
    fewer = images[: 32 * config.pretext_batch]  # an epoch that is long enough to time
    epoch, whole = conventional(fewer.pixels.numpy(), config, devices.device), len(fewer) // config.pretext_batch * config.pretext_batch
    return config.pretext_batch, lambda: trained(images, config, devices), lambda: whole / seconds(epoch, devices)


WHAT = {"simclr": simclr, "features": encode, "heads": heads, "prototypes": prototypes, "torchvision": torchvision}


def training(encoder: str, devices: Devices, options: argparse.Namespace) -> tuple[PretextConfig, Images]:
    """Settings of two epochs, and pictures for some seconds of one."""
    batch = options.batch or (128 if slow(encoder, devices) else 256)
    steps = 2 if slow(encoder, devices) else 16 if devices.device.type == "cpu" else 100
    config = PretextConfig(encoder=encoder, image_size=options.size, pretext_epochs=2, pretext_batch=batch)
    return config, pictures(options.images or steps * batch, options.size)


def slow(encoder: str, devices: Devices) -> bool:
    """Whether the network leaves so few images a second that little else can matter."""
    return devices.device.type == "cpu" and not encoder.startswith("small")


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
