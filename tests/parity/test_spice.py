"""SPICE's pseudo-labels, losses, schedule and networks against what the reference implementations computed; one test a row."""

import numpy as np
import pytest
import torch
from torch import nn

from coterie.learning.losses import cross_entropy, double_softmax_cross_entropy, fixmatch
from coterie.learning.pseudo_labels import core_means, prototype, prototype_losses, reliable
from coterie.learning.schedule import fixmatch_cosine, trapezoid
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.backbones.wide_resnet import WideResNet
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import MlpHeads

from .conftest import double


def close(got, want, rtol=1e-6, atol=1e-6):
    np.testing.assert_allclose(np.asarray(got), want, rtol=rtol, atol=atol)


def pairs(index, labels) -> set[tuple[int, int]]:
    return set(zip(np.asarray(index).ravel().tolist(), np.asarray(labels).ravel().tolist()))


@pytest.mark.parametrize("case", "abcd")
def test_spice_prototype_select(golden, case):
    z = golden("spice_prototype_select")
    features, p, share = double(z[f"{case}_feas"]), double(z[f"{case}_scores"]), float(z[f"{case}_center_ratio"])
    index, labels = prototype(features, p, share)
    assert pairs(index, labels) == pairs(z[f"{case}_idx"], z[f"{case}_labels"])
    assert len(index) == z[f"{case}_idx"].size
    close(core_means(features, p, share), z[f"{case}_centers"])
    twice = prototype(features, torch.stack([p, p.roll(1, 1)]), share)
    assert torch.equal(twice[0][0], index), "a head more changes nothing"
    # without overlap the published code lets cluster 0 choose first, ours the most similar pair: as many of each, other ones
    index, labels = prototype(features, p, share, overlap=False)
    theirs = pairs(z[f"{case}_idx_nonoverlap"], z[f"{case}_labels_nonoverlap"])
    assert np.array_equal(np.bincount(labels), np.bincount(z[f"{case}_labels_nonoverlap"]))
    assert len(set(index.tolist())) == len(index) == len(theirs)


@pytest.mark.parametrize("case", "ab")
def test_spice_double_softmax(golden, case):
    z = golden("spice_double_softmax")
    target = torch.tensor(z[f"{case}_target"])
    logits = double(z[f"{case}_logits"], requires_grad=True)
    loss = double_softmax_cross_entropy(logits, target)
    loss.backward()
    close(loss.detach(), z[f"{case}_ds_loss"])
    close(logits.grad, z[f"{case}_ds_grad"])

    x = double(z[f"{case}_x"], requires_grad=True)
    head = MlpHeads(x.shape[1], z[f"{case}_probs"].shape[1], n_heads=2).double()  # theirs, and one of zeros beside it
    theirs = {"hidden": "classifier.lin1", "output": "classifier.lin2"}
    with torch.no_grad():
        for ours, name in theirs.items():
            for part in ("weight", "bias"):
                weight = getattr(getattr(head, ours), part)
                weight.zero_()
                weight[0] = torch.tensor(z[f"{case}_{name}.{part}"])
    logits = head(x)
    close(logits[0].detach().softmax(1), z[f"{case}_probs"])
    losses = double_softmax_cross_entropy(logits, target.expand(2, -1))
    losses[0].backward()
    close(losses[0].detach(), z[f"{case}_loss"])
    close(losses[1].detach(), np.log(logits.shape[2]), 1e-6)
    close(x.grad, z[f"{case}_grad_x"])
    for ours, name in theirs.items():
        for part in ("weight", "bias"):
            grad = getattr(getattr(head, ours), part).grad
            close(grad[0], z[f"{case}_grad_{name}.{part}"])
            assert not grad[1].any()


@pytest.mark.parametrize("case", "abcd")
def test_spice_reliable(golden, case):
    z = golden("spice_reliable")
    features, p = double(z[f"{case}_feas"]), double(z[f"{case}_scores"])
    n, threshold = int(z[f"{case}_num_neighbor"]), float(z[f"{case}_score_th"])
    args = {"n_neighbors": n, "ratio": float(z[f"{case}_ratio_confident"]), "threshold": threshold}
    got = reliable(features, p, **args)
    want = np.full(len(got), -1)
    want[z[f"{case}_idx_unbalanced"]] = z[f"{case}_labels_unbalanced"]
    assert np.array_equal(got, want)
    for count in np.unique(np.quantile(z[f"{case}_num_consistent"], np.linspace(0, 1, 9)).astype(int)):  # read off ours by its bar
        assert np.array_equal(reliable(features, p, n, count / n) >= 0, z[f"{case}_num_consistent"] >= count)

    even = reliable(features, p, balance=True, generator=torch.Generator().manual_seed(0), **args).numpy()
    assert np.array_equal(even[even >= 0], want[even >= 0])
    counts, theirs = np.bincount(want[want >= 0]), z[f"{case}_labels_balanced_seed0"]
    if len(theirs):
        assert np.array_equal(np.bincount(even[even >= 0]), np.bincount(theirs))
    else:  # a cluster with nobody reliable empties their whole set; ours goes on without it
        assert len(counts) < p.shape[1] or not counts.all()
        assert np.array_equal(np.bincount(even[even >= 0]), np.where(counts, counts[counts > 0].min(), 0))


