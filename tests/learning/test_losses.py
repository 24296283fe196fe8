"""Losses against naive loops in float64, their invariances, and what they do at the edge.

Shapes: B batch, K clusters, H heads, D feature.
"""

import math

import pytest
import torch

from coterie.learning.losses import (
    by_rank,
    confident_cross_entropy,
    cross_entropy,
    distribution_entropy,
    double_softmax_cross_entropy,
    fixmatch,
    info_nce,
    nt_xent,
    scan_loss,
)


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(draw(*shape, seed=seed), dim=-1)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def log_softmax(row: list[float], at: int) -> float:
    top = max(row)
    return row[at] - top - math.log(sum(math.exp(value - top) for value in row))


# ---- SCAN's clustering loss


def naive_scan(anchors, neighbours, weight):
    p, q = [softmax(row) for row in anchors.tolist()], [softmax(row) for row in neighbours.tolist()]
    b, k = anchors.shape
    consistency = -sum(math.log(sum(x * y for x, y in zip(p[i], q[i]))) for i in range(b)) / b
    means = [max(1e-8, sum(row[c] for row in p) / b) for c in range(k)]
    entropy = -sum(mean * math.log(mean) for mean in means)
    return consistency - weight * entropy, consistency, entropy


@pytest.mark.parametrize("b, k, scale, weight", [(1, 3, 1, 5.0), (7, 4, 1, 5.0), (16, 10, 5, 2.0), (5, 1, 1, 5.0), (9, 3, 1, 0.0)])
def test_scan_loss_equals_naive_loops(b, k, scale, weight):
    anchors, neighbours = draw(b, k, scale=scale), draw(b, k, seed=1, scale=scale)
    for got, want in zip(scan_loss(anchors, neighbours, weight), naive_scan(anchors, neighbours, weight)):
        assert float(got) == pytest.approx(want, rel=1e-9, abs=1e-12)
    for got, want in zip(scan_loss(anchors.float(), neighbours.float(), weight), naive_scan(anchors, neighbours, weight)):
        assert got.dtype == torch.float32 and float(got) == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert float(scan_loss(anchors, neighbours)[0]) == pytest.approx(naive_scan(anchors, neighbours, 5.0)[0]), "5.0 is the paper's weight"


def test_scan_loss_of_h_heads_is_that_of_each():
    anchors, neighbours = draw(3, 8, 5).requires_grad_(), draw(3, 8, 5, seed=1)
    together = scan_loss(anchors, neighbours, 2.0)
    for h in range(3):
        for got, want in zip(together, scan_loss(anchors[h], neighbours[h], 2.0)):
            assert got.shape == (3,) and float(got[h].detach()) == pytest.approx(float(want.detach()), rel=1e-12)
    alone = draw(3, 8, 5).requires_grad_()
    together[0].sum().backward()
    sum(scan_loss(alone[h], neighbours[h], 2.0)[0] for h in range(3)).backward()
    torch.testing.assert_close(anchors.grad, alone.grad)


def test_the_largest_share_of_a_prior_goes_where_most_is():
    prior, p = torch.tensor([0.1, 0.6, 0.3]), torch.tensor([[0.2, 0.3, 0.5], [0.4, 0.35, 0.25]])
    torch.testing.assert_close(by_rank(prior, p), torch.tensor([[0.1, 0.3, 0.6], [0.6, 0.3, 0.1]]))
    anchors, neighbours = draw(2, 20, 3), draw(2, 20, 3, seed=1)
    first = scan_loss(anchors, neighbours, 5.0, prior.double())
    for got, want in zip(scan_loss(anchors, neighbours, 5.0, prior.flip(0).double()), first):
        torch.testing.assert_close(got, want)
    for got, want in zip(scan_loss(anchors[0], neighbours[0], 5.0, prior.double()), first):
        torch.testing.assert_close(got, want[0])
    mean = anchors[0].softmax(-1).mean(0)
    shares = dict(zip(mean.argsort().tolist(), prior.double().sort().values.tolist()))
    want = -sum(float(q) * math.log(float(q) / shares[c]) for c, q in enumerate(mean))
    assert float(first[2][0]) == pytest.approx(want, abs=1e-6) and want <= 0


