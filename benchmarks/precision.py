"""bf16 beside float32 on this CPU: `python -m benchmarks.precision [--tries 5]`. The fastest of some tries, in turns, a row each.

A product of two matrices on one core, as `--precision auto` tries it (docs/adr/0009); encoders forward, alone and with backward.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.record import record
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import machine

NETWORKS = (("small", 32, 256), ("small", 20, 256), ("resnet18-cifar", 32, 64))  # name, px, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    torch.set_num_threads(machine.cores())
    machine.keep_memory()
    for name, px, batch in NETWORKS:
        network, views = build(EncoderSpec(name, px)).to(memory_format=torch.channels_last), torch.rand(batch, 3, px, px)
        for what, work in {"forward and backward": trained, "forward": seen}.items():
            rates = {bf16: batch / took for bf16, took in fastest(work(network, views), tries).items()}
            told(f"{name}, {px} px", what, *rates.values())
    torch.set_num_threads(1)
    square = {False: torch.randn(1024, 1024), True: torch.randn(1024, 1024).bfloat16()}
    told("product of 1,024 x 1,024", "one core", *(1 / took for took in fastest(lambda bf16: square[bf16] @ square[bf16], tries).values()))


def told(of: str, what: str, fp32: float, bf16: float) -> None:
    row = {"of": of, "what": what, "threads": torch.get_num_threads(), "fp32": round(fp32), "bf16": round(bf16)}
    record("precision", row | {"ratio": round(bf16 / fp32, 2)})
    print(row, flush=True)


def fastest(work: Callable[[bool], object], tries: int) -> dict[bool, float]:
    """Seconds without and with bf16, of the fastest of `tries`, in turns."""
    found = {False: float("inf"), True: float("inf")}
    for _ in range(tries):
        for bf16 in found:
            begun = time.perf_counter()
            work(bf16)
            found[bf16] = min(found[bf16], time.perf_counter() - begun)
    return found


def trained(network: nn.Module, views: torch.Tensor) -> Callable[[bool], None]:
    def work(bf16: bool) -> None:
        network.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            z = network(views)
        z.float().sum().backward()

    return work


def seen(network: nn.Module, views: torch.Tensor) -> Callable[[bool], None]:
    @torch.inference_mode()
    def work(bf16: bool) -> None:
        network.eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            network(views)

    return work


if __name__ == "__main__":
    main()
