"""What a method returns. Shapes: N images, B batch, D feature, K clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Fitted:
    """What a method returns: `encoder` (B, 3, S, S) -> (B, D), `head` (B, D) -> logits (1, B, K), and both applied to the images.

    features_ND are the clean images' features, p_NK their probabilities; row i is image i.
    """

    encoder: nn.Module
    head: nn.Module
    features_ND: Tensor
    p_NK: Tensor

    @staticmethod
    def from_parts(encoder: nn.Module, head: nn.Module, features_ND: Tensor) -> "Fitted":
        with torch.no_grad():
            p_NK = head(features_ND)[0].float().softmax(1)
        return Fitted(encoder, head, features_ND, p_NK)