def test_scan_loss_does_not_care_for_the_order_of_pairs_or_clusters():
    anchors, neighbours = draw(9, 4), draw(9, 4, seed=1)
    rows, columns = torch.randperm(9, generator=torch.Generator().manual_seed(2)), torch.tensor([2, 0, 3, 1])
    want = scan_loss(anchors, neighbours)
    for other in (scan_loss(anchors[rows], neighbours[rows]), scan_loss(anchors[:, columns], neighbours[:, columns])):
        torch.testing.assert_close(other, want)
    shifted = scan_loss(anchors + 3, neighbours - 2)
    torch.testing.assert_close(shifted, want)
    assert not torch.isclose(scan_loss(anchors[rows], neighbours)[1], want[1]), "but a pair is a pair"


def test_scan_loss_wants_one_cluster_a_pair_and_all_clusters_used():
    even = 50.0 * torch.eye(4)
    total, consistency, entropy = scan_loss(even, even)
    assert float(consistency) == pytest.approx(0, abs=1e-6) and float(entropy) == pytest.approx(math.log(4), abs=1e-6)
    collapsed = 50.0 * torch.eye(4)[[1, 1, 1, 1]]
    assert float(scan_loss(collapsed, collapsed)[2]) == pytest.approx(0, abs=1e-5)
    assert total < scan_loss(torch.zeros(4, 4), torch.zeros(4, 4))[0] < scan_loss(even, even.roll(1, 0))[0]
    assert total < scan_loss(collapsed, collapsed)[0]


@pytest.mark.parametrize("scale", [60, 1e3, 1e6])
def test_scan_loss_stays_finite_for_opposite_and_extreme_pairs(scale):
    anchors = (scale * torch.eye(4)).requires_grad_()
    neighbours = (scale * torch.eye(4).roll(1, 0)).requires_grad_()
    total, consistency, _ = scan_loss(anchors, neighbours)
    total.backward()
    assert float(consistency.detach()) <= 100 and total.isfinite()
    assert anchors.grad.isfinite().all() and neighbours.grad.isfinite().all()


def test_scan_loss_pulls_a_neighbour_to_the_anchor():
    anchors, neighbours = draw(6, 3, scale=2), draw(6, 3, seed=1).requires_grad_()
    before = scan_loss(anchors, neighbours)[1]
    before.backward()
    assert scan_loss(anchors, neighbours.detach() - neighbours.grad)[1] < before


def test_distribution_entropy():
    assert float(distribution_entropy(torch.full((8,), 1 / 8))) == pytest.approx(math.log(8), rel=1e-6)
    assert float(distribution_entropy(torch.tensor([1.0, 0, 0]))) == pytest.approx(0, abs=1e-6)
    p = torch.softmax(draw(2, 5, 7), -1)
    want = [[-sum(x * math.log(x) for x in row) for row in block] for block in p.tolist()]
    torch.testing.assert_close(distribution_entropy(p), torch.tensor(want, dtype=torch.float64))


# ---- SCAN's self-labelling loss


def naive_confident(logits, labels, balance):
    kept = [i for i, label in enumerate(labels.tolist()) if label >= 0]
    if not kept:
        return 0.0
    counts = {c: sum(int(labels[i]) == c for i in kept) for c in {int(labels[i]) for i in kept}}
    weights = [len(kept) / counts[int(labels[i])] if balance else 1.0 for i in kept]
    losses = [-log_softmax(logits[i].tolist(), int(labels[i])) for i in kept]
    return sum(w * loss for w, loss in zip(weights, losses)) / sum(weights)


LABELS = {
    "some left out": [0, -1, 2, 2, -1, 2, 1, -1],
    "none left out": [0, 1, 2, 2, 3, 2, 1, 0],
    "one kept": [-1, -1, -1, 3, -1, -1, -1, -1],
    "one cluster": [2, 2, -1, 2, 2, -1, 2, 2],
}


