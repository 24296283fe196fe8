"""The references that learn from labels: their losses beside naive loops, and that they see no label but those shown."""

import math

import numpy as np
import pytest
import torch
from benchmarks.references.__main__ import parts, shown
from benchmarks.references.learn import classes, learn
from benchmarks.references.losses import LOSSES, Batch, apart, mix, share_of, sharpened

from coterie import augment
from coterie.images import open_images
from coterie.methods.spice import Config
from coterie.run import Run
from coterie.run.devices import Devices

K = 4
CONFIG = Config(n_clusters=K, encoder="small", image_size=16, augment="garments", joint_batch=16, joint_ratio=2, average_epochs=0.5)


def test_sharpening_and_distance_are_those_of_loops():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(5, K)), rng.dirichlet(np.ones(K), 5)
    total = 0.0
    for row, wanted in zip(logits, target):
        powers = [math.exp(value) for value in row]
        total += sum((p / sum(powers) - w) ** 2 for p, w in zip(powers, wanted)) / K / 5
    assert float(apart(torch.from_numpy(logits), torch.from_numpy(target))) == pytest.approx(total)
    for row, sharp in zip(target, sharpened(torch.from_numpy(target), 0.5)):
        assert sharp.tolist() == pytest.approx([p**2 / sum(q**2 for q in row) for p in row])


def test_shares_of_a_mixture_are_of_the_beta_distribution_the_larger_part():
    share_N = share_of(0.75, 20_000, torch.Generator().manual_seed(0))
    drawn_N = np.random.default_rng(0).beta(0.75, 0.75, 200_000)
    wanted_N = np.maximum(drawn_N, 1 - drawn_N)
    assert len(share_N) == 20_000 and float(share_N.min()) >= 0.5
    for q in (0.1, 0.5, 0.9):
        assert float(share_N.quantile(q)) == pytest.approx(np.quantile(wanted_N, q), abs=0.01)


def test_a_mixture_of_all_of_one_is_that_one():
    mine, theirs = torch.rand(3, 3, 2, 2), torch.rand(3, 3, 2, 2)
    assert torch.equal(mix(mine, theirs, torch.ones(3)), mine)
    assert torch.allclose(mix(mine, theirs, torch.tensor([0.5, 0.5, 0.5])), (mine + theirs) / 2)


@pytest.mark.parametrize("method", [name for name in LOSSES if name != "supervised"])
def test_without_what_an_unlabelled_picture_says_a_loss_is_the_supervised_one(method):
    """At ramp 0 of the consistency losses, and of a network that is sure of nothing in the others."""
    rng, images = torch.Generator().manual_seed(0), torch.rand(6, 3, 24, 24)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, K)).requires_grad_(False)
    network[1].weight.mul_(0.01)

    def predict(*views):
        return network(torch.cat(views)).split([len(view) for view in views])

    still = augment.clean
    batch = Batch(images[:2], torch.tensor([0, 3]), images[2:], predict, network, still, still, 0.0, rng)
    if method == "mixmatch":  # whose labelled pictures are mixed with others: at most ln K and what the mixture's worst label costs
        assert 0 < float(LOSSES[method](batch)) < 3 * math.log(K)
    else:
        assert float(LOSSES[method](batch)) == pytest.approx(float(LOSSES["supervised"](batch)), rel=1e-5)


@pytest.mark.systems
@pytest.mark.parametrize("method", LOSSES)
def test_each_learns_from_the_labels_it_is_shown_alone(drawn, method):
    images, truth_N = open_images(drawn(160, 16), size=16), torch.arange(160) % K
    labels_N = shown(truth_N, 10, 0)
    assert torch.bincount(labels_N[labels_N >= 0]).tolist() == [10] * K
    run = Run(seed=0, devices=Devices("cpu", "fp32", 1))  # whose kernels are not made anew for batches as small as these
    network = learn(method, images, labels_N, CONFIG, 8, run)
    fresh = open_images(drawn(80, 16, seed=1), size=16)
    found_N = classes(network, fresh, run)
    run.close()
    assert float((found_N == torch.arange(80) % K).float().mean()) > 0.5  # chance: 0.25


def test_pictures_that_are_scored_are_not_learned_from():
    (train, _), (test, labels) = parts("digits", None, 100)
    assert len(train) == 1297 and len(test) == len(labels) == 500
    seen = {picture.tobytes() for picture in train}
    assert sum(picture.tobytes() in seen for picture in test) < 5  # two of the set's pictures may be alike
