"""How SCAN's stages are joined: who is paired with whom, who labels, who learns, and what is returned."""

import numpy as np
import pytest
import torch

from coterie.images import open_images
from coterie.methods import scan
from coterie.methods.fitted import Fitted
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Heads
from coterie.run import Run
from coterie.run.devices import Devices

from .conftest import Greys, N, Number, Told, negative, same, who

RING = (torch.arange(N)[:, None] + torch.tensor([1, 2, 3])) % N  # neighbours of i: the next three


def clustered(encoder, images, run, k: int = 3) -> Fitted:
    """An encoder and a head that knows nothing yet, and what they say of the images."""
    head = run.new("a head", Heads, encoder.n_features, k)
    with torch.no_grad():
        head.weight.mul_(5)
    return Fitted.from_parts(encoder, head, scan.features(encoder, images, run))


# ---- clustering


@pytest.mark.parametrize("include_self", [False, True])
def test_an_image_is_paired_with_its_neighbours(run, watch, include_self):
    z_ND, pairs = torch.eye(N), watch(scan, "scan_loss")
    settings = {"n_heads": 2, "start": "random", "cluster_epochs": 2, "cluster_steps": 9, "cluster_rate": 1e-20}
    config = scan.Config(n_clusters=4, include_self=include_self, **settings)
    start = Run(seed=run.seed, devices=run.devices).new("heads", Heads, N, 4, 2)
    start.standardise(z_ND)
    all_HNK = start(z_ND)
    scan.cluster(z_ND, RING, config, run)
    ids = [[(each_HBK[:, :, None] - all_HNK[:, None]).abs().sum((0, 3)).argmin(1) for each_HBK in given[:2]] for given, _ in pairs]
    anchors, others = (torch.cat(each) for each in zip(*ids))
    assert (anchors.bincount(minlength=N) == 2 * 9).all(), "a step sees each image of so small a set once"
    assert set(((others - anchors) % N).tolist()) == ({0, 1, 2, 3} if include_self else {1, 2, 3})


def test_the_head_and_epoch_of_lowest_loss_are_returned(run, monkeypatch):
    """By the whole set's loss, not by the last epoch's: here the second head after the first of three epochs."""
    scores = iter([[0.5, 0.1], [0.3, 0.2], [0.4, 0.11]])
    monkeypatch.setattr(scan, "neighbour_losses", lambda *_: torch.tensor(next(scores)))
    kept, close = [], Run.epochs

    def watched(self, stage, total, share=1.0, **state):
        for epoch in close(self, stage, total, share, **state):
            yield epoch
            kept.append({name: value.clone() for name, value in state["heads"].select(1).state_dict().items()})

    monkeypatch.setattr(Run, "epochs", watched)
    config = scan.Config(n_clusters=3, n_heads=2, cluster_epochs=3, cluster_steps=3)
    best = scan.cluster(torch.eye(N), RING, config, run)
    assert all(torch.equal(value, kept[0][name]) for name, value in best.state_dict().items())
    assert not torch.equal(kept[2]["weight"], kept[0]["weight"]), "later epochs moved it"


@pytest.mark.parametrize("sizes, settings, want", [
    ((12, 12), {}, 5.0), ((20, 7), {}, 1.2), ((20, 7), {"sizes": "even"}, 5.0), ((12, 12), {"sizes": "uneven"}, 1.2),
    ((20, 7), {"prior": "20,7"}, 5.0), ((20, 7), {"uneven_weight": 2.0}, 2.0),
])  # fmt: skip
def test_clusters_are_wanted_alike_where_kinds_are(run, monkeypatch, sizes, settings, want):
    seen, loss = [], scan.scan_loss
    monkeypatch.setattr(scan, "scan_loss", lambda a, b, weight, prior: seen.append(weight) or loss(a, b, weight, prior))
    kinds = torch.arange(2).repeat_interleave(torch.tensor(sizes))
    z_ND = torch.eye(2, 5)[kinds] + 0.02 * torch.randn(len(kinds), 5, generator=torch.Generator().manual_seed(0))
    config = scan.Config(n_clusters=2, n_heads=1, cluster_epochs=1, cluster_steps=2, **settings)
    scan.cluster(z_ND, scan.neighbours(z_ND, config, run), config, run)
    assert seen == [want] * 2
    assert any("evenness" in row["text"] for row in run.history if row["stage"] == "note") == (
        not settings.keys() - {"uneven_weight"} and want != 5
    )


# ---- neighbours