@pytest.mark.parametrize("balance", [True, False])
@pytest.mark.parametrize("name", LABELS)
def test_confident_cross_entropy_equals_naive_loops(name, balance):
    logits, labels = draw(8, 4, scale=3), torch.tensor(LABELS[name])
    got = confident_cross_entropy(logits, labels, balance)
    assert float(got) == pytest.approx(naive_confident(logits, labels, balance), rel=1e-9)
    assert float(confident_cross_entropy(logits.float(), labels, balance)) == pytest.approx(float(got), rel=1e-5)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(confident_cross_entropy(logits[order], labels[order], balance), got)
    names = torch.tensor([2, 0, 3, 1])  # cluster c is now called names[c]
    renamed = torch.where(labels >= 0, names[labels], -1)
    torch.testing.assert_close(confident_cross_entropy(logits[:, names.argsort()], renamed, balance), got)


def test_rows_left_out_get_no_gradient_and_give_none():
    logits, labels = draw(8, 4).requires_grad_(), torch.tensor(LABELS["some left out"])
    confident_cross_entropy(logits, labels).backward()
    assert (logits.grad[labels < 0] == 0).all() and (logits.grad[labels >= 0] != 0).any(1).all()
    other = torch.where(labels[:, None] < 0, 99.0, logits.detach())
    torch.testing.assert_close(confident_cross_entropy(other, labels), confident_cross_entropy(logits, labels).detach())


def test_balanced_clusters_count_equally():
    """Nine rows of one cluster, one of another: each cluster has half of the loss."""
    logits, labels = draw(10, 2), torch.tensor([0] * 9 + [1])
    halves = [confident_cross_entropy(logits[labels == c], labels[labels == c], False) for c in (0, 1)]
    torch.testing.assert_close(confident_cross_entropy(logits, labels, True), sum(halves) / 2)


@pytest.mark.parametrize("balance", [True, False])
def test_none_left_is_zero_and_differentiable(balance):
    logits = draw(5, 3).requires_grad_()
    loss = confident_cross_entropy(logits, torch.full((5,), -1), balance)
    loss.backward()
    assert float(loss.detach()) == 0.0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_confident_cross_entropy_stays_finite():
    logits = (1e6 * torch.eye(4)).requires_grad_()
    loss = confident_cross_entropy(logits, torch.tensor([1, 2, 3, 0]))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


# ---- SPICE's losses of the heads


def naive_cross_entropy(logits, labels, temperature=1.0, double=False):
    rows = [([x / temperature for x in row], c) for row, c in zip(logits.tolist(), labels.tolist()) if c >= 0]
    return -sum(log_softmax(softmax(row) if double else row, c) for row, c in rows) / max(1, len(rows))


@pytest.mark.parametrize("name", LABELS)
def test_cross_entropy_equals_naive_loops(name):
    logits, labels = draw(8, 4, scale=3), torch.tensor(LABELS[name])
    for temperature in (1.0, 0.2, 2.0):
        want = naive_cross_entropy(logits, labels, temperature)
        assert float(cross_entropy(logits, labels, temperature)) == pytest.approx(want, rel=1e-9)
        assert float(cross_entropy(logits.float(), labels, temperature)) == pytest.approx(want, rel=1e-4)
    want = naive_cross_entropy(logits, labels, double=True)
    assert float(double_softmax_cross_entropy(logits, labels)) == pytest.approx(want, rel=1e-9)
    assert float(double_softmax_cross_entropy(logits.float(), labels)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("loss", [cross_entropy, double_softmax_cross_entropy])
def test_the_loss_of_h_heads_is_that_of_each(loss):
    """Also where they have different labels, and leave out different rows."""
    logits, labels = draw(4, 8, 4, scale=2).requires_grad_(), torch.tensor(list(LABELS.values()))
    together = loss(logits, labels)
    together.sum().backward()
    assert together.shape == (4,)
    for h in range(4):
        alone = logits[h].detach().clone().requires_grad_()
        one = loss(alone, labels[h])
        one.backward()
        torch.testing.assert_close(together[h].detach(), one.detach())
        torch.testing.assert_close(logits.grad[h], alone.grad)


@pytest.mark.parametrize("loss", [cross_entropy, double_softmax_cross_entropy])
def test_head_losses_do_not_care_for_the_order_of_rows(loss):
    logits, labels = draw(8, 4), torch.tensor(LABELS["some left out"])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(logits[order], labels[order]), loss(logits, labels))
    assert not torch.isclose(loss(logits[order], labels), loss(logits, labels)), "but a row has its label"


