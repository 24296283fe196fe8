"""SimCLR as it is usually written: PIL pictures, torchvision's transforms twice per picture, a DataLoader of two processes, fp32."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

from coterie.learning.losses import nt_xent
from coterie.methods.pretext import PretextConfig
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Projector


class TwoViews(Dataset):
    """Pictures uint8 (N, S, S, 3), each as two tensors (3, S, S)."""

    def __init__(self, pixels: np.ndarray):
        self.pictures = [Image.fromarray(picture) for picture in pixels]
        colour = [T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8), T.RandomGrayscale(p=0.2)]
        crop = [T.RandomResizedCrop(pixels.shape[1], scale=(0.2, 1)), T.RandomHorizontalFlip()]
        self.view = T.Compose([*crop, *colour, T.ToTensor(), T.Normalize((0.5,) * 3, (0.25,) * 3)])

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.view(self.pictures[i]), self.view(self.pictures[i])


def conventional(pixels: np.ndarray, config: PretextConfig, device: torch.device) -> Callable[[], None]:
    """What trains one epoch, whole batches only; network, loss and optimizer are those of `config`."""
    encoder = build(EncoderSpec(config.encoder, config.image_size))
    network = nn.Sequential(encoder.backbone, Projector(encoder.n_features, config.projection)).to(device)  # Normalize standardises
    optimizer = torch.optim.AdamW(network.parameters(), config.pretext_rate, weight_decay=config.pretext_decay)
    settings = {"shuffle": True, "drop_last": True, "num_workers": 2, "persistent_workers": True, "pin_memory": device.type == "cuda"}
    loader = DataLoader(TwoViews(pixels), config.pretext_batch, **settings)

    def epoch() -> None:
        for first, second in loader:
            z = network(torch.cat([first, second]).to(device, non_blocking=True))
            loss = nt_xent(torch.stack(z.chunk(2), 1), config.pretext_temperature, symmetric=True)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch
