"""Which learning rate each stage takes at each update: its schedule, by how far the stage is."""

import pytest
import torch

from coterie.learning.schedule import cosine, fixmatch_cosine, one_cycle
from coterie.methods import deepcluster, scan, spice
from coterie.methods.fitted import Fitted
from coterie.methods.pretext import PretextConfig, loop
from coterie.networks.heads import Heads

from .conftest import N

RING = (torch.arange(N)[:, None] + torch.tensor([1, 2, 3])) % N
DONE = [i / 6 for i in range(6)]  # two epochs of three updates


def clustered(greys, images, run) -> Fitted:
    return Fitted.from_parts(greys, run.new("a head", Heads, 6, 3), scan.features(greys, images, run))


def pretext(greys, images, run):
    config = PretextConfig(pretext_epochs=2, pretext_batch=8, pretext_rate=0.5)
    loop.descend(lambda batch, rng: greys(batch.pixels_B3HW).sum(), images, config, run, {"encoder": greys})


def scan_heads(greys, images, run):
    config = scan.Config(n_clusters=3, cluster_epochs=2, cluster_steps=3, cluster_rate=0.5)
    scan.cluster(torch.eye(N), RING, config, run)


def scan_network(greys, images, run):
    config = scan.Config(n_clusters=3, network_epochs=2, network_batch=8, network_rate=0.5)
    scan.cluster_network(clustered(greys, images, run), RING, images, config, run)


def scan_labels(greys, images, run):
    config = scan.Config(n_clusters=3, selflabel_epochs=2, selflabel_batch=8, selflabel_rate=0.5, threshold=0.0)
    scan.self_label(clustered(greys, images, run), RING, images, config, run)


def spice_heads(greys, images, run):
    config = spice.Config(n_clusters=3, head_epochs=2, head_batch=8, head_steps=3, head_rate=0.5)
    spice.learn_prototypes(greys, spice.features(greys, images, run), RING, images, config, run)


def spice_joint(greys, images, run):
    config = spice.Config(n_clusters=3, joint_epochs=2, joint_batch=8, joint_ratio=1, joint_rate=0.5)
    spice.learn_together(clustered(greys, images, run), torch.arange(N) % 3, RING, images, config, run)


def deepcluster_with(**settings):
    def learn(greys, images, run):
        config = deepcluster.settled(deepcluster.Config(n_clusters=3, epochs=2, batch=8, pseudo_clusters=4, rate=0.5, **settings))
        (deepcluster.learn_prototypes if config.variant == "v2" else deepcluster.learn_classes)(greys, images, config, run)

    return learn


@pytest.mark.parametrize(
    "module, learn, want",
    [
        (loop, pretext, one_cycle),
        (scan, scan_heads, cosine),
        (scan, scan_network, cosine),
        (scan, scan_labels, cosine),
        (spice, spice_heads, cosine),
        (spice, spice_joint, fixmatch_cosine),
        (deepcluster, deepcluster_with(), lambda done, peak: peak),
        (deepcluster, deepcluster_with(schedule="cosine"), cosine),
        (deepcluster, deepcluster_with(variant="v2", schedule="one-cycle"), one_cycle),
    ],
    ids=["pretext", "scan-heads", "scan-network", "scan-labels", "spice-heads", "spice-joint", "constant", "cosine", "v2-one-cycle"],
)
def test_the_rate_follows_its_schedule(run, images, greys, watch, module, learn, want):
    asked = watch(module, "set_rate")
    learn(greys, images, run)
    assert [rate for (_, rate), _ in asked] == pytest.approx([want(done, 0.5) for done in DONE])