@pytest.mark.parametrize("loss", [cross_entropy, double_softmax_cross_entropy])
def test_head_losses_do_not_care_for_the_names_of_clusters(loss):
    logits, labels, names = draw(8, 4), torch.tensor(LABELS["some left out"]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(logits[:, names.argsort()], torch.where(labels >= 0, names[labels], -1)), loss(logits, labels))
    torch.testing.assert_close(loss(logits + 7, labels), loss(logits, labels))


@pytest.mark.parametrize("loss", [cross_entropy, double_softmax_cross_entropy])
def test_head_losses_leave_rows_out(loss):
    logits, labels = draw(8, 4).requires_grad_(), torch.tensor(LABELS["some left out"])
    loss(logits, labels).backward()
    assert (logits.grad[labels < 0] == 0).all() and (logits.grad[labels >= 0] != 0).any(1).all()
    nothing = draw(2, 5, 3).requires_grad_()
    loss(nothing, torch.full((2, 5), -1)).sum().backward()
    assert loss(nothing, torch.full((2, 5), -1)).tolist() == [0, 0] and not nothing.grad.any()
    assert float(loss(draw(5, 1), torch.zeros(5, dtype=torch.long))) == 0, "one cluster: nothing to learn"


def test_double_softmax_stays_within_its_bounds_and_finite():
    k, right, wrong = 10, torch.arange(10), (torch.arange(10) + 1) % 10
    for scale in (1.0, 60.0, 1e6):
        logits = (scale * torch.eye(k)).requires_grad_()
        for labels in (right, wrong):
            loss = double_softmax_cross_entropy(logits, labels)
            loss.backward()
            assert math.log(1 + (k - 1) / math.e) - 1e-6 <= float(loss.detach()) <= math.log(k - 1 + math.e) + 1e-6
        assert logits.grad.isfinite().all()
    assert float(double_softmax_cross_entropy(1e6 * torch.eye(k), right)) == pytest.approx(math.log(1 + (k - 1) / math.e))
    assert float(double_softmax_cross_entropy(1e6 * torch.eye(k), wrong)) == pytest.approx(math.log(k - 1 + math.e))


def test_double_softmax_learns_more_slowly():
    """App. A: its gradient is a part of plain cross-entropy's, a small one for labels that the head finds improbable."""
    logits, labels = draw(64, 10, scale=3), torch.arange(64) % 10
    lengths = []
    for loss in (cross_entropy, double_softmax_cross_entropy):
        leaf = logits.clone().requires_grad_()
        loss(leaf, labels).backward()
        lengths.append(leaf.grad.norm(dim=1))
    share, p = lengths[1] / lengths[0], logits.softmax(1)[torch.arange(64), labels]
    assert (share < 1).all() and share[p < 1e-3].max() < 0.3 < share[(p > 0.3) & (p < 0.7)].min()


# ---- FixMatch's loss of unlabelled images


def naive_fixmatch(weak, strong, threshold, temperature):
    total, kept = 0.0, 0
    for w, s in zip(weak.tolist(), strong.tolist()):
        p = softmax(w)
        if max(p) >= threshold:
            kept += 1
            hard = [float(c == p.index(max(p))) for c in range(len(p))]
            target = hard if temperature is None else softmax([x / temperature for x in w])
            total -= sum(t * log_softmax(s, c) for c, t in enumerate(target))
    return total / len(weak), kept / len(weak)


