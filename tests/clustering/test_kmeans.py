"""In float64 but where float32 is the matter. Shapes: N rows, D feature, K clusters."""

import threading

import pytest
import torch

from coterie.clustering import kmeans as module
from coterie.clustering.kmeans import kmeans, pca_whiten
from coterie.clustering.rows import unit
from coterie.errors import InputError

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int = 300, d: int = 5, k: int = 6, spread: float = 0.3, seed: int = 0) -> torch.Tensor:
    generator = seeded(seed)
    return torch.randn(k, d, generator=generator)[torch.arange(n) % k] * 3 + spread * torch.randn(n, d, generator=generator)


def naive_lloyd(x_ND: torch.Tensor, centroids_KD: torch.Tensor, iters: int, spherical: bool = False):
    """Loops in float64; no empty clusters foreseen."""
    x, c = x_ND.double(), centroids_KD.double().clone()
    x = x / x.norm(dim=1, keepdim=True) if spherical else x

    def assign():
        return torch.tensor([min(range(len(c)), key=lambda k: float(((row - c[k]) ** 2).sum())) for row in x])

    labels = assign()
    for _ in range(iters):
        for k in range(len(c)):
            mean = x[labels == k].mean(0)
            c[k] = mean / mean.norm() if spherical else mean
        labels = assign()
    return labels, c, sum(float(((row - c[k]) ** 2).sum()) for row, k in zip(x, labels))


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_equals_naive_loops(spherical, dtype, tolerance):
    x = blobs().to(dtype)
    init = unit(x[:6]) if spherical else x[:6]
    got = kmeans(x, 6, init=init, iters=4, spherical=spherical, tol=-1)
    labels, centroids, inertia = naive_lloyd(x, init, 4, spherical)
    assert torch.equal(got.labels_N, labels) and got.labels_N.dtype == torch.int64
    assert got.centroids_KD.dtype == dtype
    torch.testing.assert_close(got.centroids_KD.double(), centroids, rtol=tolerance, atol=tolerance)
    assert got.inertia == pytest.approx(inertia, rel=tolerance)
    assert torch.equal(got.sizes_K, labels.bincount(minlength=6))


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_each_row_has_its_nearest_centroid_and_no_cluster_is_empty(init):
    x = torch.randn(2000, 8, generator=seeded(1), dtype=torch.float64)
    for spherical in (False, True):
        got = kmeans(x, 150, init=init, spherical=spherical)
        rows = unit(x) if spherical else x
        distance = torch.cdist(rows, got.centroids_KD, compute_mode="donot_use_mm_for_euclid_dist")
        own = distance.gather(1, got.labels_N[:, None])[:, 0]
        assert (own <= distance.amin(1) + 1e-9).all()
        assert (got.sizes_K > 0).all() and got.sizes_K.sum() == 2000
        assert got.inertia == pytest.approx(float((own**2).sum()), rel=1e-9)
        if spherical:
            torch.testing.assert_close(got.centroids_KD.norm(dim=1), torch.ones(150).double(), **TIGHT)


def test_chunks_change_nothing(monkeypatch):
    x = blobs(1000, 7, 9, spread=1.0).double()
    want = kmeans(x, 9)
    monkeypatch.setattr(module, "SCORES", {"cpu": 9 * 17})
    monkeypatch.setattr(module, "CHUNK", 13)
    got = kmeans(x, 9)
    assert torch.equal(got.labels_N, want.labels_N)
    torch.testing.assert_close(got.centroids_KD, want.centroids_KD, **TIGHT)


def test_sums_by_product_equal_sums_by_index(monkeypatch):
    monkeypatch.setattr(module, "SCORES_ELSEWHERE", 9 * 20)
    x, labels = torch.randn(500, 6, generator=seeded(1), dtype=torch.float64), torch.randint(9, (500,), generator=seeded(2))
    torch.testing.assert_close(module._sums(x, labels, 9, by_index=False), module._sums(x, labels, 9, by_index=True), **TIGHT)


def test_rotation_and_order_do_not_matter():
    x = blobs(spread=0.8).double()
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=seeded(3))).Q
    order = torch.randperm(300, generator=seeded(4))
    want = kmeans(x, 6, init=x[:6])
    turned = kmeans(x @ turn, 6, init=x[:6] @ turn)
    mixed = kmeans(x[order], 6, init=x[:6])
    assert torch.equal(turned.labels_N, want.labels_N)
    torch.testing.assert_close(turned.centroids_KD, want.centroids_KD @ turn, **TIGHT)
    assert torch.equal(mixed.labels_N, want.labels_N[order])


