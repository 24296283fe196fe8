"""A set in Pascal VOC's layout, small and easy: on noise a red square (cat) or a blue cross (dog), perhaps both, and their masks."""

from pathlib import Path

import numpy as np
from PIL import Image

NAMES, NUMBER = ("cat", "dog"), {"cat": 8, "dog": 12}  # their numbers in VOC2007's masks


def write(home: Path, n: int = 16, size: int = 48, seed: int = 0) -> Path:
    """Folders with n pictures of size x (size + 16) px in trainval and n in test."""
    rng = np.random.default_rng(seed)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "SegmentationClass"):
        (home / folder).mkdir(parents=True)
    for part in ("trainval", "test"):
        names = [f"{part}{i:03}" for i in range(n)]
        (home / "ImageSets/Main" / f"{part}.txt").write_text("\n".join(names))
        for i, name in enumerate(names):
            pixels, mask = rng.integers(90, 130, (size, size + 16, 3), dtype=np.uint8), np.zeros((size, size + 16), np.uint8)
            objects = ""
            for kind in [NAMES[i % 2]] if i % 4 else NAMES:
                side = size // 3
                left, top = rng.integers(0, size // 2 + 8 - side) + (size // 2 + 8) * (kind == "dog"), rng.integers(0, size - side)
                square = np.zeros_like(mask, bool)
                square[top : top + side, left : left + side] = True
                pixels[square] = (230, 20, 20) if kind == "cat" else (20, 20, 230)
                mask[square] = NUMBER[kind]
                box = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + side}</xmax><ymax>{top + side}</ymax>"
                objects += f"<object><name>{kind}</name><difficult>0</difficult><bndbox>{box}</bndbox></object>"
            Image.fromarray(pixels).save(home / "JPEGImages" / f"{name}.png")
            Image.fromarray(mask).save(home / "SegmentationClass" / f"{name}.png")
            (home / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return home
