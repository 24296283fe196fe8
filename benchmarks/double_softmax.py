"""How much more slowly SPICE's heads learn through two softmaxes than through one: its figure A.1. `python -m benchmarks.double_softmax`.

Draws docs/methods/double-softmax.png; nothing is trained. K clusters, p their probabilities (first softmax), q = softmax(p) (second one),
y the pseudo-label. The cross-entropy's derivative with respect to a logit i is p_i - [i = y] with one softmax. With two it is

    p_i (q_i - [i = y] - S),  S = sum_j (q_j - [j = y]) p_j = sum_j q_j p_j - p_y

so their ratio is q_i + p_y - sum_j q_j p_j for a logit other than the pseudo-label's, and p_y (1 - q_y + S) / (1 - p_y) for that one.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

PICTURE = Path(__file__).parent.parent / "docs" / "methods" / "double-softmax.png"
COUNTS = (10, 100)  # clusters of the left curve
EXAMPLE = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.1, 0.12, 0.5)  # probabilities of the right drawing
LABEL = 2  # its pseudo-label; the head would rather say cluster 9
BLUE, ORANGE, SOFT = "#3a6fb0", "#c2571a", "#68686e"


def ratios(p_K: np.ndarray, label: int) -> np.ndarray:
    """The derivative of the double softmax's loss over that of the single one's, for each logit, float64 (K,); p_K sums to 1, p_y < 1."""
    q_K = np.exp(p_K) / np.exp(p_K).sum()
    slope = float(q_K @ p_K - p_K[label])
    found_K = q_K - slope
    found_K[label] = p_K[label] * (1 - q_K[label] + slope) / (1 - p_K[label])
    return found_K


def alike(p: float, k: int) -> np.ndarray:
    """Probabilities (K,) with p for the pseudo-label 0 and the rest shared evenly."""
    return np.array([p, *[(1 - p) / (k - 1)] * (k - 1)])


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    p_M = np.linspace(0.002, 0.998, 250)
    for k, style in zip(COUNTS, ("-", "--")):
        ratio_M = [ratios(alike(p, k), 0)[0] for p in p_M]
        left.plot(p_M, ratio_M, style, color=BLUE, label=f"{k} clusters")
    left.set(xlabel="probability of the pseudo-label", ylabel="gradient, double / single softmax", xlim=(0, 1), ylim=(0, 1))
    left.set_title("The logit of the pseudo-label,\nthe other clusters equally likely", loc="left", fontsize=9.5)
    left.legend(frameon=False)

    p_K = np.array(EXAMPLE)
    ratio_K = ratios(p_K, LABEL)
    bars = right.bar(range(len(p_K)), ratio_K, color=[ORANGE if i == LABEL else BLUE for i in range(len(p_K))])
    right.bar_label(bars, [f"{value:.3f}" for value in ratio_K], fontsize=7, color=SOFT, padding=2)
    right.axhline(0, color=SOFT, linewidth=0.8)
    right.set_xticks(range(len(p_K)), [f"{p:g}" for p in p_K], fontsize=7.5)
    right.set(xlabel="probability of each cluster (orange: the pseudo-label)", ylim=(ratio_K.min() - 0.004, ratio_K.max() * 1.1))
    right.set_title("Every logit of one image whose head\nwould rather say the last cluster", loc="left", fontsize=9.5)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    Image.open(drawn).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
