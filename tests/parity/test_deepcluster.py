"""DeepCluster's parts against what the reference implementations computed; one test a row of their README."""

import numpy as np
import pytest
import torch

from coterie.clustering.kmeans import kmeans
from coterie.clustering.power_iteration import power_iteration_clustering
from coterie.clustering.sampling import uniform_draw
from coterie.evaluate import metrics
from coterie.learning.losses import cross_entropy, prototype_loss
from coterie.networks.backbones.sobel import Sobel
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Classifier

from .conftest import double


def test_dc_pic(golden):
    z = golden("dc_pic")
    got = power_iteration_clustering(double(z["x"]), int(z["nnn"]), float(z["sigma"]), float(z["alpha"])).numpy()
    want = z["clust_after_singletons"].ravel()
    assert metrics.ari(want, got) == 1.0, "the same partition"


@pytest.mark.parametrize("case", "abc")
def test_dc_sampler(golden, case):
    """The intended histogram, of 2 N draws: each non-empty cluster its share. The reference draws one more each, and cuts at random."""
    z = golden("dc_sampler")
    labels, intended = torch.tensor(z[f"{case}_assign"]).long(), z[f"{case}_intended_label_hist"]
    drawn = uniform_draw(labels, int(intended.sum()), torch.Generator().manual_seed(0))
    shares = labels[drawn].bincount(minlength=int(z[f"{case}_K"])).numpy()
    assert len(drawn) == len(z[f"{case}_sampler_seed42_re2"]) and np.array_equal(shares > 0, intended > 0)
    assert np.abs(shares - intended).max() <= 2 and np.ptp(shares[shares > 0]) <= 1
    effective = z[f"{case}_effective_label_hist"]
    assert np.ptp(effective[intended > 0]) > 20, "what its index bug makes of it is nowhere near"


def test_dc_sobel(golden):
    z = golden("dc_sobel")
    torch.testing.assert_close(Sobel()(double(z["x"])), double(z["out"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_arch_dc(golden, name):
    """Their Sobel filters are frozen convolutions with biases, 24 numbers; ours are constants."""
    want = golden("arch_dc")[f"dc_{name}_sobel"]
    with torch.device("meta"):
        net = build(EncoderSpec(f"{name}-sobel", 224))
        classifier = Classifier(net.n_features, 1000)
    weights = [*net.parameters(), *classifier.parameters()]
    assert sum(weight.numel() for weight in weights) == want["params"] - 24
    assert [list(weight.shape) for weight in weights] == want["shapes"][:-4]
    assert want["shapes"][-4:] == [[1, 3, 1, 1], [1], [2, 1, 3, 3], [2]]


def test_dcv2_kmeans(golden):
    """Heads cluster the two views of the bank in turns."""
    z = golden("dcv2_kmeans")
    bank, order = double(z["embeddings"]), torch.tensor(z["index"]).long()
    for head in range(len(z["assignments"])):
        rows, first = bank[head % 2], torch.tensor(z[f"init_idx_{head}"]).long()
        found = kmeans(rows, len(first), iters=int(z["n_iter"]), init=rows[first], spherical=True, tol=-1)
        labels_N = torch.full((len(order),), -1)
        labels_N[order] = found.labels_N
        assert np.array_equal(labels_N.numpy(), z["assignments"][head])
        torch.testing.assert_close(found.centroids_KD, double(z[f"proto{head}"]), rtol=0, atol=1e-5)


def test_dcv2_loss(golden):
    z = golden("dcv2_loss")
    scores, temperature = double(z["scores"], requires_grad=True), float(z["temperature"])
    labels = torch.tensor(z["targets"]).long()
    labels = torch.where(labels == -100, -1, labels)
    assert (labels < 0).any(), "images that were not seen are among them"
    loss = cross_entropy(scores, labels, temperature)
    loss.backward()
    np.testing.assert_allclose(loss.detach(), z["loss"], rtol=1e-6)
    np.testing.assert_allclose(scores.grad, z["grad"], atol=1e-6)
    k = scores.shape[1]  # scores as cosines with the axes
    same = prototype_loss(scores.detach()[None], torch.eye(k).double()[None], labels[None], temperature)
    np.testing.assert_allclose(same, z["loss"], rtol=1e-6)
