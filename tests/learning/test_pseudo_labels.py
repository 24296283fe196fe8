"""Pseudo-labels against naive loops, their invariances, and what they do at the edge.

Shapes: B batch, N images, D feature, H heads, K clusters.
"""

import math

import pytest
import torch

from coterie.errors import InputError
from coterie.learning.pseudo_labels import confident, core_means, prototype, prototype_losses, reliable


def naive(p: list[list[float]], threshold: float) -> list[int]:
    return [row.index(max(row)) if max(row) > threshold else -1 for row in p]


def test_confident_equals_naive_loops():
    p = torch.softmax(3 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0)), 1)
    for threshold in (0.0, 0.3, 0.5, 0.9, 0.99, 1.0):
        got = confident(p, threshold)
        assert got.tolist() == naive(p.tolist(), threshold) and got.dtype == torch.int64
    assert len(set(confident(p, 0.5).tolist())) > 2, "the draw is too easy to tell anything"


def test_the_threshold_itself_is_not_enough():
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.751, 0.249]])
    assert confident(p, 0.75).tolist() == [-1, -1, -1, 0]
    assert confident(torch.tensor([[1.0, 0.0]]), 1.0).tolist() == [-1]


def test_order_of_images_and_names_of_clusters_do_not_matter():
    p = torch.softmax(3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), 1)
    order, names = torch.randperm(50), torch.tensor([2, 0, 3, 1])
    want = confident(p, 0.6)
    assert torch.equal(confident(p[order], 0.6), want[order])
    assert torch.equal(confident(p[:, names.argsort()], 0.6), torch.where(want >= 0, names[want], -1))


def test_no_image_and_no_number():
    assert confident(torch.zeros(0, 3), 0.5).shape == (0,)
    assert confident(torch.full((2, 3), float("nan")), 0.5).tolist() == [-1, -1], "what is no number is not trusted"


# ---- prototypes