def test_far_from_the_origin():
    """Without care 1e4 squared leaves nothing of distances of 1 in float32."""
    x = blobs(spread=0.2)
    want, far = kmeans(x, 6, init=x[:6]), kmeans(x + 1e4, 6, init=x[:6] + 1e4)
    assert torch.equal(want.labels_N, far.labels_N)


def test_same_generator_same_bits_and_none_is_seed_0():
    x = torch.randn(500, 4, generator=seeded(5))
    for init in ("random", "k-means++"):
        results = [kmeans(x, 40, generator, init=init) for generator in (None, seeded(0), seeded(1))]
        assert torch.equal(results[0].centroids_KD, results[1].centroids_KD)
        assert not torch.equal(results[0].centroids_KD, results[2].centroids_KD)


def test_kmeans_plus_plus_and_restarts_lower_the_inertia():
    x = blobs(600, 3, 30, spread=0.05)
    random = [kmeans(x, 30, seeded(s)).inertia for s in range(5)]
    better = [kmeans(x, 30, seeded(s), init="k-means++").inertia for s in range(5)]
    assert sum(better) < 0.5 * sum(random)
    assert kmeans(x, 30, seeded(0), restarts=5).inertia <= random[0]


def test_the_best_restart_is_kept():
    x, better = blobs(300, 3, 20, spread=0.5).double(), 0
    for seed in range(5):
        generator = seeded(seed)
        alone = [kmeans(x, 20, generator).inertia for _ in range(4)]  # as the restarts draw, one after the other
        assert kmeans(x, 20, seeded(seed), restarts=4).inertia == min(alone)
        better += min(alone) < alone[-1]
    assert better, "here the last one is not always the best"


def test_kmeans_plus_plus_is_greedy():
    """Of each 2 + ln k trials the row that leaves the least sum of squared distances, by loops over the same draws."""
    x, k = torch.randn(60, 4, generator=seeded(1), dtype=torch.float64), 8
    generator = seeded(4)
    rows = x[torch.randperm(60, generator=generator)]
    draws = torch.rand(k, 4, generator=generator).double()
    gaps = [((row - rows[0]) ** 2).sum().item() for row in rows]
    chosen = [0]
    for draw in draws[1:]:
        left = {}
        for point in (draw * sum(gaps)).tolist():
            trial = next(i for i in range(60) if sum(gaps[: i + 1]) >= point)
            left[trial] = [min(gap, ((row - rows[trial]) ** 2).sum().item()) for gap, row in zip(gaps, rows)]
        chosen.append(min(left, key=lambda trial: sum(left[trial])))
        gaps = left[chosen[-1]]
    assert torch.equal(kmeans(x, k, seeded(4), iters=0, init="k-means++").centroids_KD, rows[chosen])


def test_it_stops_when_few_enough_rows_change():
    """With tol 0 where one more update changes nothing; with a larger one before that."""
    x = torch.randn(800, 3, generator=seeded(2), dtype=torch.float64)
    found = kmeans(x, 12, iters=200)
    again = kmeans(x, 12, init=found.centroids_KD, iters=1, tol=-1)
    assert torch.equal(found.labels_N, again.labels_N)
    torch.testing.assert_close(found.centroids_KD, again.centroids_KD, **TIGHT)
    steps = [kmeans(x, 12, iters=i) for i in range(30)]  # the clusterings on the way
    changed = [float((one.labels_N != other.labels_N).double().mean()) for one, other in zip(steps, steps[1:])]
    for tol in (0.3, 0.1, 0.02):
        stop = next(i for i, share in enumerate(changed) if share <= tol)
        assert torch.equal(kmeans(x, 12, iters=200, tol=tol).labels_N, steps[stop + 1].labels_N)


def test_kmeans_plus_plus_on_a_sample(monkeypatch):
    monkeypatch.setattr(module, "SEED_ROWS", 50)
    got = kmeans(blobs(1000, 3, 4, spread=0.05), 4, init="k-means++")
    assert sorted(got.sizes_K.tolist()) == [250] * 4


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_fewer_distinct_rows_than_clusters(init, spherical):
    x = torch.randn(12, 8, generator=seeded(6))[torch.arange(200) % 12]
    got = kmeans(x, 30, init=init, spherical=spherical)
    assert got.centroids_KD.isfinite().all() and int((got.sizes_K > 0).sum()) == 12
    assert got.inertia < 1e-6


@pytest.mark.parametrize("distinct", [30, 31, 200])
def test_no_empty_cluster_with_as_many_distinct_rows(distinct):
    x = torch.randn(distinct, 3, generator=seeded(7))[torch.arange(200) % distinct]
    x[100:] = x[0]  # and one row that outweighs all others
    k = min(30, len(x.unique(dim=0)))
    for seed in range(5):
        for init in ("random", x[:1].repeat(k, 1)):
            assert (kmeans(x, k, seeded(seed), init=init).sizes_K > 0).all()


