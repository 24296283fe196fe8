"""linear: the classifier, what the blocks of an encoder give, and what trains and what tests."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from coterie.errors import InputError
from coterie.evaluate import classifier, linear, task
from coterie.images import open_images
from coterie.networks import blocks
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import Run, seeding
from coterie.run.devices import Devices


def planted(n, d=20, c=4, noise=1.0, seed=0):
    """Rows float32 (n, d) around the means of c classes, and their classes."""
    rng = np.random.default_rng(seed)
    means_CD = np.random.default_rng(99).normal(size=(c, d))
    labels_N = rng.integers(0, c, n)
    return torch.from_numpy(means_CD[labels_N] + noise * rng.normal(size=(n, d))).float() * 3 + 7, labels_N


def right(fitted, rows_MD, labels_M):
    return float((fitted.probabilities(rows_MD).argmax(1).numpy() == labels_M).mean())


def rng(*keys):
    return seeding.generator(0, *keys)


# ---- the classifier


def test_the_two_ways_agree_within_a_point():
    (train_ND, labels_N), (test_MD, labels_M) = planted(1000, noise=1.6), planted(4000, noise=1.6, seed=1)
    fast = classifier.lbfgs(train_ND.clone(), labels_N, 4, rng("a"))
    slow = classifier.sgd(train_ND.clone(), labels_N, 4, rng("b"))
    one, other = right(fast, test_MD, labels_M), right(slow, test_MD, labels_M)
    assert 0.85 < one < 0.99 and abs(one - other) < 0.01


def test_it_is_the_logistic_regression_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(classifier, "L2", (0.01,))
    rows_ND, labels_N = planted(300, d=8, noise=2.0)
    fitted = classifier.lbfgs(rows_ND.clone(), labels_N, 4, rng("c"))
    z_ND = ((rows_ND - rows_ND.mean(0)) / rows_ND.std(0, correction=0)).double().numpy()
    theirs = LogisticRegression(C=1 / (300 * 0.01), max_iter=1000, tol=1e-8).fit(z_ND, labels_N).predict_proba(z_ND)
    np.testing.assert_allclose(fitted.probabilities(rows_ND).numpy(), theirs, atol=2e-3)


def test_perfect_features_are_perfect_and_random_ones_chance():
    labels_N = np.arange(2000) % 5
    perfect_ND = torch.from_numpy(np.eye(5)[labels_N]).float()
    assert right(classifier.lbfgs(perfect_ND[:1000].clone(), labels_N[:1000], 5, rng("d")), perfect_ND[1000:], labels_N[1000:]) == 1.0
    random_ND = torch.randn(2000, 5, generator=rng("e"))
    found = right(classifier.lbfgs(random_ND[:1000].clone(), labels_N[:1000], 5, rng("f")), random_ND[1000:], labels_N[1000:])
    assert abs(found - 0.2) < 4 * (0.2 * 0.8 / 1000) ** 0.5


def test_a_number_that_is_always_the_same_does_no_harm():
    rows_ND, labels_N = planted(200, d=4, noise=0.3)
    rows_ND = torch.cat([rows_ND, torch.full((200, 1), 1e4)], 1)
    fitted = classifier.lbfgs(rows_ND.clone(), labels_N, 4, rng("g"))
    assert right(fitted, rows_ND, labels_N) > 0.95 and bool(torch.isfinite(fitted.weight_CD).all())


def test_a_rate_that_is_too_high_is_said():
    rows_ND, labels_N = planted(300)
    with pytest.raises(InputError, match="lr=1e.30"):
        classifier.sgd(rows_ND, labels_N, 4, rng("h"), epochs=2, lr=1e30)


# ---- blocks


def test_alexnet_gives_the_papers_numbers():
    """Maps at 224 px, and the sizes of DeepCluster's classifiers."""
    shapes = {"conv1": (96, 55), "conv2": (256, 27), "conv3": (384, 13), "conv4": (384, 13), "conv5": (256, 13)}
    widths = [blocks.pooled(torch.zeros(1, c, side, side)).shape[1] for c, side in shapes.values()]
    assert widths == [9600, 9216, 9600, 9600, 9216]
    encoder = build(EncoderSpec("alexnet-sobel", 63)).eval()
    assert list(blocks.blocks(encoder)) == [*shapes, "features"]
    pixels = torch.rand(3, 3, 63, 63, generator=rng("i"))
    x = encoder.standardised(pixels)
    with torch.no_grad():
        for layer in list(encoder.backbone.convolutions)[:7]:  # conv, norm, ReLU, pooling; conv, norm, ReLU
            x = layer(x)
        wanted = F.adaptive_avg_pool2d(x, 6).flatten(1)
    images = open_images((pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    got = blocks.block_features(encoder, "conv2", images, Run(devices=Devices("cpu", "fp32", 1)))
    assert got.shape == wanted.shape and F.cosine_similarity(got, wanted).min() > 0.999


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_of_timm_it_is_what_features_only_gives(name):
    encoder = build(EncoderSpec(name, 64)).eval()
    alone = timm.create_model(name, features_only=True).eval()
    assert not alone.load_state_dict(encoder.backbone.state_dict(), strict=False).missing_keys
    images = open_images(np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8))
    with torch.no_grad():
        maps = alone(encoder.standardised(next(images.batches(4)).pixels_B3HW))
    names = list(blocks.blocks(encoder))
    assert len(names) == len(maps) + 1 and names[-1] == "features"
    for block, wanted in zip(names, maps):
        got = blocks.block_features(encoder, block, images, Run(devices=Devices("cpu", "fp32", 1)))
        torch.testing.assert_close(got, blocks.pooled(wanted), rtol=1e-3, atol=1e-4)


def test_tokens_give_the_class_token_and_the_mean_of_the_others():
    tokens = torch.arange(2 * 5 * 3).view(2, 5, 3).float()
    got = blocks.pooled(tokens, prefix=1)
    torch.testing.assert_close(got, torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))
    maps = torch.rand(2, 3, 4, 5, generator=rng("j"))
    torch.testing.assert_close(blocks.pooled(maps.permute(0, 2, 3, 1), channels_last=True), blocks.pooled(maps))