@pytest.mark.parametrize("temperature", [None, 0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95, 1.1])
def test_fixmatch_equals_naive_loops(threshold, temperature):
    weak, strong = draw(24, 5, scale=4), draw(24, 5, seed=1, scale=2)
    want = naive_fixmatch(weak, strong, threshold, temperature)
    assert [float(part) for part in fixmatch(weak, strong, threshold, temperature)] == pytest.approx(want, rel=1e-9)
    assert [float(part) for part in fixmatch(weak.float(), strong.float(), threshold, temperature)] == pytest.approx(want, rel=1e-4)
    assert threshold in (0.0, 1.1) or 0 < want[1] < 1
    if temperature is None and threshold == 0.95:
        assert fixmatch(weak, strong) == fixmatch(weak, strong, threshold), "0.95 is FixMatch's bar, hard labels its choice"


def test_the_threshold_of_fixmatch_is_enough():
    weak = torch.tensor([[0.75, 0.25], [0.74, 0.26]]).log()
    assert float(fixmatch(weak, weak, float(weak[0].softmax(0).max()))[1]) == 0.5


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_fixmatch_teaches_the_strong_view_of_sure_images(temperature):
    weak, strong = draw(24, 5, scale=4).requires_grad_(), draw(24, 5, seed=1).requires_grad_()
    loss, kept = fixmatch(weak, strong, 0.8, temperature)
    loss.backward()
    sure = weak.softmax(1).amax(1) >= 0.8
    assert weak.grad is None and float(kept) == pytest.approx(float(sure.double().mean())) and not kept.requires_grad
    assert 0 < sure.sum() < 24 and torch.equal((strong.grad != 0).any(1), sure)
    loss, kept = fixmatch(weak, strong, 2.0, temperature)
    assert float(loss.detach()) == 0 == float(kept) and loss.requires_grad


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_fixmatch_does_not_care_for_the_order_of_images(temperature):
    weak, strong, order = draw(24, 5, scale=4), draw(24, 5, seed=1), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    want = fixmatch(weak, strong, 0.8, temperature)
    torch.testing.assert_close(fixmatch(weak[order], strong[order], 0.8, temperature), want)
    assert not torch.isclose(fixmatch(weak[order], strong, 0.8, temperature)[0], want[0]), "but a view belongs to its image"


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_fixmatch_does_not_care_for_the_order_of_clusters(temperature):
    weak, strong, order = draw(24, 5, scale=4), draw(24, 5, seed=1), torch.tensor([2, 0, 3, 4, 1])
    torch.testing.assert_close(fixmatch(weak[:, order], strong[:, order], 0.8, temperature), fixmatch(weak, strong, 0.8, temperature))


# ---- contrastive losses


def naive_nt_xent(features, temperature, symmetric):
    b = len(features)
    rows = [*features[:, 0].tolist(), *features[:, 1].tolist()]
    total, anchors = 0.0, 2 * b if symmetric else b
    for i in range(anchors):
        others = [j for j in range(2 * b) if j != i]
        logits = [sum(x * y for x, y in zip(rows[i], rows[j])) / temperature for j in others]
        total -= log_softmax(logits, others.index((i + b) % (2 * b)))
    return total / anchors


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("b, temperature", [(1, 0.1), (2, 0.5), (6, 0.1), (11, 1.0)])
def test_nt_xent_equals_naive_loops(b, temperature, symmetric):
    features = unit(b, 2, 5)
    got = nt_xent(features, temperature, symmetric)
    assert float(got) == pytest.approx(naive_nt_xent(features, temperature, symmetric), rel=1e-9, abs=1e-12)
    assert float(nt_xent(features.float(), temperature, symmetric)) == pytest.approx(float(got), rel=1e-4, abs=1e-6)