@pytest.fixture
def bold() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (240, 6) of four kinds, and their kinds, with one direction of fifty times their distance that tells nothing."""
    rng = torch.Generator().manual_seed(0)
    kinds_N = torch.arange(240) % 4
    z_ND = torch.eye(4, 6)[kinds_N] + 0.05 * torch.randn(240, 6, generator=rng)
    z_ND[:, 5] = 50 * torch.randn(240, generator=rng)
    return z_ND + 100, kinds_N


@pytest.mark.parametrize("settings, purity", [
    ({}, 1.0), ({"weights": "runs/mine"}, 1.0), ({"encoder": "vgg16-sobel", "weights": "runs/mine"}, 1.0),
    ({"neighbor_components": 0}, 0.25), ({"pretext": "frozen"}, 0.25), ({"encoder": "lite0", "pretrained": True, "trains": "last"}, 0.25),
    ({"encoder": "resnet18", "weights": "model.safetensors"}, 0.25),
])  # fmt: skip
def test_learned_features_are_compared_whitened(run, bold, settings, purity):
    z_ND, kinds_N = bold
    found_NK = scan.neighbours(z_ND, scan.Config(n_clusters=4, n_neighbors=10, **settings), run)
    alike = float((kinds_N[found_NK] == kinds_N[:, None]).float().mean())
    assert alike > 0.95 if purity == 1 else abs(alike - purity) < 0.05


@pytest.mark.parametrize("k, components, width", [(2, 3, 4), (2, 5, 5), (4, 3, 8), (2, 99, 12)])
def test_so_many_components_or_twice_the_clusters_but_ten_images_for_each(run, watch, k, components, width):
    z_ND = torch.randn(120, 20, generator=torch.Generator().manual_seed(0))
    asked = watch(scan.near, "pca_whiten")
    scan.neighbours(z_ND, scan.Config(n_clusters=k, n_neighbors=5, neighbor_components=components), run)
    assert [given[1] for given, _ in asked] == [width]


# ---- the whole network


@pytest.mark.parametrize("include_self", [False, True])
def test_the_network_sees_an_image_and_one_of_its_neighbours(run, images, monkeypatch, watch, include_self):
    pairs, strong = watch(scan, "scan_loss"), []
    monkeypatch.setattr(scan.augment, "strong", lambda name: lambda x, rng: (strong.append(len(x)), x)[1])
    encoder, head = Number(), Told()
    before = Fitted.from_parts(encoder, head, scan.features(encoder, images, run))
    config = scan.Config(n_clusters=3, include_self=include_self, network_epochs=4, network_batch=8, network_rate=1e-20)
    scan.cluster_network(before, RING, images, config, run)
    anchors, others = (torch.cat([given[side][:, 0] for given, _ in pairs]).round().long() for side in (0, 1))
    assert len(pairs) == 12 and strong == [16] * 12, "both pass the strong augmentation"
    assert (anchors.bincount(minlength=N) == 4).all()
    assert set(((others - anchors) % N).tolist()) == ({0, 1, 2, 3} if include_self else {1, 2, 3})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_self_labelling_trains_the_network_that_stage_gives(precision):
    """With views made in float32, whatever the network computes in."""
    devices = Devices("cpu", precision, torch.get_num_threads())
    pictures = open_images(np.random.default_rng(0).integers(0, 256, (N, 16, 16, 3), dtype=np.uint8))
    run = Run(devices=devices)
    before = clustered(run.new("encoder", build, EncoderSpec("small", 16)), pictures, run)
    config = scan.Config(n_clusters=3, network_epochs=2, network_batch=6, selflabel_epochs=1, selflabel_batch=6, threshold=0.0)
    learned = scan.cluster_network(before, RING, pictures, config, run)
    assert all(weight.requires_grad for part in (learned.encoder, learned.head) for weight in part.parameters())
    scan.self_label(learned, RING, pictures, config, run)
    (row,) = [row for row in run.history if row["stage"] == "self-labelling"]
    assert row["confident"] == 1.0 and row["skipped"] == 0


# ---- self-labelling


def rolled(student):
    """A teacher that calls each cluster by the next one's name."""
    teacher = KEPT_TEACHER(student)
    with torch.no_grad():
        teacher[1].weight.copy_(teacher[1].weight.roll(1, 1)), teacher[1].bias.copy_(teacher[1].bias.roll(1, 1))
    return teacher


KEPT_TEACHER = scan.teacher_of
SETTINGS = {"n_clusters": 3, "selflabel_epochs": 1, "threshold": 0.0}


def test_the_teacher_labels_the_clean_image_and_the_student_learns_the_strong_view(run, images, greys, monkeypatch, watch):
    before, taught = clustered(greys, images, run), watch(scan, "confident_cross_entropy")
    start = before.p_NK.argmax(1)
    assert len(start.unique()) == 3, "the case shows all clusters"
    monkeypatch.setattr(scan.augment, "strong", lambda name: negative)
    monkeypatch.setattr(scan, "teacher_of", rolled)
    Greys.shown.clear()
    scan.self_label(before, RING, images, scan.Config(**SETTINGS), run)
    (training, gradient, clean), (learning, learned, strong) = Greys.shown[:2]
    ids = who(clean)
    assert (training, gradient) == (False, False) and sorted(ids.tolist()) == list(range(N))
    assert (learning, learned) == (True, True) and torch.equal(255 - who(strong), ids)
    ((logits, labels, balance), _), *_ = taught
    assert balance and torch.equal(labels, (start[ids] + 1) % 3), "the teacher's words, not the student's"
    with torch.no_grad():
        torch.testing.assert_close(logits, before.head(greys(strong))[0])


