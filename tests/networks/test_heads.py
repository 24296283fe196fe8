"""In float64 but where float32 is the matter. Shapes: B batch, D feature, H heads, K clusters."""

import numpy as np
import pytest
import torch
from torch import nn

from coterie.networks.heads import Centroids, Classifier, Heads, MlpHeads, Projector, UnitCentroids, UnitLinear
from coterie.networks.model import HEADS
from coterie.run.seeding import forked

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(n_features=6, n_clusters=4, n_heads=3, seed=0) -> Heads:
    with forked(seed):
        return Heads(n_features, n_clusters, n_heads).double()


def test_h_heads_are_h_single_heads():
    z, many = draw(9, 6), heads()
    logits = many(z)
    assert logits.shape == (3, 9, 4)
    for h in range(3):
        single = nn.Linear(6, 4).double()
        with torch.no_grad():
            single.weight.copy_(many.weight[h]), single.bias.copy_(many.bias[h])
        torch.testing.assert_close(logits[h], single(z), **TIGHT)


@pytest.mark.parametrize("make", [lambda: heads(), lambda: mlps()], ids=["linear", "mlp"])
def test_h_heads_learn_as_h_single_heads(make):
    """One optimizer over all of them is one over each: no head feels another."""
    z, target, many = draw(16, 6), torch.arange(16) % 4, make()
    before = many(z).detach()
    singles = [many.select(h).double() for h in range(3)]
    for module in (many, *singles):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        for _ in range(5):
            optimizer.zero_grad()
            sum(nn.functional.cross_entropy(logits, target) for logits in module(z)).backward()
            optimizer.step()
    torch.testing.assert_close(many(z), torch.cat([single(z) for single in singles]), **TIGHT)
    assert (many(z) - before).abs().max() > 0.1, "and they learn"


def test_select_is_a_copy_of_that_head_with_its_standardisation():
    many, z = heads(), draw(50, 6) * torch.tensor([1, 10, 100, 0.1, 0.01, 5]) + 3
    with torch.no_grad():
        many.bias.copy_(draw(3, 4, seed=2))
    many.standardise(z), many.float().double()  # a selected head is made in float32: numbers that fit into it
    for h in range(3):
        one = many.select(h).double()
        torch.testing.assert_close(one(z), many(z)[h : h + 1], **TIGHT)
    before = one(z).clone()
    with torch.no_grad():
        many.weight.zero_()
    assert torch.equal(one(z), before)


def test_heads_differ_and_start_unlike():
    many = heads(n_heads=5)
    assert not any(torch.equal(many.weight[i], many.weight[j]) for i in range(5) for j in range(i))
    assert torch.equal(heads().weight, heads().weight) and not torch.equal(heads().weight, heads(seed=1).weight)
    assert many.weight.abs().max() <= 1 / np.sqrt(6)


def test_standardise_takes_out_scale_and_offset():
    many, z = heads(), draw(400, 6)
    other = z * torch.tensor([1e-3, 1.0, 1e3, 5.0, 0.2, 7.0]) + torch.tensor([0.0, 10.0, -1e3, 1.0, 0.0, 5.0])
    many.standardise(z)
    want = many(z)
    many.standardise(other)
    torch.testing.assert_close(many(other), want, **TIGHT)


def test_a_constant_column_changes_nothing():
    many, z = heads(), draw(20, 6)
    z[:, 2] = 7.0
    many.standardise(z)
    assert many(z).isfinite().all() and float(many.scale[2]) == 1.0
    torch.testing.assert_close(((z - many.mean) * many.scale)[:, 2], torch.zeros(20).double(), **TIGHT)


def test_standardisation_is_no_weight_but_is_kept():
    many = heads()
    many.standardise(draw(20, 6))
    assert {name for name, _ in many.named_parameters()} == {"weight", "bias"}
    other = Heads(6, 4, 3).double()
    other.load_state_dict(many.state_dict())
    assert torch.equal(other(draw(5, 6)), many(draw(5, 6)))


# ---- heads that each have their own features


@pytest.mark.parametrize("kind", [Heads, MlpHeads])
def test_each_head_may_have_its_own_features(kind):
    with forked(0):
        many = kind(6, 4, 3).double()
    many.standardise(draw(50, 6) * 3 + 1), many.float().double()
    own = draw(3, 9, 6)
    logits = many(own)
    assert logits.shape == (3, 9, 4)
    for h in range(3):
        torch.testing.assert_close(logits[h], many(own[h])[h], **TIGHT)
        torch.testing.assert_close(logits[h : h + 1], many.select(h).double()(own[h]), **TIGHT)
    torch.testing.assert_close(many(own[:1].expand(3, 9, 6)), many(own[0]), **TIGHT)


