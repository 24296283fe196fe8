"""How DeepCluster's parts are joined: what is clustered, by which classifier it is learned, what lies in the bank."""

import pytest
import torch
import torch.nn.functional as F

from coterie.clustering.kmeans import pca_whiten
from coterie.clustering.power_iteration import power_iteration_clustering
from coterie.learning.losses import cross_entropy, prototype_loss
from coterie.methods import deepcluster
from coterie.networks.heads import Classifier
from coterie.run import Run

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


def test_whitened_features_are_clustered(run, images, monkeypatch):
    """And the clusters the user would get, among the features as they are."""
    z_ND = torch.randn(N, 9, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10) ** 2 + 50
    asked, kmeans = [], deepcluster.kmeans
    monkeypatch.setattr(deepcluster, "features", lambda *_: z_ND)
    monkeypatch.setattr(
        deepcluster, "kmeans", lambda rows, k, *given, **more: asked.append((rows, k, more)) or kmeans(rows, k, *given, **more)
    )
    config = deepcluster.settled(deepcluster.Config(**V1, components=4))
    labels_N, k, kinds_N = deepcluster.cluster(torch.nn.Identity(), images, config, run, 0)
    (plain, few, how), (white, many, _) = asked
    assert (few, many, k, len(labels_N.unique()), len(kinds_N.unique())) == (3, 6, 6, 6, 3)
    assert plain is z_ND and how["spherical"] and torch.equal(white, pca_whiten(z_ND, 4)) and white.shape == (N, 4)
    config = deepcluster.settled(deepcluster.Config(**V1, components=4, clustering="power-iteration"))
    assert torch.equal(deepcluster.cluster(torch.nn.Identity(), images, config, run, 0)[0], power_iteration_clustering(white))


def test_an_image_is_taught_the_pseudo_label_of_its_epoch(run, images, greys, monkeypatch):
    """From its view, and of each epoch's own clustering; the views of one epoch are drawn from all pseudo-clusters alike."""
    clusterings, taught, cluster = [], [], deepcluster.cluster
    monkeypatch.setattr(deepcluster, "view_of", lambda config: negative)
    monkeypatch.setattr(deepcluster, "cluster", lambda *given: clusterings.append(cluster(*given)) or clusterings[-1])
    monkeypatch.setattr(deepcluster, "cross_entropy", lambda logits, labels: taught.append(labels) or cross_entropy(logits, labels))
    greys.shown.clear()
    learn(greys, images, run, **V1, draws=2.0)
    seen = [255 - who(x) for training, _, x in greys.shown if training]
    assert len(seen) == len(taught) == 3 * 6
    for step, (ids, labels) in enumerate(zip(seen, taught)):
        assert torch.equal(labels, clusterings[step // 6][0][ids])
    for epoch in range(3):
        shares = torch.cat(taught[6 * epoch : 6 * epoch + 6]).bincount(minlength=6)
        assert (shares == 8).all(), "48 draws, six pseudo-clusters"


# ---- v2


def test_the_bank_holds_what_was_seen_last(run, images, greys, monkeypatch):
    """Row by row; who filled no batch keeps the features of before."""
    banks, learned, drawn = [], [], []
    cluster_bank, batches = deepcluster.cluster_bank, Run.batches

    def spy(self, *given, **more):
        for batch in batches(self, *given, **more):
            drawn.append(batch.index_B.clone())
            yield batch

    monkeypatch.setattr(Run, "batches", spy)
    monkeypatch.setattr(
        deepcluster, "cluster_bank", lambda bank, seen, *more: banks.append((bank.clone(), seen.clone())) or cluster_bank(bank, seen, *more)
    )
    monkeypatch.setattr(deepcluster, "prototype_loss", lambda z, *more: learned.append(z.detach().clone()) or prototype_loss(z, *more))
    learn(greys, images, run, **V2 | {"batch": 10})
    assert [int(seen.sum()) for _, seen in banks] == [N, 20, 20] and len(learned) == len(drawn) == 6
    torch.testing.assert_close(banks[0][0][0], banks[0][0][1]), "at first the clean images' features, twice"
    assert float(banks[0][0].norm(dim=2).min()) > 0.99
    for epoch in (1, 2):
        want, seen = banks[epoch - 1][0].clone(), torch.zeros(N, dtype=torch.bool)
        for step in (2 * epoch - 2, 2 * epoch - 1):
            want[:, drawn[step]] = learned[step]
            seen[drawn[step]] = True
        assert torch.equal(banks[epoch][0], want) and torch.equal(banks[epoch][1], seen)


def test_a_view_learns_the_prototypes_of_its_images_label(run, images, greys, monkeypatch):
    given, found, drawn = [], [], []
    cluster_bank, batches = deepcluster.cluster_bank, Run.batches

    def spy(self, *words, **more):
        for batch in batches(self, *words, **more):
            drawn.append(batch.index_B.clone())
            yield batch

    monkeypatch.setattr(Run, "batches", spy)
    monkeypatch.setattr(deepcluster, "cluster_bank", lambda *words: found.append(cluster_bank(*words)) or found[-1])
    monkeypatch.setattr(deepcluster, "prototype_loss", lambda *words: given.append(words) or prototype_loss(*words))
    learn(greys, images, run, **V2 | {"small_views": 1})
    for step, (z_VBD, prototypes_HKD, labels_HB, temperature) in enumerate(given):
        labels_HN, wanted_HKD = found[step // 3]
        assert z_VBD.shape == (3, 8, 5) and temperature == 0.1
        assert torch.equal(prototypes_HKD, wanted_HKD) and torch.equal(labels_HB, labels_HN[:, drawn[step]])
    torch.testing.assert_close(given[0][0].norm(dim=2), torch.ones(3, 8))


def test_heads_cluster_the_two_views_in_turns(run):
    bank = F.normalize(torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    config = deepcluster.Config(n_clusters=2, pseudo_clusters=5, n_heads=3, cluster_iterations=0)
    labels, prototypes = deepcluster.cluster_bank(bank, torch.ones(40, dtype=torch.bool), config, run, 0)
    for head in range(3):
        mine, other = ((prototypes[head] @ bank[view].T).amax(1) for view in (head % 2, 1 - head % 2))
        assert mine.min() > 1 - 1e-5 and other.min() < 0.99, "without an iteration the prototypes are rows, of the view whose turn it is"
    assert not torch.equal(labels[0], labels[2]), "each head has draws of its own"
