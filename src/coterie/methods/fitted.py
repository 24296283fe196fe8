"""What a method returns. Shapes: N images, B batch, D feature, K clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coterie.learning.diagnose import agreement
from coterie.run import Run

TOLERANCE = 0.03  # agreement with the pretext's neighbours that a stage may cost: those neighbours are not all right either


@dataclass
class Fitted:
    """What a method returns: `encoder` (B, 3, S, S) -> (B, D), `head` (B, D) -> logits (1, B, K), and both applied to the images.

    features_ND are the clean images' features, p_NK their probabilities; row i is image i. maps_RNhw: attention maps of all images after
    each of several rounds, uint8, where a method has rounds and its encoder maps.
    """

    encoder: nn.Module
    head: nn.Module
    features_ND: Tensor
    p_NK: Tensor
    maps_RNhw: Tensor | None = None

    @staticmethod
    def from_parts(encoder: nn.Module, head: nn.Module, features_ND: Tensor) -> "Fitted":
        with torch.no_grad():
            p_NK = head(features_ND)[0].float().softmax(1)
        return Fitted(encoder, head, features_ND, p_NK)


def unless_worse(after: Fitted, before: Fitted, neighbours_NK: Tensor, stage: str, run: Run) -> Fitted:
    """`after`, or `before` when the neighbours agree clearly less with `after`; a note says which."""
    was, now = (agreement(fitted.p_NK.argmax(1), neighbours_NK) for fitted in (before, after))
    told = f"neighbours agreed {was:.3f} before it and {now:.3f} after (1 = always, 0 = by chance)"
    if now >= was - TOLERANCE:
        run.note(f"{stage} is kept: {told}")
        return after
    run.note(f"{stage} is undone: {told}")
    return before
