"""Losses, schedules, augmentations and networks against what the reference implementations computed; one test a row of their README."""

import numpy as np
import pytest
import torch

from coterie.augment import operations
from coterie.augment.recipe import warp
from coterie.evaluate.knn import weighted_knn
from coterie.learning.losses import confident_cross_entropy, info_nce, nt_xent, scan_loss
from coterie.learning.pseudo_labels import confident
from coterie.learning.schedule import cosine
from coterie.networks.backbones.cifar_resnet import CifarResNet

from .conftest import double


def close(got, want, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(np.asarray(got), want, rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", "abcde")
@pytest.mark.parametrize("bits", [32, 64])
def test_scan_loss(golden, case, bits):
    z = golden("scan_loss")
    dtype, tolerance = (torch.float32, {}) if bits == 32 else (torch.float64, {"rtol": 1e-9, "atol": 1e-9})
    anchors, neighbours = (torch.tensor(z[f"{case}_{name}"], dtype=dtype, requires_grad=True) for name in ("anchors", "neighbors"))
    parts = scan_loss(anchors, neighbours, float(z[f"{case}_entropy_weight"]))
    for name, got in zip(("total", "consistency", "entropy"), parts):
        close(got.detach(), z[f"{case}_{name}_f{bits}"], **tolerance)
    parts[0].backward()
    close(anchors.grad, z[f"{case}_grad_anchors_f{bits}"], **tolerance)
    close(neighbours.grad, z[f"{case}_grad_neighbors_f{bits}"], **tolerance)


@pytest.mark.parametrize("case", "abcd")
def test_scan_conf_ce(golden, case):
    z = golden("scan_conf_ce")
    labels = confident(double(z[f"{case}_weak"]).softmax(1), float(z[f"{case}_threshold"]))
    assert np.array_equal(labels.numpy() >= 0, z[f"{case}_mask"])
    assert np.array_equal(labels.numpy()[z[f"{case}_mask"]], z[f"{case}_target"][z[f"{case}_mask"]])
    strong = double(z[f"{case}_strong"], requires_grad=True)
    loss = confident_cross_entropy(strong, labels, bool(z[f"{case}_balance"]))
    loss.backward()
    close(loss.detach(), z[f"{case}_loss_f32"])
    close(strong.grad, z[f"{case}_grad_strong_f32"])
    if f"{case}_loss_f64" in z:
        strong = double(z[f"{case}_strong"], requires_grad=True)
        loss = confident_cross_entropy(strong, labels, False)
        loss.backward()
        close(loss.detach(), z[f"{case}_loss_f64"], 1e-9, 1e-9)
        close(strong.grad, z[f"{case}_grad_strong_f64"], 1e-9, 1e-9)


@pytest.mark.parametrize("case", "abc")
def test_scan_simclr_loss(golden, case):
    z = golden("scan_simclr_loss")
    features = double(z[f"{case}_features"], requires_grad=True)
    loss = nt_xent(features, float(z[f"{case}_temperature"]))
    loss.backward()
    close(loss.detach(), z[f"{case}_loss_f32"])
    close(features.grad, z[f"{case}_grad_f32"], 1e-4)


def test_moco_infonce(golden):
    z = golden("moco_infonce")
    query, queue = double(z["q"], requires_grad=True), double(z["queue"]).T
    loss = info_nce(query, double(z["k"]), queue, float(z["T"]))
    loss.backward()
    close(loss.detach(), z["loss"])
    close(query.grad, z["grad_q"], 1e-4)


def test_scan_augment_ops(golden):
    z = golden("scan_augment_ops")
    ranges = dict(zip(z["ops"].tolist(), z["ranges"].tolist()))
    assert {name: [low, high] for name, low, high in operations.OPERATIONS} == ranges, "the same 14 operations and magnitudes"
    x = torch.tensor(z["image"]).permute(2, 0, 1)[None].float() / 255
    for name, (low, high) in ranges.items():
        for i, level in enumerate(z["levels"]):
            magnitude = torch.tensor([level * (high - low) + low]).float()
            if name in operations.VALUES:
                got = operations.VALUES[name](x, magnitude.view(-1, 1, 1, 1))
            elif name in operations.GEOMETRY:
                got = warp(x, operations.GEOMETRY[name](magnitude)[:, :2], padding="zeros", mode="nearest")
            else:
                got = x
            levels = (got[0].permute(1, 2, 0) * 255).round().numpy()
            worst = np.abs(levels - z[f"out_{name}"][i].astype(float)).max()
            assert worst <= 1, f"{name} at level {level}: {worst} levels from Pillow"


def test_scan_lr(golden):
    z = golden("scan_lr")
    close([cosine(epoch / 500, 0.4, 0.4 * 0.1**3) for epoch in range(500)], z["cosine_lr0.4_500ep"], 1e-12, 1e-12)


@pytest.mark.parametrize("name, pooled", [("scan_resnet18_cifar", False), ("scan_resnet18_stl", True)])
def test_arch_scan(golden, name, pooled):
    want, net = golden("arch_scan")[name], CifarResNet(18, pool_stem=pooled)
    assert sum(weight.numel() for weight in net.parameters()) == want["params"] == 11_168_832
    assert sorted(map(list, (weight.shape for weight in net.parameters()))) == sorted(want["shapes"])
    with torch.no_grad():
        assert list(net.eval()(torch.zeros(1, *want["in"])).shape[1:]) == want["out"]


def test_lemniscate(golden):
    z, data = golden("lemniscate"), golden("scan_memory_bank")
    features, queries, targets = double(data["features"]), double(data["queries"]), torch.tensor(data["targets"])
    for k in (200, 100):
        for temperature in (0.07, 0.1):
            found = weighted_knn(features, targets, queries, n_neighbors=k, temperature=temperature).numpy()
            assert (found == data["query_targets"]).mean() == pytest.approx(float(z[f"knn_top1_K{k}_sigma{temperature}"]), abs=1e-6)
    assert (weighted_knn(features, targets, queries, n_neighbors=1).numpy() == data["query_targets"]).mean() == pytest.approx(z["nn_top1"])