# ---- heads of two layers


def mlps(n_heads=3, seed=0) -> MlpHeads:
    with forked(seed):
        return MlpHeads(6, 4, n_heads).double()


def test_h_mlp_heads_are_h_single_mlps():
    z, many = draw(9, 6), mlps()
    logits = many(z)
    assert logits.shape == (3, 9, 4)
    for h in range(3):
        single = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 4)).double()
        with torch.no_grad():
            for layer, ours in ((single[0], many.hidden), (single[2], many.output)):
                layer.weight.copy_(ours.weight[h]), layer.bias.copy_(ours.bias[h])
        torch.testing.assert_close(logits[h], single(z), **TIGHT)


def test_selecting_an_mlp_head_copies_it_with_its_standardisation():
    many, z = mlps(), draw(50, 6) * torch.tensor([1, 10, 100, 0.1, 0.01, 5]) + 3
    with torch.no_grad():
        many.hidden.bias.copy_(draw(3, 6, seed=2)), many.output.bias.copy_(draw(3, 4, seed=3))
    raw = many(z)
    many.standardise(z), many.float().double()
    assert not torch.allclose(many(z), raw)
    for h in range(3):
        one = many.select(h).double()
        assert one(z).shape == (1, 50, 4)
        torch.testing.assert_close(one(z), many(z)[h : h + 1], **TIGHT)
    before = one(z).clone()
    with torch.no_grad():
        for weight in many.parameters():
            weight.zero_()
    assert torch.equal(one(z), before)


def test_mlp_heads_start_unlike_and_bend():
    many, z = mlps(n_heads=5), draw(20, 6)
    for layer in (many.hidden, many.output):
        assert not any(torch.equal(layer.weight[i], layer.weight[j]) for i in range(5) for j in range(i))
    assert torch.equal(mlps()(z), mlps()(z)) and not torch.equal(mlps()(z), mlps(seed=1)(z))
    assert not torch.allclose(many(z) + many(-z), 2 * many(torch.zeros(20, 6)), atol=1e-3), "a linear head would be odd around zero"


def test_a_model_file_finds_every_kind_of_head():
    """By class name and (n_features, n_clusters), as `model.load` does."""
    for name, kind in HEADS.items():
        assert kind.__name__ == name and kind(6, 4)(draw(3, 6).float()).shape == (1, 3, 4)
    one, again = mlps().select(1).double(), HEADS["MlpHeads"](6, 4).double()
    again.load_state_dict(one.state_dict())
    assert torch.equal(again(draw(5, 6)), one(draw(5, 6)))


# ---- centroids as a classifier