def drawn(b=43, k=4, d=6, heads=None, seed=0):
    """Features (B, D), not of unit length, and probabilities (B, K) or (H, B, K) that know something of them; float64."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(b, d, generator=rng, dtype=torch.float64) * torch.rand(b, 1, generator=rng, dtype=torch.float64).add(0.5)
    directions = torch.randn(heads or 1, d, k, generator=rng, dtype=torch.float64)
    p = (z @ directions + 0.3 * torch.randn(heads or 1, b, k, generator=rng, dtype=torch.float64)).softmax(-1)
    return z, p if heads else p[0]


def pairs(index, labels) -> set[tuple[int, int]]:
    got = list(zip(index.tolist(), labels.tolist()))
    assert len(got) == len(set(got)), "a pair twice"
    return set(got)


def naive_means(z, p, share):
    b, k = p.shape
    size = max(1, int(share * (b // k)))
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z.tolist()]
    means = []
    for c in range(k):
        core = sorted(range(b), key=lambda i, c=c: -float(p[i, c]))[:size]
        means.append([sum(unit[i][d] for i in core) / size for d in range(z.shape[1])])
    return unit, means


def naive_prototype(z, p, share, overlap):
    b, k = p.shape
    each = b // k
    unit, means = naive_means(z, p, share)
    similarity = {(i, c): sum(x * y for x, y in zip(unit[i], means[c])) for i in range(b) for c in range(k)}
    best_first = sorted(similarity, key=lambda pair: -similarity[pair])
    if overlap:
        return {pair for c in range(k) for pair in [pair for pair in best_first if pair[1] == c][:each]}
    taken, room = {}, [each] * k
    for i, c in best_first:
        if i not in taken and room[c]:
            taken[i] = c
            room[c] -= 1
    return set(taken.items())


SIZES = [(43, 4, 0.5), (40, 4, 0.9), (12, 4, 0.5), (60, 7, 0.3), (9, 9, 0.5), (30, 3, 1.0), (11, 1, 0.5), (200, 10, 0.01)]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("b, k, share", SIZES)
def test_prototype_equals_naive_loops(b, k, share, overlap):
    for seed in range(3):
        z, p = drawn(b, k, seed=seed)
        index, labels = prototype(z, p, share, overlap)
        assert index.dtype == labels.dtype == torch.int64 and index.shape == labels.shape == (k * (b // k),)
        assert pairs(index, labels) == naive_prototype(z, p, share, overlap)


def test_core_means_equal_naive_loops():
    for share in (0.01, 0.5, 1.0):
        z, p = drawn()
        want = torch.tensor(naive_means(z, p, share)[1], dtype=torch.float64)
        torch.testing.assert_close(core_means(z, p, share), want, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(core_means(z.float(), p.float(), share), want.float(), rtol=1e-5, atol=1e-6)


def test_with_shares_the_cluster_with_most_names_most():
    z, p = drawn(60, 3, heads=2)
    shares = torch.tensor([0.6, 0.1, 0.3])
    index, labels = prototype(z, p, 0.5, shares_K=shares)
    assert index.shape == labels.shape == (2, 36 + 6 + 18)
    for h in range(2):
        counts = dict(zip(p[h].mean(0).argsort().tolist(), (6, 18, 36)))
        assert labels[h].bincount().tolist() == [counts[c] for c in range(3)]
        unit = z / z.norm(dim=1, keepdim=True)
        for c, count in counts.items():
            core = p[h, :, c].topk(count // 2).indices
            torch.testing.assert_close(core_means(z, p, 0.5, shares)[h, c], unit[core].mean(0))
            nearest = (unit @ unit[core].mean(0)).topk(count).indices
            assert set(index[h][labels[h] == c].tolist()) == set(nearest.tolist())
        assert torch.equal(index[h], prototype(z, p[h], 0.5, shares_K=shares)[0])
    tiny = prototype(z, p, shares_K=torch.tensor([0.995, 0.004, 0.001]))[1]
    assert sorted(tiny[0].bincount().tolist()) == [1, 1, 59], "a share of less than an image is one"


def test_even_shares_are_as_published():
    z, p = drawn(60, 3, heads=2)
    for got, want in zip(prototype(z, p, shares_K=torch.full((3,), 1 / 3 + 1e-6)), prototype(z, p)):
        assert torch.equal(got, want)


@pytest.mark.parametrize("overlap", [True, False])
def test_h_heads_choose_as_each_alone(overlap):
    z, p = drawn(heads=3)
    index, labels = prototype(z, p, overlap=overlap)
    assert index.shape == labels.shape == (3, 40)
    for h in range(3):
        alone = prototype(z, p[h], overlap=overlap)
        assert torch.equal(index[h], alone[0]) and torch.equal(labels[h], alone[1])
        torch.testing.assert_close(core_means(z, p)[h], core_means(z, p[h]))
    assert len({frozenset(pairs(index[h], labels[h])) for h in range(3)}) == 3, "the draw gives every head its own"


@pytest.mark.parametrize("overlap", [True, False])
def test_prototype_does_not_care_for_the_order_of_images(overlap):
    z, p = drawn()
    order = torch.randperm(43, generator=torch.Generator().manual_seed(5))
    index, labels = prototype(z[order], p[order], overlap=overlap)
    assert pairs(order[index], labels) == pairs(*prototype(z, p, overlap=overlap))


@pytest.mark.parametrize("overlap", [True, False])
def test_prototype_does_not_care_for_the_order_of_clusters(overlap):
    z, p = drawn()
    names = torch.tensor([2, 0, 3, 1])  # cluster c is now called names[c]
    index, labels = prototype(z, p[:, names.argsort()], overlap=overlap)
    want_index, want_labels = prototype(z, p, overlap=overlap)
    assert pairs(index, labels) == pairs(want_index, names[want_labels])


def test_prototype_does_not_care_for_lengths_or_a_rotation_of_features():
    z, p = drawn()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64))[0]
    want = pairs(*prototype(z, p))
    assert pairs(*prototype(z * torch.linspace(0.1, 50, 43)[:, None], p)) == want
    assert pairs(*prototype(z @ turn, p)) == want
    assert pairs(*prototype(z + 3, p)) != want, "but where zero is matters"


def test_clusters_are_even_also_where_a_head_sees_only_one():
    """The head calls everything 0; the most probable of the others still make a core each."""
    z, p = drawn(40, 4)
    p = torch.cat([p[:, :1] + 10, p[:, 1:]], 1)
    p = p / p.sum(1, keepdim=True)
    assert (p.argmax(1) == 0).all()
    for overlap in (True, False):
        index, labels = prototype(z, p, overlap=overlap)
        assert labels.bincount().tolist() == [10] * 4
        assert pairs(index, labels) == naive_prototype(z, p, 0.5, overlap)


def test_only_overlap_labels_an_image_twice():
    z, p = drawn(400, 8)
    assert len(set(prototype(z, p)[0].tolist())) < 400
    index, _ = prototype(z, p, overlap=False)
    assert sorted(index.tolist()) == list(range(400)), "8 x 50 images, each once"


@pytest.mark.parametrize("overlap", [True, False])
def test_what_is_all_equal_is_still_shared_out(overlap):
    """Ties everywhere: the same picture 20 times, a head that knows nothing."""
    index, labels = prototype(torch.ones(20, 5), torch.full((20, 3), 1 / 3), overlap=overlap)
    assert labels.bincount().tolist() == [6, 6, 6]
    assert all(len(set(index[labels == c].tolist())) == 6 for c in range(3))
    assert overlap or len(set(index.tolist())) == 18
    index, labels = prototype(torch.ones(2, 20, 5)[0], torch.full((2, 20, 3), 1 / 3), overlap=overlap)
    assert index.shape == (2, 18)


def test_two_clouds_get_their_own_names():
    rng = torch.Generator().manual_seed(0)
    truth = torch.arange(100) % 2
    z = torch.eye(4)[truth] + 0.1 * torch.randn(100, 4, generator=rng)
    p = torch.stack([1.0 - truth, truth]).T * 0.2 + 0.4  # only just right
    p[:30] = 1 - p[:30]  # and wrong for a third
    p[truth == 0] += torch.linspace(0, 0.1, 50)[:, None] * torch.tensor([1, -1])
    p[truth == 1] += torch.linspace(0, 0.1, 50)[:, None] * torch.tensor([-1, 1])
    index, labels = prototype(z, p)
    assert torch.equal(truth[index], labels), "the features set right what the head has wrong"


def test_prototype_at_the_edge():
    z, p = drawn(3, 4)
    with pytest.raises(InputError, match="3 images .* 4 clusters"):
        prototype(z, p)
    z, p = drawn(9, 3)
    for share in (0.0, -0.5, 1.1, float("nan")):
        with pytest.raises(InputError, match="core_share"):
            prototype(z, p, share)
    with pytest.raises(InputError, match="probabilities have NaN"):
        prototype(z, p.index_fill(0, torch.tensor([4]), float("nan")))
    with pytest.raises(InputError, match="features have NaN"):
        prototype(z.index_fill(0, torch.tensor([4]), float("inf")), p)
    with pytest.raises(AssertionError, match="8 features, probabilities of 9"):
        prototype(z[:8], p)
    assert not prototype(z.requires_grad_(), p.requires_grad_())[0].requires_grad
    assert not core_means(z, p).requires_grad


# ---- the choice of a head


def naive_losses(z, p, share):
    losses = []
    for p_NK in p:
        chosen = naive_prototype(z, p_NK, share, True)
        rows = [(p_NK[i].tolist(), c) for i, c in chosen]
        losses.append(sum(math.log(sum(math.exp(x) for x in row)) - row[c] for row, c in rows) / len(rows))
    return losses


def test_prototype_losses_equal_naive_loops():
    z, p = drawn(heads=4)
    torch.testing.assert_close(prototype_losses(z, p, 0.5), torch.tensor(naive_losses(z, p, 0.5), dtype=torch.float64))
    got = prototype_losses(z.float(), p.float(), 0.3)
    assert got.shape == (4,) and got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(naive_losses(z, p, 0.3)), rtol=1e-4, atol=1e-4)


def test_the_loss_is_lowest_for_the_head_that_agrees_with_the_features():
    truth = torch.arange(90) % 3
    z = torch.eye(3)[truth] + 0.1 * torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    sure = torch.eye(3)[truth] * 0.9 + 0.1 / 3
    worse = sure.clone()
    worse[:30] = sure[:30].roll(1, 1)
    order = torch.tensor([1, 2, 0])
    losses = prototype_losses(z, torch.stack([worse, torch.full_like(sure, 1 / 3), sure, sure[:, order]]))
    assert losses[2] < losses[0] < losses[1] and losses[2] == losses[3], "the names of clusters do not matter"
    assert float(losses[1]) == pytest.approx(math.log(3)), "a head that knows nothing"


# ---- local consistency


def naive_reliable(z, p, n, ratio, threshold=None):
    unit = torch.nn.functional.normalize(z.double())
    similarity, labels = (unit @ unit.T).tolist(), p.argmax(1).tolist()
    got = []
    for i in range(len(z)):
        others = sorted((j for j in range(len(z)) if j != i), key=lambda j, i=i: -similarity[i][j])
        agreeing = 1 + sum(labels[j] == labels[i] for j in others[: n - 1])
        got.append(labels[i] if agreeing / n >= ratio and (threshold is None or float(p[i].max()) > threshold) else -1)
    return got


@pytest.mark.parametrize("threshold", [None, 0.8])
@pytest.mark.parametrize("n, ratio", [(1, 1.0), (2, 1.0), (5, 0.6), (10, 0.7), (20, 0.55), (60, 0.3), (60, 0.0)])
def test_reliable_equals_naive_loops(n, ratio, threshold):
    z, p = drawn(60, 3, seed=n)
    got = reliable(z, p, n, ratio, threshold)
    assert got.dtype == torch.int64 and got.tolist() == naive_reliable(z, p, n, ratio, threshold)
    assert n in (1, 60) or threshold or 0 < (got >= 0).sum() < 60, "the draw tells something"


def test_the_ratio_itself_is_enough():
    """Image 0 is called 0, as are `agree` of the hundred. Also where the product is a little more in floating point, 0.55 * 100 > 55."""
    angle = torch.linspace(0, 1, 100)
    z = torch.stack([angle.cos(), angle.sin()], 1)
    for agree in (1, 7, 14, 29, 50, 55, 57, 99):
        p = torch.eye(2)[(torch.arange(100) >= agree).long()]
        assert reliable(z, p, 100, round(agree / 100, 2))[0] == 0
        assert reliable(z, p, 100, round((agree + 1) / 100, 2))[0] == -1


def test_the_threshold_of_reliable_is_not_enough_itself():
    p = torch.tensor([[0.75, 0.25], [0.875, 0.125]])
    assert reliable(torch.eye(2), p, 1, threshold=0.75).tolist() == [-1, 0]
    assert reliable(torch.eye(2), p, 1, threshold=None).tolist() == [0, 0]


def test_reliable_does_not_care_for_the_order_of_images():
    z, p = drawn(80, 3)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    assert torch.equal(reliable(z[order], p[order], 8, 0.75), reliable(z, p, 8, 0.75)[order])


def test_reliable_does_not_care_for_the_names_of_clusters():
    z, p = drawn(80, 3)
    names, want = torch.tensor([2, 0, 1]), reliable(z, p, 8, 0.75)
    assert torch.equal(reliable(z, p[:, names.argsort()], 8, 0.75), torch.where(want >= 0, names[want], -1))


def test_reliable_does_not_care_for_the_lengths_of_features():
    z, p = drawn(80, 3)
    assert torch.equal(reliable(z * torch.linspace(0.01, 100, 80)[:, None], p, 8, 0.75), reliable(z, p, 8, 0.75))


def test_more_is_asked_fewer_are_kept():
    z, p = drawn(200, 3)
    kept = [int((reliable(z, p, 10, ratio) >= 0).sum()) for ratio in (0.0, 0.3, 0.6, 0.8, 1.0)]
    assert kept == sorted(kept, reverse=True) and kept[0] == 200 > kept[-1]


def test_the_boundary_between_two_clusters_is_left_out():
    z = torch.stack([torch.linspace(0, 1, 100), torch.ones(100)], 1)  # along an arc; cut in the middle
    p = torch.eye(2)[(torch.arange(100) >= 50).long()]
    got = reliable(z, p, 11, 0.95)
    assert (got[40:60] == -1).sum() >= 8 and (got[:44] == 0).all() and (got[56:] == 1).all()


def test_one_cluster_is_reliable_everywhere():
    assert reliable(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.ones(9, 1), 9, 1.0).tolist() == [0] * 9


def test_chunks_change_nothing(monkeypatch):
    z, p = drawn(80, 3)
    want = reliable(z, p, 8, 0.75)
    monkeypatch.setattr("coterie.learning.pseudo_labels.CHUNK", 7)
    assert torch.equal(reliable(z, p, 8, 0.75), want)


def test_reliable_says_how_many_neighbours_there_can_be():
    z, p = drawn(50, 3)
    for n in (0, -3, 51, 100):
        with pytest.raises(InputError, match=f"n_neighbors = {n} .* 50 images it can be 1 to 50"):
            reliable(z, p, n)
    with pytest.raises(InputError, match="probabilities have NaN"):
        reliable(z, p.index_fill(0, torch.tensor([4]), float("nan")), 5)


# ---- the cut to equal counts


def sure(counts: list[int], unsure: list[int] | None = None):
    """Features and probabilities of len(counts) clouds far apart; with n_neighbors 1 and threshold 0.6 as many of each are reliable."""
    k, unsure = len(counts), unsure or [0] * len(counts)
    labels = torch.tensor([c for c in range(k) for _ in range(counts[c] + unsure[c])])
    doubtful = torch.tensor([i >= counts[c] for c in range(k) for i in range(counts[c] + unsure[c])])
    p = torch.where(doubtful[:, None], 0.5, 1.0) * torch.eye(k)[labels]
    return torch.eye(k)[labels], p + (1 - p.sum(1, keepdim=True)) / k, labels


def test_the_cut_leaves_as_many_of_each():
    z, p, truth = sure([9, 4, 30], [3, 0, 5])
    got = reliable(z, p, 1, threshold=0.7, balance=True)
    kept = got >= 0
    assert got[kept].bincount().tolist() == [4, 4, 4] and torch.equal(got[kept], truth[kept])
    assert (reliable(z, p, 1, threshold=0.7)[kept] >= 0).all(), "only of the reliable ones"


def test_an_empty_cluster_is_left_out_of_the_cut():
    z, p, _ = sure([9, 0, 5, 0], [0, 7, 0, 2])
    assert reliable(z, p, 1, threshold=0.7, balance=True).add(1).bincount(minlength=5).tolist()[1:] == [5, 0, 5, 0]
    z, p, _ = sure([0, 0], [4, 4])
    assert reliable(z, p, 1, threshold=0.8, balance=True).tolist() == [-1] * 8, "nobody is reliable"


def test_the_cut_is_drawn():
    z, p, _ = sure([40, 4, 40])

    def cut(seed):
        return reliable(z, p, 1, balance=True, generator=None if seed is None else torch.Generator().manual_seed(seed))

    assert torch.equal(cut(3), cut(3)) and not torch.equal(cut(3), cut(4)) and torch.equal(cut(None), cut(0))
    often = torch.stack([cut(seed) >= 0 for seed in range(400)]).double().mean(0)
    assert (often[40:44] == 1).all()
    assert often[:40].min() > 0.03 and often[:40].max() < 0.2, "everybody has the same chance, here 0.1"
    before = torch.random.get_rng_state()
    cut(3)
    assert torch.equal(torch.random.get_rng_state(), before)
