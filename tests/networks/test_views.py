"""Views of a frozen encoder are drawn once and take turns; of one that learns they are always new."""

import numpy as np
import torch
from torch import nn

from coterie.images import open_images
from coterie.networks.views import Seen
from coterie.run import Run
from coterie.run.devices import Devices


class Means(nn.Module):
    """An encoder whose features are an image's mean colours; it counts what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return x.mean((2, 3)) * self.scale


def brighter(pixels_B3HW: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return pixels_B3HW + torch.rand(len(pixels_B3HW), 1, 1, 1, generator=rng)


def clean(pixels_B3HW: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return pixels_B3HW


def seen_of(draws: int = 2) -> tuple[Seen, Means, torch.Tensor]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    encoder = Means()
    return (
        Seen(encoder, open_images(pixels), (clean, brighter), Run(devices=Devices("cpu", "fp32", 1)), draws),
        encoder,
        torch.from_numpy(pixels).float().div(255).mean((1, 2)),
    )


BATCHES = torch.randperm(20, generator=torch.Generator().manual_seed(0)).split(8)


def second(seen: Seen, epoch: int) -> torch.Tensor:
    rows = [learned(torch.arange(len(index)).flip(0)[None]) for index, (_, learned) in zip(BATCHES, seen.frozen(BATCHES, epoch))]
    return torch.cat(rows, 1)


def test_a_frozen_encoder_sees_each_view_once():
    seen, encoder, means_ND = seen_of()
    for index, (first_BD, learned) in zip(BATCHES, seen.frozen(BATCHES, 0)):
        assert torch.allclose(first_BD, means_ND[index], atol=1e-5)
        up_BD = learned(torch.arange(len(index))[None])[0] - means_ND[index]
        assert torch.allclose(up_BD, up_BD[:, :1].expand_as(up_BD), atol=1e-5) and (up_BD > -1e-5).all() and up_BD.std() > 0.1
    drawn = {epoch: second(seen, epoch) for epoch in range(5)}
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3]) and torch.equal(drawn[0], drawn[4])
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-2)
    assert encoder.seen == 2 * 2 * 20, "two draws of two views of twenty images"


def test_an_encoder_that_learns_sees_new_views_and_gets_a_gradient():
    seen, encoder, means_ND = seen_of()
    ups = []
    for epoch in (0, 1):
        for index, (first_BD, learned) in zip(BATCHES, seen.anew(BATCHES, epoch)):
            assert torch.allclose(first_BD, means_ND[index], atol=1e-5) and not first_BD.requires_grad
            rows_HM = torch.stack([torch.arange(len(index)), torch.zeros(len(index), dtype=torch.int64)])
            before = encoder.seen
            z_HMD = learned(rows_HM)
            assert encoder.seen - before == len(index), "what two heads chose passes once"
            assert encoder.training and z_HMD.requires_grad and torch.equal(z_HMD[1, 0], z_HMD[0, 0])
            ups.append((z_HMD[0] - means_ND[index]).detach())
    half = len(ups) // 2
    assert not torch.allclose(torch.cat(ups[:half]), torch.cat(ups[half:]), atol=1e-2)