def classifier(offset: float = 0.0, dtype=torch.float64) -> tuple[Centroids, torch.Tensor, torch.Tensor, torch.Tensor]:
    centroids = (draw(5, 8) + offset).to(dtype)
    labels = torch.arange(300) % 5
    z = centroids[labels] + draw(300, 8, seed=1).to(dtype)
    head = Centroids(8, 5).to(dtype)
    head.calibrate(centroids, z, labels)
    return head, centroids, z, labels


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_logits_are_ordered_by_distance(offset):
    """Also far from the origin, where |z|^2 drowns the differences in float32."""
    head, centroids, z, _ = classifier(offset, torch.float32)
    distance = torch.cdist(z.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
    found, near = head(z)[0].topk(2).indices, distance.topk(3, largest=False)
    assert (distance.gather(1, found) - near.values[:, :2]).abs().max() < 1e-4, "another one only where the two are as near"
    clear = near.values[:, 1:] - near.values[:, :2] > 1e-3
    assert clear.float().mean() > 0.9
    assert torch.equal(found[:, 0][clear[:, 0]], near.indices[:, 0][clear[:, 0]])
    assert torch.equal(found[clear.all(1)], near.indices[clear.all(1), :2])


def test_logits_are_minus_squared_distance_over_the_temperature():
    head, centroids, z, _ = classifier()
    want = -(torch.cdist(z, centroids) ** 2) / head.temperature
    got = head(z)[0]
    torch.testing.assert_close(got.softmax(1), want.softmax(1), **TIGHT)
    torch.testing.assert_close(got - got[:, :1], want - want[:, :1], **TIGHT)


def test_probabilities_are_those_of_gaussians():
    """Two round clouds whose centres are known: a point half-way has 1/2, and p is right as often as it says."""
    rng = torch.Generator().manual_seed(0)
    centroids = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    labels = torch.arange(40_000) % 2
    z = centroids[labels] + torch.randn(40_000, 2, generator=rng)
    head = Centroids(2, 2)
    head.calibrate(centroids, z, labels)
    p = head(z)[0].softmax(1)
    assert float(head(torch.zeros(1, 2))[0].softmax(1)[0, 0]) == pytest.approx(0.5)
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        rows = (p.max(1).values >= low) & (p.max(1).values < low + 0.1)
        right = (p.argmax(1) == labels)[rows].float().mean()
        assert float(right) == pytest.approx(float(p.max(1).values[rows].mean()), abs=0.03)


def test_a_calibrated_scale_is_the_same_at_any_scale():
    head, centroids, z, labels = classifier()
    larger = Centroids(8, 5).double()
    larger.calibrate(100 * centroids, 100 * z, labels)
    torch.testing.assert_close(larger(100 * z)[0].softmax(1), head(z)[0].softmax(1), **TIGHT)


def test_rows_on_their_centroids_are_certain_and_finite():
    centroids = draw(3, 4).float()
    head = Centroids(4, 3)
    head.calibrate(centroids, centroids, torch.arange(3))
    p = head(centroids)[0].softmax(1)
    assert p.isfinite().all() and torch.equal(p.argmax(1), torch.arange(3)) and float(p.max(1).values.min()) > 0.99


def test_a_linear_projection_of_places_has_the_mean_of_the_projected_mean():
    layer, maps = UnitLinear(6, 4), draw(5, 6, 3, 2).float()
    rows = layer(maps.mean((2, 3)))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
    mean = layer.places(maps).mean((2, 3))
    torch.testing.assert_close(mean / mean.norm(dim=1, keepdim=True), rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(maps.mean((2, 3))), rows), "in float32 whatever the surroundings are"


def test_projector_gives_unit_rows():
    with forked(0):
        net = Projector(8, 5)
    assert net(draw(6, 8).float()).shape == (6, 5)
    torch.testing.assert_close(net(draw(6, 8).float()).norm(dim=1), torch.ones(6))
    assert net(torch.zeros(2, 8, dtype=torch.bfloat16).float()).dtype == torch.float32


# ---- DeepCluster's


def test_unit_centroids_take_features_of_any_length():
    """They say of raw features what plain centroids say of centred unit ones; distance from the mean changes nothing, direction does."""
    z, labels = draw(40, 6, seed=1) + 3, torch.arange(40) % 3
    plain, own = Centroids(6, 3).double(), UnitCentroids(6, 3).double()
    own.mean.copy_(z.mean(0))
    unit = own.unit(z)
    naive = torch.stack([(row - z.mean(0)) / (row - z.mean(0)).square().sum().sqrt() for row in z])
    torch.testing.assert_close(unit, naive, **TIGHT)
    centroids = torch.stack([unit[labels == k].mean(0) for k in range(3)])
    plain.calibrate(centroids, unit, labels), own.calibrate(centroids, unit, labels)
    torch.testing.assert_close(own(z), plain(unit), **TIGHT)
    further = z.mean(0) + (z - z.mean(0)) * (torch.arange(40)[:, None] % 5 + 0.5)
    torch.testing.assert_close(own(further), own(z), **TIGHT)
    assert not torch.allclose(own(z), plain(z), atol=0.1), "of raw features plain centroids say something else"
    assert own(z.mean(0, keepdim=True)).isfinite().all()
    again = UnitCentroids(6, 3).double()
    again.load_state_dict(own.state_dict())
    assert torch.equal(again(z), own(z)), "the mean is kept with it"


def test_the_first_weights_of_a_classifier():
    with forked(0):
        classifier = Classifier(200, 300).double()
    assert float(classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.02) and not classifier.bias.any()
    z = draw(5, 200)
    torch.testing.assert_close(classifier(z), z @ classifier.weight.T, **TIGHT)


@pytest.mark.parametrize("n_features, width", [(6, 6), (512, 512), (2048, 512)])
def test_a_hidden_layer_is_as_wide_as_the_features_and_512_at_most(n_features, width):
    heads = MlpHeads(n_features, 3, 2)
    assert heads.hidden.weight.shape == (2, width, n_features) and heads.output.weight.shape == (2, 3, width)
    x = torch.randn(5, n_features, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(heads.select(1)(x)[0], heads(x)[1])
