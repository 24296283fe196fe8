"""Heads learn wide features in fewer directions, and take them whole afterwards."""

import torch

from coterie.methods import narrow
from coterie.networks.heads import MlpHeads
from coterie.run import Run
from coterie.run.devices import Devices


def rows(n: int, width: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, rank, generator=generator) @ torch.randn(rank, width, generator=generator)


def run() -> Run:
    return Run(devices=Devices("cpu", "fp32", 1))


def test_directions_keep_what_is_there_and_each_holds_as_much():
    x = rows(400, 700, 40).double()
    axes = narrow.directions(x.float(), run()).double()
    assert axes.shape == (700, narrow.DIRECTIONS)
    torch.testing.assert_close(axes.T @ axes, torch.eye(narrow.DIRECTIONS).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close((x @ axes) @ (x @ axes).T, x @ x.T, rtol=1e-4, atol=1e-2)
    spread = (x @ axes).std(0)
    assert float(spread.max() / spread.min()) < 3, "not one large direction and many of noise"
    assert narrow.directions(x[:30].float(), run()).shape == (700, 30)
    assert torch.equal(narrow.directions(x.float(), run()), narrow.directions(x.float(), run()))


def test_a_widened_head_says_the_same_of_whole_features():
    x = rows(60, 700, 20).double()
    axes = narrow.directions(x, run()).double()
    head = MlpHeads(axes.shape[1], 4).double()
    head.standardise(x @ axes)
    torch.testing.assert_close(narrow.widened(head, axes).double()(x), head(x @ axes), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(narrow.front_of(axes)(x), x @ axes)