def test_nt_xent_does_not_care_for_the_order_of_images_or_a_rotation():
    features = unit(7, 2, 4)
    turn = torch.linalg.qr(draw(4, 4, seed=3))[0]
    for symmetric in (False, True):
        want = nt_xent(features, 0.2, symmetric)
        torch.testing.assert_close(nt_xent(features[torch.randperm(7)], 0.2, symmetric), want)
        torch.testing.assert_close(nt_xent(features @ turn, 0.2, symmetric), want)
    torch.testing.assert_close(nt_xent(features.flip(1), 0.2, True), nt_xent(features, 0.2, True))
    assert not torch.isclose(nt_xent(features.flip(1), 0.2), nt_xent(features, 0.2)), "with one side of anchors the views differ"


def test_nt_xent_falls_when_views_meet_and_stays_finite():
    apart, together = unit(6, 2, 8), unit(6, 1, 8).expand(6, 2, 8)
    assert nt_xent(together, 0.1) < nt_xent(apart, 0.1)
    for temperature in (1e-3, 1e3):
        features = unit(6, 2, 8).float().requires_grad_()
        loss = nt_xent(features, temperature, True)
        loss.backward()
        assert loss.isfinite() and features.grad.isfinite().all()


def test_nt_xent_of_more_views_is_no_guess():
    with pytest.raises(AssertionError, match="two views"):
        nt_xent(unit(4, 3, 5), 0.1)


def test_info_nce_equals_naive_loops():
    query, key, queue = unit(6, 5), unit(6, 5, seed=1), unit(9, 5, seed=2)
    want = 0.0
    for i in range(6):
        rows = [key[i].tolist(), *queue.tolist()]
        want -= log_softmax([sum(x * y for x, y in zip(query[i].tolist(), row)) / 0.07 for row in rows], 0) / 6
    assert float(info_nce(query, key, queue, 0.07)) == pytest.approx(want, rel=1e-9)
    assert float(info_nce(query.float(), key.float(), queue.float(), 0.07)) == pytest.approx(want, rel=1e-4)
    order = torch.randperm(9)
    torch.testing.assert_close(info_nce(query, key, queue[order], 0.07), info_nce(query, key, queue, 0.07))


def test_info_nce_leaves_out_keys_of_the_image_itself():
    query, key, queue = unit(2, 5), unit(2, 5, seed=1), unit(4, 5, seed=2)
    own = torch.tensor([[False, True, False, False], [True, False, False, True]])
    want = [info_nce(query[i : i + 1], key[i : i + 1], queue[~own[i]], 0.2) for i in range(2)]
    torch.testing.assert_close(info_nce(query, key, queue, 0.2, own), torch.stack(want).mean())
    assert float(info_nce(query, key, queue, 0.2, torch.ones_like(own))) == 0.0, "nobody is left to be told apart from"


def test_info_nce_teaches_the_query_only():
    query, key, queue = (unit(4, 5, seed=seed).requires_grad_() for seed in range(3))
    info_nce(query, key, queue, 0.1).backward()
    assert key.grad is None and queue.grad is None and query.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, features = draw(6, 4).to(dtype), unit(6, 2, 8).to(dtype)
    losses = [
        scan_loss(logits, logits.flip(0))[0],
        confident_cross_entropy(logits, torch.tensor([0, 1, 2, 3, -1, 0])),
        nt_xent(features, 0.1),
        info_nce(features[:, 0], features[:, 1], features[:, 0].flip(0), 0.1),
        cross_entropy(logits, torch.tensor([0, 1, 2, 3, -1, 0]), 0.2),
        double_softmax_cross_entropy(logits, torch.tensor([0, 1, 2, 3, -1, 0])),
        fixmatch(logits, logits.flip(0), 0.3)[0],
        fixmatch(logits, logits.flip(0), 0.3, 0.5)[0],
    ]
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses)
    assert float(losses[0]) == pytest.approx(float(scan_loss(logits.double(), logits.double().flip(0))[0]), rel=1e-5)