def test_spice_head_selection(golden):
    z = golden("spice_head_selection")
    features, p = double(z["feas"]), torch.stack([double(z[f"scores_{head}"]) for head in range(4)])
    losses = prototype_losses(features, p)
    close(losses, z["losses"])
    assert int(losses.argmin()) == int(z["best_head"])
    for chosen, head in zip(prototype(features, p)[0], range(4)):
        assert sorted(chosen.tolist()) == sorted(z[f"idx_{head}"].tolist())


@pytest.mark.parametrize("case", "abc")
def test_fixmatch_loss(golden, case):
    z = golden("fixmatch_loss")
    threshold = float(z[f"{case}_p_cutoff"])
    weak, strong, labelled = (double(z[f"{case}_logits_{name}"], requires_grad=True) for name in "wsx")
    unsupervised, kept = fixmatch(weak, strong, threshold)
    supervised = cross_entropy(labelled, torch.tensor(z[f"{case}_y"]))
    total = supervised + unsupervised
    total.backward()
    close(unsupervised.detach(), z[f"{case}_unsup"])
    close(kept, z[f"{case}_mask_mean"])
    close(supervised.detach(), z[f"{case}_sup"])
    close(total.detach(), z[f"{case}_total"])
    close(strong.grad, z[f"{case}_grad_s"])
    close(labelled.grad, z[f"{case}_grad_x"])
    assert weak.grad is None
    soft, _ = fixmatch(weak, strong, threshold, temperature=0.5)
    close(soft.detach(), z[f"{case}_unsup_soft_T0.5"])


def test_fixmatch_schedule(golden):
    rates = [fixmatch_cosine(step / 1000, 0.03) for step in range(1001)]
    close(rates, golden("fixmatch_loss")["cosine_7_16_lr0.03_1000steps"], 1e-12, 1e-12)


@pytest.mark.parametrize(
    "name, net, in_order",
    [
        ("fixmatch_wrn28_2", lambda: WideResNet(2), True),
        ("fixmatch_wrn28_8", lambda: WideResNet(8), True),
        ("fixmatch_wrn37_2_stl", lambda: WideResNet(2, strides=(2, 2, 2, 2)), True),
        ("spice_resnet18_cifar_feat", lambda: CifarResNet(18), False),
        ("spice_resnet18_stl_feat", lambda: CifarResNet(18, pool_stem=True), False),
        ("spice_clusterresnet_stl96_feat", lambda: CifarResNet(34, pool_stem=True), False),
        ("spice_clusterresnet_cifar32_moco", lambda: CifarResNet(34, pool_stem=True), False),
        ("spice_resnet34_imagenet_feat", lambda: build(EncoderSpec("resnet34", 224)).backbone, False),
    ],
)
def test_arch_spice(golden, name, net, in_order):
    """With theirs comes a linear classifier or projection after the features where `out` is one number; ours stands in heads.py."""
    want, ours = golden("arch_spice")[name], net().eval()
    width, classes = (ours.num_features if name.endswith("imagenet_feat") else ours.n_features), want["out"][0]
    last = [[classes, width], [classes]] if len(want["out"]) == 1 else []
    shapes = [list(weight.shape) for weight in ours.parameters()] + last
    assert sum(weight.numel() for weight in ours.parameters()) + sum(map(np.prod, last)) == want["params"]
    if in_order:
        assert shapes == want["shapes"], "in the same order, too"
        assert {module.momentum for module in ours.modules() if isinstance(module, nn.BatchNorm2d)} == {0.001}
        assert {module.negative_slope for module in ours.modules() if isinstance(module, nn.LeakyReLU)} == {0.1}
    assert sorted(shapes) == sorted(want["shapes"])
    with torch.no_grad():
        x = torch.zeros(1, *want["in"])
        if len(want["out"]) == 3:
            maps = ours.forward_features(x) if name.endswith("imagenet_feat") else ours.maps(x)
            assert list(maps.shape[1:]) == want["out"]
        assert ours(x).shape == (1, width)


def test_spice_ratio_schedule(golden):
    """Theirs marks a ramp with -1 for up and down; ours has both at its end."""
    z = golden("spice_ratio_schedule")
    start, up, down, end, low, high = z["trap_params"]
    np.testing.assert_allclose([trapezoid(i, start, up, down, end, low, high) for i in range(15)], z["trap"], rtol=0, atol=1e-12)
    start, _, _, end, low, high = z["ramp_params"]
    np.testing.assert_allclose([trapezoid(i, start, end, end, end, low, high) for i in range(15)], z["ramp"], rtol=0, atol=1e-12)
