"""A fitted model: an encoder and a head, saved as one file, that sorts new pictures into the clusters that exist."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coterie.errors import InputError
from coterie.images import Images
from coterie.networks.encoder import PRECOMPUTED, Encoder, EncoderSpec, build, features
from coterie.networks.heads import Centroids, Heads, MlpHeads, UnitCentroids, UnitHeads
from coterie.run import Run, checkpoint
from coterie.run.devices import Devices, unwrap

HEADS: dict[str, type[nn.Module]] = {kind.__name__: kind for kind in (Heads, UnitHeads, MlpHeads, Centroids, UnitCentroids)}
FILE = "model.safetensors"


@dataclass
class Model:
    """`encoder` (B, 3, S, S) -> (B, D); `head` (B, D) -> logits (1, B, K)."""

    encoder: nn.Module
    head: nn.Module
    image_size: int
    n_features: int
    n_clusters: int

    @property
    def precomputed(self) -> bool:
        """Whether it was fitted on features and takes features."""
        encoder = unwrap(self.encoder)
        return isinstance(encoder, Encoder) and encoder.spec.name == PRECOMPUTED

    def features(self, images: Images, run: Run) -> Tensor:
        """Features (N, D) float32 of new images."""
        return features(self.encoder, images, run)

    @torch.no_grad()
    def probabilities(self, features_ND: Tensor) -> Tensor:
        """Probabilities (N, K) float32 of features."""
        return self.head(features_ND)[0].float().softmax(1)

    def save(self, path: Path) -> None:
        encoder = unwrap(self.encoder)
        assert isinstance(encoder, Encoder)
        state: dict[str, Any] = {
            "encoder": encoder.spec.name,
            "projection": encoder.spec.projection,
            "encoder_state": encoder.state_dict(),
            "head": type(unwrap(self.head)).__name__,
            "head_state": unwrap(self.head).state_dict(),
            "image_size": self.image_size,
            "n_features": self.n_features,
            "n_clusters": self.n_clusters,
        }
        checkpoint.save(path, state, keep_previous=False)


def load(folder: Path, devices: Devices) -> Model:
    """The model of a run folder, on the device. Raises InputError naming what is missing or damaged."""
    path = Path(folder) / FILE
    if not path.exists():
        raise InputError(f"{folder} holds no {FILE}: no such run, or its fit is not finished")
    state = checkpoint.load(path)
    encoder = build(EncoderSpec(state["encoder"], state["image_size"], state.get("projection", 0)))  # runs of 0.1 before it have none
    encoder.load_state_dict(state["encoder_state"])
    head = HEADS[state["head"]](state["n_features"], state["n_clusters"])
    head.load_state_dict(state["head_state"])
    placed = devices.place(encoder.eval().requires_grad_(False)), devices.place(head.requires_grad_(False))
    return Model(*placed, state["image_size"], state["n_features"], state["n_clusters"])
