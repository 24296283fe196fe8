"""PCP's, AND's and instance discrimination's parts against what the reference implementations computed; one test a row of their README."""

import numpy as np
import pytest
import torch

from coterie.learning.instance_losses import (
    bank_cross_entropy,
    neighbourhood_loss,
    noise_contrastive,
    purified_cluster_loss,
    softmax_normaliser,
    spreading_loss,
)
from coterie.learning.pseudo_labels import Votes, anchors, near_centroid
from coterie.learning.schedule import progressive_clusters
from coterie.networks.backbones.alexnet import alexnet
from coterie.networks.backbones.cifar_resnet import CifarResNet
from coterie.networks.bank import MemoryBank
from coterie.networks.heads import UnitLinear

from .conftest import double


def close(got, want, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(np.asarray(got).reshape(np.shape(want)), want, rtol=rtol, atol=atol)


def by_image(z, name: str) -> torch.Tensor:
    """Their rows come in the loader's order, ours by image."""
    rows = np.empty_like(z[name])
    rows[z["feature_index"]] = z[name]
    return torch.tensor(rows)


def groups(labels) -> set[frozenset[int]]:
    labels = np.asarray(labels)
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels[labels >= 0])}


def their_groups(position, neighbours) -> set[frozenset[int]]:
    return {frozenset({i, *neighbours[row][neighbours[row] >= 0].tolist()}) for i, row in enumerate(position.tolist()) if row >= 0}


def labels_of(position, neighbours) -> torch.Tensor:
    labels = torch.full((len(position),), -1)
    for number, group in enumerate(their_groups(position, neighbours)):
        labels[list(group)] = number
    return labels


def test_pcp_schedule(golden):
    """Ours is rounded to the nearest, theirs down; theirs for ImageNet starts from 5 images fewer, to stay below the number of images."""
    z = golden("pcp_schedule")
    cases = {"cifar10_floor1000": (50_000, 1000), "cifar10_floor10": (50_000, 10), "n_small_600_floor10": (600, 10)}
    cases["imagenet100_floor10000_ndata126689"] = 126_684, 10_000
    for name, (n, floor) in cases.items():
        got = np.array([progressive_clusters(epoch, 200, n, floor) for epoch in range(200)])
        assert set((got - z[name]).tolist()) <= {0, 1} and got[0] == n


@pytest.mark.parametrize("share", ["0.3", "0.5", "1.0"])
def test_pcp_cluster_assign(golden, share):
    z = golden("pcp_cluster_assign")
    features, labels = by_image(z, "features"), by_image(z, "assign").long()
    for rows in (features, features.double()):
        assert groups(near_centroid(rows, labels, float(share))) == their_groups(z[f"position_{share}"], z[f"neighbours_{share}"])
    # theirs stops at a cluster of one, ours goes on: what they found is among ours
    found = groups(near_centroid(features, by_image(z, "singleton_assign").long(), 0.5))
    assert their_groups(z["singleton_position"], z["singleton_neighbours"]) < found


def test_pcp_voting(golden):
    z = golden("pcp_voting")
    features, labels = by_image(z, "features").double(), by_image(z, "assign").long()
    kept, middle = near_centroid(features, labels, 0.5), anchors(features, labels)
    votes = Votes(decay=float(z["alpha"]))
    for past in z["history"][:10]:
        votes.remember(torch.tensor(past).long())
    assert groups(votes.revise(kept, labels, middle)) == their_groups(z["position_short_history"], z["neighbours_short_history"])
    for past in z["history"][10:]:
        votes.remember(torch.tensor(past).long())
    revised = votes.revise(kept, labels, middle)
    assert groups(revised) == their_groups(z["position"], z["neighbours"])
    assert ((kept >= 0) & (revised < 0)).any() and ((kept < 0) & (revised >= 0)).any(), "this case shows both, going and coming"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pcp_loss(golden, dtype):
    z = golden("pcp_loss")
    index, temperature = torch.tensor(z["idx"]), float(z["T"])
    before = torch.tensor(z["memory_before"], dtype=dtype)
    for name, loss_of in {
        ("loss", "grad_x"): lambda x: purified_cluster_loss(x, index, before, labels_of(z["position"], z["neighbours"]), temperature),
        ("instance_ce_loss", "instance_ce_grad"): lambda x: bank_cross_entropy(x, index, before, temperature),
    }.items():
        x = torch.tensor(z["x"], dtype=dtype, requires_grad=True)
        loss = loss_of(x)
        loss.backward()
        close(loss.detach(), z[name[0]])
        close(x.grad, z[name[1]], 1e-4)
    close(double(z["x"]) @ before.double().T / temperature, z["logits"], 1e-4, 1e-5)
    bank = MemoryBank(before)
    bank.all_ND.copy_(before)  # theirs begins with rows that are not quite of unit length
    bank.write(index, torch.tensor(z["x"]), float(z["momentum"]))
    close(bank.all_ND, z["memory_after"])


@pytest.mark.parametrize("case", "ab")
def test_pcp_uel_loss(golden, case):
    z = golden("pcp_uel_loss")
    features = double(z[f"{case}_features"], requires_grad=True)
    loss = spreading_loss(features, float(z[f"{case}_T"]))
    loss.backward()
    close(loss.detach(), z[f"{case}_loss"], 1e-4)
    close(features.grad, z[f"{case}_grad"], 1e-4, 1e-5)


def test_and_loss(golden):
    """With the identity as the bank, features are logits."""
    z = golden("and_loss")
    neighbours = torch.full((len(z["position"]), 1), -1)
    anchored = z["position"] >= 0
    neighbours[anchored] = torch.tensor(z["neighbours"])[z["position"][anchored]]
    logits = double(z["logits"], requires_grad=True)
    loss = neighbourhood_loss(logits, torch.tensor(z["y"]), torch.eye(logits.shape[1]), neighbours, 1.0)
    loss.backward()
    close(loss.detach(), z["loss"])
    close(logits.grad, z["grad"])


def test_lemniscate_nce(golden):
    """Noise-contrastive estimation; its first column is the image itself. Their temperature there is 0.07."""
    z = golden("lemniscate")
    y, drawn, x, bank = torch.tensor(z["nce_y"]), torch.tensor(z["nce_idx"]), double(z["nce_x"]), double(z["nce_memory_before"])
    assert torch.equal(drawn[:, 0], y)
    normaliser = softmax_normaliser(x, y, bank, drawn[:, 1:], 0.07)
    close(normaliser, z["nce_Z"], 1e-4)
    close(noise_contrastive(x, y, bank, drawn[:, 1:], 0.07, normaliser), z["nce_loss"].squeeze(), 1e-4)


@pytest.mark.parametrize("name, make, size", [("pcp_resnet18_cifar", CifarResNet, 32), ("pcp_alexnet", lambda: alexnet(224), 224)])
def test_arch_pcp(golden, name, make, size):
    want, backbone = golden("arch_pcp")[name], make()
    network = torch.nn.Sequential(backbone, UnitLinear(backbone.n_features, 128)).eval()
    assert sum(weight.numel() for weight in network.parameters()) == want["params"]
    assert sorted(list(weight.shape) for weight in network.parameters()) == sorted(want["shapes"])
    with torch.no_grad():
        z = network(torch.rand(2, 3, size, size))
    assert list(z.shape[1:]) == want["out"]
    close(z.norm(dim=1), want["norm"], 1e-5)
