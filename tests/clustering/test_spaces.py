"""Features on main axes, and heads on them folded back, in float64 by the formula."""

import numpy as np
import pytest
import torch

from coterie.clustering.spaces import reduced, unit_by_space
from coterie.errors import InputError
from coterie.networks.heads import Heads, folded
from coterie.run.seeding import forked


def draw(n: int = 60, d: int = 12) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 4, d) + 7


def unit_rows(z: np.ndarray, widths: list[int]) -> np.ndarray:
    parts = np.split(z - z.mean(0), np.cumsum(widths)[:-1], axis=1)
    return np.hstack([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts])


@pytest.mark.parametrize("spaces, widths", [("", [12]), ("5,7", [5, 7]), ("4, 4, 4", [4, 4, 4])])
def test_rows_are_the_main_axes_of_each_space(spaces, widths):
    z = draw()
    rows = reduced(z, spaces, 3)
    assert rows.rows_Nd.shape == (60, 3 * len(widths)) and rows.widths.tolist() == [3] * len(widths)
    assert float(rows.rows_Nd.square().mean()) == pytest.approx(1, rel=1e-4)
    scale, at = None, 0
    for part, got in zip(np.split(unit_rows(z.double().numpy(), widths), np.cumsum(widths)[:-1], axis=1), rows.rows_Nd.split(3, 1)):
        centred = part - part.mean(0)
        kept = np.linalg.svd(centred, full_matrices=False)
        expected = (kept[0] * kept[1])[:, :3]
        products = got.double().numpy() @ got.double().numpy().T  # axes may point either way
        factor = np.trace(products) / np.trace(expected @ expected.T)
        np.testing.assert_allclose(products, factor * expected @ expected.T, atol=1e-3 * factor)
        scale, at = scale or factor, at + 1
        assert factor == pytest.approx(scale, rel=1e-3), "one scale for all spaces"


def test_whitened_axes_count_alike():
    rows = reduced(draw(), components=4, whiten=True).rows_Nd.double()
    np.testing.assert_allclose((rows.T @ rows / len(rows)).numpy(), np.eye(4), atol=1e-3)


@pytest.mark.parametrize("spaces", ["", "5,7"])
def test_folded_heads_say_what_the_heads_say_of_the_rows(spaces):
    z = draw()
    rows = reduced(z, spaces, 3)
    with forked(0):
        heads = Heads(rows.rows_Nd.shape[1], 4, 2)
    heads.standardise(rows.rows_Nd)
    torch.testing.assert_close(folded(heads, rows)(z), heads(rows.rows_Nd), rtol=1e-3, atol=1e-4)
    whole = folded(heads, rows).select(1)
    torch.testing.assert_close(whole(z), heads(rows.rows_Nd)[1:], rtol=1e-3, atol=1e-4)


def test_zero_rows_stay_zero_and_constant_features_are_finite():
    assert torch.equal(unit_by_space(torch.zeros(2, 3), torch.tensor([0, 0, 1])), torch.zeros(2, 3))
    assert reduced(torch.ones(6, 4)).rows_Nd.isfinite().all() and reduced(torch.ones(1, 4)).rows_Nd.isfinite().all()


@pytest.mark.parametrize("spaces", ["5,6", "12,0", "twelve", "5,,7", "-5,17"])
def test_widths_that_do_not_fit_are_refused(spaces):
    with pytest.raises(InputError, match="spaces=.*12 columns"):
        reduced(draw(), spaces)


def test_rows_that_are_not_finite_are_refused():
    z = draw()
    z[3, 2] = float("nan")
    with pytest.raises(InputError, match="row 3"):
        reduced(z)
