"""Features that a pretext learned from a set alone, for what begins with features: `python -m benchmarks.learned mnist -o FEATURES.npz`.

    [--seed 100] [--first 10000] [--epochs 24]     # as SCAN's preset of the set has them, where nothing else is said

FEATURES.npz gets x (N, D), float32, and y (N,), the true classes, which only draws and scores may read. No row is written.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.choosing_k import FIRST_SEED, SCRATCH, learned, pictures_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SCRATCH)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=FIRST_SEED)
    parser.add_argument("--first", type=int, default=0, help="pictures taken, 0: all")
    parser.add_argument("--epochs", type=int, default=0, help="of the pretext; 0: as many as the preset has")
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, y = (rows[: args.first or None] for rows in pictures_of(args.set))
    np.savez(args.output, x=learned(images, SCRATCH[args.set], args.seed, args.epochs).numpy(), y=y)


if __name__ == "__main__":
    main()