@pytest.mark.parametrize(
    "name, wanted", [("small", ["stem", "first", "middle"]), ("resnet18-cifar", ["stem", *(f"stage{i}" for i in range(1, 5))])]
)
def test_the_stages_of_our_own(name, wanted):
    encoder = build(EncoderSpec(name, 16)).eval()
    assert list(blocks.blocks(encoder)) == [*wanted, "features"]
    images = open_images(np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8))
    run = Run(devices=Devices("cpu", "fp32", 1))
    got = blocks.block_features(encoder, "features", images, run)
    with torch.no_grad():
        torch.testing.assert_close(got, encoder(next(images.batches(3)).pixels_B3HW), rtol=1e-4, atol=1e-5)
    assert blocks.block_features(encoder, wanted[-1], images, run).shape[1] > got.shape[1]


# ---- what trains, and what tests


def some(values, names, told="some"):
    images = open_images(np.zeros((len(values), 8, 8, 3), np.uint8))
    return task.Labelled(images, np.asarray(values), names, told)


def test_halves_are_of_each_class_and_apart():
    values = np.repeat([0, 1, 2], [7, 4, 1])
    whole = some(values, ["a", "b", "c"])
    train, test = task.halves(whole, rng("half"))
    assert np.bincount(train.values).tolist() == [4, 2, 1] and np.bincount(test.values).tolist() == [3, 2]
    assert sorted(train.images.paths + test.images.paths) == sorted(whole.images.paths)
    assert task.halves(whole, rng("half"))[0].images.paths == train.images.paths, "the same halves each time"
    with pytest.raises(InputError, match="no class has two"):
        task.halves(some([0, 1], ["a", "b"]), rng("half"))


def test_classes_are_matched_by_their_names():
    test = task.renumbered(some([0, 1, 2], ["b", "new", "a"]), ["a", "b"])
    assert test.values.tolist() == [1, 2, 0] and test.names == ["a", "b", "new"]


def test_crops():
    pixels = torch.arange(36.0).view(1, 1, 6, 6)
    seen = [linear._view(4, i)(pixels)[0, 0] for i in range(10)]
    assert [int(crop[0, 0]) for crop in seen[:5]] == [0, 2, 12, 14, 7] and all(crop.shape == (4, 4) for crop in seen)
    assert all(torch.equal(seen[i].flip(1), seen[i + 5]) for i in range(5))