def test_a_split_centroid_goes_both_ways():
    lloyd = module._Lloyd(torch.zeros(100, 4), 4, False, module.Alone(), seeded(0))
    c = torch.tensor([[1.0, 2, 3, 4], [5, 5, 5, 5], [7, 7, 7, 7], [9, 9, 9, 9]])
    got = lloyd.split(c.clone(), torch.tensor([97, 0, 1, 2]))
    up, down = 1 + 1 / 1024, 1 - 1 / 1024
    donor = 0 if not torch.equal(got[0], c[0]) else 3
    torch.testing.assert_close(got[1], c[donor] * torch.tensor([up, down, up, down]))
    torch.testing.assert_close(got[donor], c[donor] * torch.tensor([down, up, down, up]))
    assert torch.equal(got[2], c[2]), "a lone member has nothing to share"


def test_donors_are_drawn_by_what_they_can_spare():
    """A cluster of n members gives with a chance in proportion to n - 1: one of a single member never does."""
    sizes, times = torch.tensor([1, 0, 3, 1, 2, 1, 1, 1]), [0] * 8
    for seed in range(300):
        lloyd = module._Lloyd(torch.zeros(10, 2), 8, False, module.Alone(), seeded(seed))
        start = torch.arange(1.0, 17).view(8, 2)
        got = lloyd.split(start.clone(), sizes)
        (donor,) = [k for k in range(8) if k != 1 and not torch.equal(got[k], start[k])]
        times[donor] += 1
    assert times[2] + times[4] == 300 and abs(times[2] - 200) < 4 * (300 * 2 / 9) ** 0.5, times


def test_zero_rows_and_opposite_rows_under_cosine():
    x = torch.cat([torch.zeros(5, 3), torch.eye(3).repeat(10, 1), -torch.eye(3).repeat(10, 1)])
    for seed in range(5):
        got = kmeans(x, 6, seeded(seed), spherical=True)
        assert got.centroids_KD.isfinite().all() and got.sizes_K.sum() == len(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rows_are_computed_in_float32(dtype):
    x = blobs().to(dtype)
    got, want = kmeans(x, 6), kmeans(x.float(), 6)
    assert got.centroids_KD.dtype == torch.float32 and torch.equal(got.centroids_KD, want.centroids_KD)


def test_autocast_and_fast_products_outside_change_nothing():
    x = torch.randn(400, 32, generator=seeded(8))
    want = kmeans(x, 20)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            got = kmeans(x.clone().requires_grad_(), 20)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(got.centroids_KD, want.centroids_KD) and not got.centroids_KD.requires_grad


class Rank:
    """One of several threads that play ranks: what they hand in is added in rank order."""

    def __init__(self, rank: int, world: int, barrier: threading.Barrier, desk: dict):
        self.rank, self.world, self.barrier, self.desk = rank, world, barrier, desk

    def exchange(self, x):
        self.desk[self.rank] = x
        self.barrier.wait(60)
        all_of_them = [self.desk[r] for r in range(self.world)]
        self.barrier.wait(60)
        return all_of_them

    def sum(self, x):
        return torch.stack(self.exchange(x)).sum(0)

    def broadcast(self, x):
        return self.exchange(x)[0].clone()


def on_ranks(world: int, work) -> list:
    barrier, desk, results = threading.Barrier(world), {}, [None] * world

    def play(rank):
        try:
            results[rank] = work(Rank(rank, world, barrier, desk))
        except BaseException as error:
            results[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=play, args=(rank,)) for rank in range(world)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return results


@pytest.mark.parametrize("world, n", [(2, 401), (3, 401), (3, 10)])
@pytest.mark.parametrize("spherical", [False, True])
def test_several_ranks_equal_one(world, n, spherical):
    x = blobs(n, 6, 8, spread=1.0).double()
    k = min(n - 1, 25)
    alone = kmeans(x, k, spherical=spherical)
    # a generator of its own on each rank: rank 0 decides
    several = on_ranks(world, lambda run: kmeans(x, k, seeded(run.rank), run=run, spherical=spherical))
    for got in several:
        assert torch.equal(got.labels_N, alone.labels_N) and torch.equal(got.sizes_K, alone.sizes_K)
        assert torch.equal(got.centroids_KD, several[0].centroids_KD) and got.inertia == several[0].inertia
        torch.testing.assert_close(got.centroids_KD, alone.centroids_KD, rtol=1e-9, atol=1e-12)


def test_refusals_name_the_value():
    x = torch.randn(10, 3)
    for k, words in ((0, "k = 0"), (-1, "k = -1"), (11, "k = 11")):
        with pytest.raises(InputError, match=words):
            kmeans(x, k)
    with pytest.raises(InputError, match="row 4"):
        kmeans(x.index_fill(0, torch.tensor([4, 6]), float("nan")), 2)
    with pytest.raises(InputError, match="row 0"):
        kmeans(x.index_fill(0, torch.tensor([0]), float("inf")), 2)
    with pytest.raises(InputError, match=r"shape \(3, 3\)"):
        kmeans(x, 2, init=x[:3])
    with pytest.raises(InputError, match="'kmeans'"):
        kmeans(x, 2, init="kmeans")
    with pytest.raises(InputError, match="iters = -1"):
        kmeans(x, 2, iters=-1)
    with pytest.raises(InputError, match="shape"):
        kmeans(x[0], 2)


def test_the_least_there_can_be():
    x = torch.randn(7, 2, generator=seeded(9))
    assert kmeans(x, 7).inertia == 0.0
    torch.testing.assert_close(kmeans(x.double(), 1).centroids_KD[0], x.double().mean(0), **TIGHT)
    given = kmeans(x, 2, init=x[:2], iters=0)
    assert torch.equal(given.centroids_KD, x[:2])
    assert kmeans(torch.full((5, 3), 2.0), 3).inertia == 0.0


# ---- PCA-whitening


def test_whitening_equals_naive_float64():
    x = torch.randn(200, 12, generator=seeded(10)).double() @ torch.randn(12, 12, generator=seeded(11)).double() + 3
    centred = x - x.mean(0)
    u, s, vt = torch.linalg.svd(centred, full_matrices=False)
    want = unit(u[:, :5] * s[:5] / (s[:5] ** 2 + 1e-8 * s[0] ** 2).sqrt())  # the floor that a variance has
    got, single = pca_whiten(x, 5), pca_whiten(x.float(), 5)
    torch.testing.assert_close((got @ got.T), want @ want.T, **TIGHT)
    torch.testing.assert_close((single @ single.T).double(), want @ want.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(single.norm(dim=1), torch.ones(200))


def test_whitening_does_not_see_scale_or_rotation():
    x = torch.randn(100, 6, generator=seeded(12)).double()
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=seeded(13))).Q
    got, want = pca_whiten(7 * x @ turn + 5, 6), pca_whiten(x, 6)
    torch.testing.assert_close(got @ got.T, want @ want.T, **TIGHT)