def test_only_confident_labels_are_learned(run, images, greys, monkeypatch, watch):
    before, learned = clustered(greys, images, run), watch(scan, "confident_cross_entropy")
    sure = before.p_NK.amax(1)
    threshold = float(sure.median()) + 1e-4
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    Greys.shown.clear()
    scan.self_label(before, RING, images, scan.Config(**SETTINGS | {"threshold": threshold}), run)
    ids = who(Greys.shown[0][2])
    kept = learned[0][0][1] >= 0
    assert torch.equal(kept, (sure > threshold)[ids]) and 0 < int(kept.sum()) < N


def test_the_teacher_is_what_is_returned(run, images, greys, monkeypatch):
    """One that never follows its student comes back as it was."""
    before = clustered(greys, images, run)
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    monkeypatch.setattr(scan, "teacher_of", rolled)
    monkeypatch.setattr(scan, "follow", lambda *_: None)
    after = scan.self_label(before, RING, images, scan.Config(**SETTINGS, selflabel_rate=0.1), run)
    assert torch.equal(after.p_NK.argmax(1), (before.p_NK.argmax(1) + 1) % 3)
    assert torch.equal(after.encoder.weight, greys.weight) and after.encoder is not greys


def test_the_teacher_follows_the_student(run, images, greys, monkeypatch):
    before, told, follow = clustered(greys, images, run), [], scan.follow
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    monkeypatch.setattr(scan, "follow", lambda *given: told.append(given) or follow(*given))
    config = scan.Config(**SETTINGS | {"selflabel_epochs": 2}, selflabel_rate=0.1, selflabel_batch=8)
    after = scan.self_label(before, RING, images, config, run)
    assert len(told) == 6 and {decay for *_, decay in told} == {1 - 1 / (1 + 2.5 * 3)}, "an average over 2.5 epochs of three steps"
    teacher, student, _ = told[-1]
    assert after.encoder is teacher[0] and not torch.equal(teacher[0].weight, student[0].weight)
    assert not torch.equal(teacher[0].weight, greys.weight), "what was clustered stays as it was, a copy learns"


def test_self_labelling_stops_when_no_more_images_become_confident(run, images, greys, monkeypatch):
    """All are from the first epoch on: two more without gain are the patience it has."""
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    config = scan.Config(**SETTINGS | {"selflabel_epochs": 10}, patience=2, selflabel_rate=1e-20)
    scan.self_label(clustered(greys, images, run), RING, images, config, run)
    assert [row["confident"] for row in run.history if row["stage"] == "self-labelling"] == [1.0] * 3


def test_the_bar_comes_down_where_hardly_any_image_passes_it(run, images, greys, monkeypatch):
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    before = clustered(greys, images, run)
    with torch.no_grad():
        before.head.weight.mul_(0.01)
    config = scan.Config(**SETTINGS | {"selflabel_epochs": 12, "threshold": 0.9}, patience=100)
    scan.self_label(before, RING, images, config, run)
    rows = [row for row in run.history if row["stage"] == "self-labelling"]
    assert [row["threshold"] for row in rows] == pytest.approx([0.9 - 0.05 * i for i in range(8)] + [0.5] * 4)
    assert {(row["confident"], row["skipped"], row["loss"]) for row in rows} == {(0.0, 1, 0.0)}, "nobody is taught a guess"


def test_given_sizes_are_learned_and_choose_the_head(run, images, greys, monkeypatch, watch):
    learned, chosen = watch(scan, "scan_loss"), watch(scan, "neighbour_losses")
    monkeypatch.setattr(scan.augment, "strong", lambda name: same)
    config = scan.Config(n_clusters=3, n_heads=2, prior="5,3,2", cluster_epochs=1, cluster_steps=1, network_epochs=1, network_batch=24)
    scan.cluster(torch.eye(N), RING, config, run)
    scan.cluster_network(clustered(greys, images, run), RING, images, config, run)
    wanted = torch.tensor([0.5, 0.3, 0.2])
    assert len(learned) == 2 and len(chosen) == 3, "before the network learns, too"
    for given, _ in learned:
        torch.testing.assert_close(given[3], wanted)
    for given, _ in chosen:  # the largest share where a head has most
        mean_HK, shares_HK = given[0].mean(1), given[2]
        torch.testing.assert_close(shares_HK.gather(-1, mean_HK.argsort(-1, descending=True)), wanted.expand_as(shares_HK))
