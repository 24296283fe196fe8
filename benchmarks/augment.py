"""Fused augmentation against kornia on the SimCLR recipe at 32 px, in turns on the CPU: `python -m benchmarks.augment`."""

import time
from collections.abc import Callable

import kornia.augmentation as K
import torch

from benchmarks.record import record
from coterie import augment

BATCH, SIZE, PAIRS, CALLS = 512, 32, 5, 4


def main() -> None:
    threads = torch.get_num_threads()
    pixels = torch.rand(BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    theirs = K.AugmentationSequential(
        K.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )
    view = augment.pretext("photos")
    generator = torch.Generator().manual_seed(0)
    ours_rate, theirs_rate = zip(*[(rate(lambda: view(pixels, generator)), rate(lambda: theirs(pixels))) for _ in range(PAIRS + 1)][1:])
    for pair, (ours, other) in enumerate(zip(ours_rate, theirs_rate)):
        row = {"recipe": "simclr", "size": SIZE, "batch": BATCH, "threads": threads, "pair": pair}
        record("augment", {**row, "images_per_second": round(ours), "kornia": round(other), "ratio": round(ours / other, 2)})


def rate(call: Callable[[], object]) -> float:
    """Images per second of `call` on one batch."""
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return CALLS * BATCH / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
