import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Pictures this small gain nothing from a second thread, and where the cores are busy threads wait for each other; what wants more
    says so."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def drawn():
    """(n, size, seed) -> n small pictures uint8 (n, size, size, 3) of four kinds, a coloured bar, disc, cross or checker on noise;
    picture i is of kind i % 4."""

    def draw(n: int = 120, size: int = 24, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:size, :size]
        pictures = rng.integers(0, 70, (n, size, size, 3))
        for i, picture in enumerate(pictures):
            colour = np.eye(3)[i % 4 % 3] * 160 + rng.integers(20, 60, 3)
            cy, cx = rng.integers(size // 3, 2 * size // 3, 2)
            bar, disc = abs(y - cy) < size // 8, (y - cy) ** 2 + (x - cx) ** 2 < (size // 4) ** 2
            cross, checker = (abs(y - cy) < size // 12) | (abs(x - cx) < size // 12), (y // 5 + x // 5) % 2 == 0
            picture[(bar, disc, cross, checker)[i % 4]] = colour
        return pictures.clip(0, 255).astype(np.uint8)

    return draw
