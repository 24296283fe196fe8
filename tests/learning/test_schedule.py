import math

import numpy as np
import pytest
import torch

from coterie.learning.schedule import cosine, fixmatch_cosine, one_cycle, progressive_clusters, set_rate, steps, trapezoid

STEPS = [i / 200 for i in range(201)]


def test_cosine():
    for done in STEPS:
        assert cosine(done, 0.4, 0.0004) == pytest.approx(0.0004 + 0.3996 * (1 + math.cos(math.pi * done)) / 2, rel=1e-12)
    assert cosine(0, 3.0) == 3.0 and cosine(1, 3.0) == pytest.approx(0, abs=1e-15) and cosine(0.5, 3.0) == pytest.approx(1.5)
    assert cosine(-1, 3.0, 1.0) == 3.0 and cosine(7, 3.0, 1.0) == 1.0, "nothing before and after"


def test_cosine_is_torch_s_own():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=0.4 * 0.1**3)
    for epoch in range(50):
        assert cosine(epoch / 50, 0.4, 0.4 * 0.1**3) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        reference.step()


def test_one_cycle_rises_then_falls():
    rates = [one_cycle(done, 2.0, warm_up=0.1, start=0.04) for done in STEPS]
    assert rates[0] == pytest.approx(0.08) and rates[20] == pytest.approx(2.0) and rates[-1] == pytest.approx(0, abs=1e-12)
    assert all(a < b for a, b in zip(rates[:20], rates[1:21])) and all(a > b for a, b in zip(rates[20:], rates[21:]))
    assert [b - a for a, b in zip(rates[:20], rates[1:21])] == pytest.approx([1.92 / 20] * 20)
    assert one_cycle(0.55, 2.0, 0.1) == pytest.approx(1.0), "half-way down"
    assert max(abs(a - b) for a, b in zip(rates, rates[1:])) < 0.1, "no jump"


def test_fixmatch_cosine():
    for done in STEPS:
        assert fixmatch_cosine(done, 0.03) == pytest.approx(0.03 * math.cos(7 * math.pi * done / 16), rel=1e-12)
    assert fixmatch_cosine(0, 3.0) == 3.0 and fixmatch_cosine(1, 1.0) == pytest.approx(0.19509, abs=1e-5), "it never comes to rest"
    assert fixmatch_cosine(-1, 3.0) == 3.0 and fixmatch_cosine(7, 3.0) == fixmatch_cosine(1, 3.0), "nothing before and after"


def test_set_rate_reaches_every_group():
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 2.0}])
    set_rate(optimizer, 0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]


@pytest.mark.parametrize("corners", [(2, 5, 8, 12), (0, 0, 4, 9), (0, 10, 10, 10), (3, 3, 3, 3)])
def test_trapezoid_joins_its_corners_by_straight_lines(corners):
    start, up, down, end = corners
    for at in np.linspace(-1, 14, 61):
        inside = start <= at <= end
        places, heights = ([start, up, down, end], [0.3, 0.9, 0.9, 0.3])
        if up == start:
            places, heights = places[1:], heights[1:]
        if down == end:
            places, heights = places[:-1], heights[:-1]
        wanted = np.interp(at, places, heights) if inside else 0.3
        assert abs(trapezoid(at, *corners, 0.3, 0.9) - wanted) < 1e-12, at


def test_steps_fall_by_a_tenth_twice():
    rates = [steps(epoch / 200, 0.03) for epoch in range(200)]
    for epoch, want in ((0, 0.03), (119, 0.03), (120, 0.003), (159, 0.003), (160, 0.0003), (199, 0.0003)):
        assert rates[epoch] == pytest.approx(want, rel=1e-12)
    assert len({round(rate, 9) for rate in rates}) == 3


def test_clusters_go_down_a_straight_line_of_logarithms():
    counts = [progressive_clusters(epoch, 50, 10_000, 1) for epoch in range(51)]
    assert counts[0] == 10_000 and counts[25] == 100 and counts[50] == 1
    assert all(math.log(count) == pytest.approx(math.log(10_000) * (1 - epoch / 50), abs=0.6 / count) for epoch, count in enumerate(counts))
    assert progressive_clusters(0.5, 1, 10_000, 1) == 100, "shares of a round serve as well"
    assert [progressive_clusters(epoch, 4, 30, 50) for epoch in range(4)] == [30] * 4, "never more than images"
    assert min(progressive_clusters(epoch, 50, 10_000, 40) for epoch in range(50)) == 40
