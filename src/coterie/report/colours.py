"""One colour per cluster, distinct from the others and from light and dark paper alike."""

from functools import cache

import numpy as np

LIGHTNESS = (0.55, 0.63, 0.71, 0.79)  # OKLab; between the two papers
CHROMA = (0.08, 0.13, 0.17)
HUES = 72
FIRST = 0.13, 255.0  # chroma, hue in degrees: a calm blue to begin with


@cache
def colours(k: int) -> tuple[str, ...]:
    """k colours as #rrggbb. Each is as far as can be, in OKLab, from all before it; the first few are the same for every k."""
    lab_C3 = _candidates()
    first = np.array([0.63, FIRST[0] * np.cos(np.radians(FIRST[1])), FIRST[0] * np.sin(np.radians(FIRST[1]))])
    chosen = [int(np.square(lab_C3 - first).sum(1).argmin())]
    nearest_C = np.full(len(lab_C3), np.inf)
    while len(chosen) < k:
        nearest_C = np.minimum(nearest_C, np.square(lab_C3 - lab_C3[chosen[-1]]).sum(1))
        chosen.append(int(nearest_C.argmax()))
    return tuple(_hex(rgb) for rgb in _srgb(lab_C3[chosen[:k]]))


def _candidates() -> np.ndarray:
    """OKLab colours (C, 3) that a screen can show."""
    l, c, h = (grid.ravel() for grid in np.meshgrid(LIGHTNESS, CHROMA, np.linspace(0, 2 * np.pi, HUES, endpoint=False), indexing="ij"))
    lab_C3 = np.stack([l, c * np.cos(h), c * np.sin(h)], axis=1)
    rgb_C3 = _linear(lab_C3)
    return lab_C3[((rgb_C3 >= 0) & (rgb_C3 <= 1)).all(1)]


def _linear(lab_C3: np.ndarray) -> np.ndarray:
    """OKLab to linear sRGB (Ottosson 2020)."""
    to_lms = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return (lab_C3 @ to_lms.T) ** 3 @ to_rgb.T


def _srgb(lab_C3: np.ndarray) -> np.ndarray:
    rgb_C3 = _linear(lab_C3).clip(0, 1)
    return np.where(rgb_C3 <= 0.0031308, 12.92 * rgb_C3, 1.055 * rgb_C3 ** (1 / 2.4) - 0.055)


def _hex(rgb: np.ndarray) -> str:
    return "#" + "".join(f"{round(float(channel) * 255):02x}" for channel in rgb)