@pytest.mark.parametrize("n, d, asked, components", [(600, 16, 256, 16), (20, 64, 256, 19), (50, 8, 4, 4), (2, 3, 256, 1)])
def test_whitening_takes_as_many_components_as_there_are(n, d, asked, components):
    got = pca_whiten(torch.randn(n, d, generator=seeded(14)), asked)
    assert got.shape == (n, components) and got.isfinite().all()


def test_whitening_of_constant_columns_and_rows():
    x = torch.randn(40, 8, generator=seeded(15))
    x[3], x[:, 2] = 0, 0.3
    assert pca_whiten(x, 8).isfinite().all()
    assert pca_whiten(torch.ones(10, 4)).eq(0).all()
    assert pca_whiten(x.bfloat16()).dtype == torch.float32


def test_whitening_refuses():
    with pytest.raises(InputError, match="of 1 rows"):
        pca_whiten(torch.randn(1, 4))
    with pytest.raises(InputError, match="n_components = 0"):
        pca_whiten(torch.randn(9, 4), 0)
    with pytest.raises(InputError, match="row 2"):
        pca_whiten(torch.randn(9, 4).index_fill(0, torch.tensor([2]), float("nan")))


def test_whitening_of_rows_wider_than_they_are_many_equals_naive_float64():
    x = torch.randn(12, 40, generator=seeded(17)).double() * torch.linspace(1, 4, 40).double()
    left = torch.linalg.svd(x - x.mean(0), full_matrices=False).U
    want, got, single = unit(left[:, :6]), pca_whiten(x, 6), pca_whiten(x.float(), 6).double()
    torch.testing.assert_close(got @ got.T, want @ want.T, rtol=1e-6, atol=1e-6)  # axes may point either way
    torch.testing.assert_close(single @ single.T, want @ want.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_without_variance_stay_at_zero_in_wide_rows(dtype):
    x = torch.randn(12, 40, generator=seeded(18)).double()
    x[6:] = x[:6]
    left = torch.linalg.svd(x - x.mean(0), full_matrices=False).U[:, :5]
    got = pca_whiten(x.to(dtype), 11).double()
    torch.testing.assert_close(got @ got.T, unit(left) @ unit(left).T, rtol=1e-3, atol=1e-3)


def test_whitening_of_very_wide_rows_needs_no_square_of_their_width():
    """76,800 columns are a picture of 160 px: their square would be 23 GB in float32."""
    assert pca_whiten(torch.randn(30, 76_800, generator=seeded(16)), 8).shape == (30, 8)
