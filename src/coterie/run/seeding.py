"""Every random draw starts here: a generator is a function of (seed, keys) alone, on any device, in any order of calls."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(seed: int, *keys: str | int) -> int:
    """A 63-bit integer from (seed, keys); equal arguments give equal integers on every machine."""
    return int.from_bytes(hashlib.sha256(json.dumps([seed, *keys]).encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: str | int) -> torch.Generator:
    """A fresh CPU generator for (seed, keys). Draws are made on the CPU, so that every device sees the same ones."""
    return torch.Generator().manual_seed(seed_of(seed, *keys))


@contextmanager
def forked(seed: int, *keys: str | int) -> Iterator[None]:
    """Inside, torch's global generators start from (seed, keys); outside, they are as they were. For code that takes no generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, *keys))
        yield
