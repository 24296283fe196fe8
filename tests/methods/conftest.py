"""Pictures that say who they are, and an encoder that says who it was shown: for tests of how a method's blocks are joined."""

import numpy as np
import pytest
import torch
from torch import nn

from coterie.images import Images, open_images
from coterie.run import Run
from coterie.run.devices import Devices

N = 24


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run", devices=Devices("cpu", "fp32", 1))


@pytest.fixture
def images() -> Images:
    """Picture i is of the grey i, 0 to 23 of 255."""
    return open_images(np.arange(N, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3))


@pytest.fixture
def watch(monkeypatch):
    """(place, name) -> a list of what is given to that function from now on, and of its answers: (arguments, answer), tensors as they were
    at the call."""

    def on(place, name: str) -> list[tuple[list, object]]:
        real, calls = getattr(place, name), []

        def watched(*given, **more):
            was = [one.detach().clone() if isinstance(one, torch.Tensor) else one for one in (*given, *more.values())]
            answer = real(*given, **more)
            calls.append((was, answer))
            return answer

        monkeypatch.setattr(place, name, watched)
        return calls

    return on


@pytest.fixture
def drawn_ids(monkeypatch) -> list[torch.Tensor]:
    """The ids of each batch that a run gives from now on."""
    ids, batches = [], Run.batches

    def watched(self, *given, **more):
        for batch in batches(self, *given, **more):
            ids.append(batch.index_B.clone())
            yield batch

    monkeypatch.setattr(Run, "batches", watched)
    return ids


def who(pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """Whom these pixels show; `negative` ones show 255 less that."""
    return (pixels_B3HW[:, 0, 0, 0] * 255).round().long()


def negative(pixels_B3HW: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return 1 - pixels_B3HW


def same(pixels_B3HW: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    return pixels_B3HW


class Greys(nn.Module):
    """An encoder whose features tell greys apart. `shown` lists what it and its copies saw: (in train mode or not, with a gradient or not,
    pixels)."""

    shown: list[tuple[bool, bool, torch.Tensor]] = []
    ends_before_relu = False
    n_features = 6

    def __init__(self, seed: int = 0):
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(self.n_features, generator=draws))
        self.phase = nn.Parameter(6 * torch.rand(self.n_features, generator=draws))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shown.append((self.training, torch.is_grad_enabled(), x.detach().clone()))
        return torch.sin(x.mean((1, 2, 3))[:, None] * 40 * self.weight + self.phase)


@pytest.fixture
def greys(monkeypatch) -> Greys:
    monkeypatch.setattr(Greys, "shown", [])
    return Greys()


class Number(nn.Module):
    """An encoder whose only feature is who is shown."""

    ends_before_relu = False
    n_features = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None] * 255 * self.scale


class Told(nn.Module):
    """A head whose first logit is the first feature, the others 0."""

    def __init__(self, n_clusters: int = 3):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0] + [0.0] * (n_clusters - 1)))

    def forward(self, z_BD: torch.Tensor) -> torch.Tensor:
        return (z_BD[:, :1] * self.scale)[None]
