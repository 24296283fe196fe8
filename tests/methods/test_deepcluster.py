"""How DeepCluster's parts are joined: what is clustered, by which classifier it is learned, what lies in the bank."""

import pytest
import torch
import torch.nn.functional as F

from coterie.clustering.kmeans import pca_whiten
from coterie.clustering.power_iteration import power_iteration_clustering
from coterie.methods import deepcluster
from coterie.networks.heads import Classifier

from .conftest import N, negative, who

V1 = {"n_clusters": 3, "epochs": 3, "batch": 8, "pseudo_clusters": 6}
V2 = V1 | {"variant": "v2", "n_heads": 3, "projection": 5}


def learn(greys, images, run, **settings) -> None:
    config = deepcluster.settled(deepcluster.Config(**settings))
    (deepcluster.learn_classes if config.variant == "v1" else deepcluster.learn_prototypes)(greys, images, config, run)


class Watched(Classifier):
    """Lists, of each classifier that is made, itself, its first weights and what it was given."""

    made: list = []

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.made.append((self, self.weight.detach().clone(), []))

    def forward(self, z_BD):
        next(given for one, _, given in self.made if one is self).append(z_BD.detach().clone())
        return super().forward(z_BD)


@pytest.fixture
def classifiers(monkeypatch) -> list:
    monkeypatch.setattr(Watched, "made", [])
    monkeypatch.setattr(deepcluster, "Classifier", Watched)
    return Watched.made


# ---- v1


def test_each_epoch_has_a_new_classifier_that_learns(run, images, greys, classifiers):
    learn(greys, images, run, **V1)
    assert len(classifiers) == 3, "clusters have other names in each epoch"
    for i, (one, first, given) in enumerate(classifiers):
        assert len(given) == 3 and not torch.equal(one.weight, first)
        assert not any(torch.equal(first, other) for _, other, _ in classifiers[:i])


@pytest.mark.parametrize("before", [False, True])
def test_the_classifier_sees_the_last_relu_that_the_features_lack(run, images, greys, classifiers, before):
    greys.ends_before_relu = before
    learn(greys, images, run, **V1)
    least = min(float(z.min()) for *_, given in classifiers for z in given)
    assert (least == 0) if before else (least < -0.1)


def test_whitened_features_are_clustered(run, images, monkeypatch, watch):
    """And the clusters the user would get, among the features as they are."""
    z_ND = torch.randn(N, 9, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10) ** 2 + 50
    asked = watch(deepcluster, "kmeans")
    monkeypatch.setattr(deepcluster, "features", lambda *_: z_ND)
    config = deepcluster.settled(deepcluster.Config(**V1, components=4))
    labels_N, k, kinds_N = deepcluster.cluster(torch.nn.Identity(), images, config, run, 0)
    (plain, few, *how), (white, many, *_) = (given for given, _ in asked)
    assert (few, many, k, len(labels_N.unique()), len(kinds_N.unique())) == (3, 6, 6, 6, 3)
    assert torch.equal(plain, z_ND) and True in how and torch.equal(white, pca_whiten(z_ND, 4)) and white.shape == (N, 4)
    config = deepcluster.settled(deepcluster.Config(**V1, components=4, clustering="power-iteration"))
    assert torch.equal(deepcluster.cluster(torch.nn.Identity(), images, config, run, 0)[0], power_iteration_clustering(white))


def test_an_image_is_taught_the_pseudo_label_of_its_epoch(run, images, greys, monkeypatch, watch):
    """From its view, and of each epoch's own clustering; the views of one epoch are drawn from all pseudo-clusters alike."""
    clusterings, taught = watch(deepcluster, "cluster"), watch(deepcluster, "cross_entropy")
    monkeypatch.setattr(deepcluster, "view_of", lambda config: negative)
    greys.shown.clear()
    learn(greys, images, run, **V1, draws=2.0)
    seen = [255 - who(x) for training, _, x in greys.shown if training]
    assert len(seen) == len(taught) == 3 * 6
    for step, (ids, ((_, labels), _)) in enumerate(zip(seen, taught)):
        assert torch.equal(labels, clusterings[step // 6][1][0][ids])
    for epoch in range(3):
        shares = torch.cat([labels for (_, labels), _ in taught[6 * epoch : 6 * epoch + 6]]).bincount(minlength=6)
        assert (shares == 8).all(), "48 draws, six pseudo-clusters"


# ---- v2


def test_the_bank_holds_what_was_seen_last(run, images, greys, watch, drawn_ids):
    """Row by row; who filled no batch keeps the features of before."""
    asked, learned = watch(deepcluster, "cluster_bank"), watch(deepcluster, "prototype_loss")
    learn(greys, images, run, **V2 | {"batch": 10})
    banks = [(bank, seen) for (bank, seen, *_), _ in asked]
    assert [int(seen.sum()) for _, seen in banks] == [N, 20, 20] and len(learned) == len(drawn_ids) == 6
    torch.testing.assert_close(banks[0][0][0], banks[0][0][1]), "at first the clean images' features, twice"
    assert float(banks[0][0].norm(dim=2).min()) > 0.99
    for epoch in (1, 2):
        want, seen = banks[epoch - 1][0].clone(), torch.zeros(N, dtype=torch.bool)
        for step in (2 * epoch - 2, 2 * epoch - 1):
            want[:, drawn_ids[step]] = learned[step][0][0]
            seen[drawn_ids[step]] = True
        assert torch.equal(banks[epoch][0], want) and torch.equal(banks[epoch][1], seen)


def test_a_view_learns_the_prototypes_of_its_images_label(run, images, greys, watch, drawn_ids):
    found, learned = watch(deepcluster, "cluster_bank"), watch(deepcluster, "prototype_loss")
    learn(greys, images, run, **V2 | {"small_views": 1})
    for step, ((z_VBD, prototypes_HKD, labels_HB, temperature), _) in enumerate(learned):
        labels_HN, wanted_HKD = found[step // 3][1]
        assert z_VBD.shape == (3, 8, 5) and temperature == 0.1
        assert torch.equal(prototypes_HKD, wanted_HKD) and torch.equal(labels_HB, labels_HN[:, drawn_ids[step]])
    torch.testing.assert_close(learned[0][0][0].norm(dim=2), torch.ones(3, 8))


def test_heads_cluster_the_two_views_in_turns(run):
    bank = F.normalize(torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    config = deepcluster.Config(n_clusters=2, pseudo_clusters=5, n_heads=3, cluster_iterations=0)
    labels, prototypes = deepcluster.cluster_bank(bank, torch.ones(40, dtype=torch.bool), config, run, 0)
    for head in range(3):
        mine, other = ((prototypes[head] @ bank[view].T).amax(1) for view in (head % 2, 1 - head % 2))
        assert mine.min() > 1 - 1e-5 and other.min() < 0.99, "without an iteration the prototypes are rows, of the view whose turn it is"
    assert not torch.equal(labels[0], labels[2]), "each head has draws of its own"
