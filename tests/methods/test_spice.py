"""How SPICE's stages are joined: what labels are made of, what learns them, and what is returned."""

import pytest
import torch

from coterie.learning.losses import softmax
from coterie.methods import spice
from coterie.methods.fitted import Fitted
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Heads, MlpHeads
from coterie.run import Run
from coterie.run.devices import Devices

from .conftest import Greys, N, Number, Told, negative, same, who

RING = (torch.arange(N)[:, None] + torch.tensor([1, 2, 3])) % N
JOINT = {"n_clusters": 3, "joint_epochs": 1, "joint_batch": 8, "joint_ratio": 1}


def clustered(encoder, images, run) -> Fitted:
    head = run.new("a head", Heads, encoder.n_features, 3)
    with torch.no_grad():
        head.weight.mul_(5)
    return Fitted.from_parts(encoder, head, spice.features(encoder, images, run))


# ---- prototypes


def test_pseudo_labels_are_made_of_weak_views_and_learned_from_strong_ones(run, images, greys, monkeypatch, watch):
    """The first batch, while the heads are still those of the start."""
    z_ND = spice.features(greys, images, run)
    weak, strong = lambda x, rng: x + 100 / 255, lambda x, rng: x + 200 / 255
    monkeypatch.setattr(spice, "view_of", lambda name, config: {"weak": weak, "strong": strong}[name])
    start = Run(seed=run.seed, devices=run.devices).new("heads", MlpHeads, 6, 3, 2)
    start.standardise(z_ND)
    made, learned = watch(spice, "prototype"), watch(spice, "pair_loss")
    small = {"n_clusters": 3, "n_heads": 2, "head_epochs": 1, "head_steps": 1, "head_batch": 12, "head_repeats": 1, "head_part": 100}
    config = spice.Config(**small, components=0, overlap=False, core_share=0.6)
    spice.learn_prototypes(greys, z_ND, RING, images, config, run)

    (features_BD, p_HBK, share, overlap, _), (index_HM, labels_HM) = made[0]
    ids = (features_BD[:, None] - z_ND).abs().sum(2).argmin(1)
    assert torch.equal(features_BD, z_ND[ids]) and len(ids.unique()) == 12 and (share, overlap) == (0.6, False)
    others = torch.cat([(given[0][:, None] - z_ND).abs().sum(2).argmin(1) for given, _ in made])
    assert sorted(others.tolist()) == list(range(N)), "an epoch goes through the set"

    def head_of(shift: int) -> torch.Tensor:
        pixels = torch.arange(N).add(shift).div(255).view(N, 1, 1, 1).expand(-1, 3, 4, 4)
        return start(greys(pixels))

    with torch.no_grad():
        torch.testing.assert_close(p_HBK, softmax(head_of(100))[:, ids], rtol=1e-4, atol=1e-5)
        logits_HMK, labels = learned[0][0][:2]
        for head in range(2):
            want = torch.cat([head_of(200)[head, ids[index_HM[head]]], labels_HM[head, :, None].float()], 1)
            got = torch.cat([logits_HMK[head], labels[head, :, None].float()], 1)
            order, place = (rows[:, :2].sum(1).argsort() for rows in (want, got))
            torch.testing.assert_close(got[place], want[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choice, best", [("discord", 0), ("loss", 1)])
def test_the_chosen_score_chooses_the_head(run, images, greys, monkeypatch, choice, best):
    z_ND, kept, close = spice.features(greys, images, run), [], Run.epochs
    losses, discords = iter([[0.5, 0.1], [0.6, 0.2]]), iter([0.1, 0.5, 0.2, 0.6])
    monkeypatch.setattr(spice, "prototype_losses", lambda *_: torch.tensor(next(losses)))
    monkeypatch.setattr(spice, "discord", lambda *_: next(discords))

    def watched(self, stage, total, share=1.0, **state):
        for epoch in close(self, stage, total, share, **state):
            yield epoch
            kept.append({name: value.clone() for name, value in state["heads"].select(best).state_dict().items()})

    monkeypatch.setattr(Run, "epochs", watched)
    config = spice.Config(n_clusters=3, n_heads=2, head_epochs=2, head_repeats=1, choice=choice)
    found = spice.learn_prototypes(greys, z_ND, RING, images, config, run)
    assert all(torch.equal(value, kept[0][name]) for name, value in found.state_dict().items())


def test_the_core_of_a_prototype_may_grow(run, images, greys, watch):
    made = watch(spice, "prototype")
    config = spice.Config(n_clusters=3, n_heads=1, head_epochs=3, head_steps=1, head_repeats=1, core_share=0.5, core_share_end=0.9)
    spice.learn_prototypes(greys, spice.features(greys, images, run), RING, images, config, run)
    assert [given[2] for given, _ in made] == pytest.approx([0.5, 0.7, 0.9])


def test_heads_are_asked_to_use_all_clusters_only_when_these_are_many():
    logits, labels = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).double(), torch.arange(6).expand(2, -1) % 4
    plain, asked = (spice.pair_loss(logits, labels, weight, spice.Config()) for weight in (0.0, 0.5))
    p_HK = logits.softmax(-1).mean(1)
    torch.testing.assert_close(plain - asked, -0.5 * (p_HK * p_HK.log()).sum(1), rtol=1e-9, atol=1e-9)


# ---- joint


def test_who_is_taught_and_by_which_view(run, images, monkeypatch, watch):
    """Reliable images by their label on weak views; all images by their own weak view on a strong one."""
    monkeypatch.setattr(spice.augment, "fixmatch_weak", lambda name: same)
    monkeypatch.setattr(spice.augment, "fixmatch_strong", lambda name: negative)
    taught, together = watch(spice, "cross_entropy"), watch(spice, "fixmatch")
    encoder, head = Number(), Told()
    before = Fitted.from_parts(encoder, head, spice.features(encoder, images, run))
    reliable = torch.where(torch.arange(N) % 2 == 0, torch.arange(N) % 3, -1)
    config = spice.Config(**JOINT | {"joint_epochs": 3}, joint_rate=1e-20, joint_decay=0.0, threshold=0.7)
    spice.learn_together(before, reliable, RING, images, config, run)
    assert len(taught) == len(together) == 9
    for (logits, labels), _ in taught:
        ids = logits[:, 0].round().long()
        assert len(ids) == 8 and (reliable[ids] >= 0).all() and torch.equal(labels, reliable[ids])
    weak, strong = (torch.cat([given[side][:, 0] for given, _ in together]).round().long() for side in (0, 1))
    assert torch.equal(strong, 255 - weak) and (weak.bincount(minlength=N) == 3).all() and {given[2] for given, _ in together} == {0.7}


def test_the_average_is_what_is_returned(run, images, greys, monkeypatch):
    """One that never follows the student is stage 2's network; one that does is not, and is not the student either."""
    before = clustered(greys, images, run)
    for name in ("fixmatch_weak", "fixmatch_strong"):
        monkeypatch.setattr(spice.augment, name, lambda name: same)
    real, told = spice.follow, []
    monkeypatch.setattr(spice, "follow", lambda teacher, student, decay: told.append((teacher, student, decay)))
    after = spice.learn_together(before, before.p_NK.argmax(1), RING, images, spice.Config(**JOINT), run)
    assert torch.equal(after.encoder.weight, greys.weight) and after.encoder is not greys
    assert not torch.equal(told[-1][1][0].weight, greys.weight), "the student did learn"
    monkeypatch.setattr(spice, "follow", lambda *given: (told.append(given), real(*given)))
    other = Run(seed=1, devices=run.devices)
    monkeypatch.setattr(spice, "unless_worse", lambda after, *_: after)
    after = spice.learn_together(before, before.p_NK.argmax(1), RING, images, spice.Config(**JOINT | {"joint_epochs": 2}), other)
    teacher, student, decay = told[-1]
    assert decay == 1 - 1 / (1 + 2 * 3) and after.encoder is teacher[0]
    assert not torch.equal(teacher[0].weight, student[0].weight) and not torch.equal(teacher[0].weight, greys.weight)


def test_norms_and_biases_do_not_decay(run, images, monkeypatch):
    groups, sgd = [], spice.SGD
    monkeypatch.setattr(spice, "SGD", lambda given, **more: groups.extend(given) or sgd(given, **more))
    encoder = build(EncoderSpec("small", 4))
    before = Fitted.from_parts(encoder, MlpHeads(encoder.n_features, 3), spice.features(encoder, images, run))
    spice.learn_together(before, torch.arange(N) % 3, RING, images, spice.Config(**JOINT, image_size=4, joint_decay=0.25), run)
    sizes = [[weight.ndim for weight in group["params"]] for group in groups]
    assert min(sizes[0]) == 2 and set(sizes[1]) == {1} and sum(map(len, sizes)) == len([*encoder.parameters()]) + 4
    assert [group.get("weight_decay", 0) for group in groups] == [0.25, 0]


@pytest.mark.parametrize("name, width", [("", 128), ("small-32", 256)])
def test_a_joint_stage_may_begin_anew(run, name, width):
    """With other weights, but with the colours of the images that stage 2 knew."""
    encoder = build(EncoderSpec("small", 4))
    encoder.standardise(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6]))
    before = Fitted(encoder, MlpHeads(128, 3), torch.zeros(1, 128), torch.zeros(1, 3))
    config = spice.Config(n_clusters=3, image_size=4, encoder="small", joint_init="random", joint_encoder=name)
    fresh, head = spice.start_of_joint(before, config, run)
    assert fresh.n_features == width and head(torch.zeros(2, width)).shape == (1, 2, 3)
    assert torch.equal(fresh.mean, encoder.mean) and torch.equal(fresh.deviation, encoder.deviation)
    first, old = next(fresh.parameters()), next(encoder.parameters())
    assert first.shape != old.shape or not torch.equal(first, old)
    same_as_before, _ = spice.start_of_joint(before, spice.Config(n_clusters=3), run)
    assert torch.equal(next(same_as_before.parameters()), old) and same_as_before is not encoder


def test_who_is_reliable_is_asked_of_the_whole_set(run, monkeypatch):
    asked = []
    monkeypatch.setattr(spice, "reliable", lambda *given: asked.append(given) or torch.arange(len(given[0])) % 3)
    z, p = torch.randn(600, 5), torch.rand(600, 3)
    for neighbours, want in ((100, 20), (5, 5)):
        config = spice.Config(n_clusters=3, reliable_neighbors=neighbours, reliable_ratio=0.8, reliable_bar=0.6, reliable_balance=True)
        spice.trust(Fitted(torch.nn.Identity(), torch.nn.Identity(), z, p), config, run)
        features, given, count, ratio, bar, balance, _ = asked[-1]
        assert features is z and given is p and (count, ratio, bar, balance) == (want, 0.8, 0.6, True)
    config = spice.Config(n_clusters=3, select_reliable=False)
    assert torch.equal(spice.trust(Fitted(torch.nn.Identity(), torch.nn.Identity(), z, p), config, run), p.argmax(1)) and len(asked) == 2


def test_stage_two_and_the_joint_stage_see_the_views_they_are_named_for():
    config = spice.Config()
    assert spice.view_of("weak", config) == spice.augment.fixmatch_weak("photos")
    assert spice.view_of("strong", config) == spice.augment.strong("photos") and spice.view_of("clean", config) is spice.augment.clean
    assert (config.label_view, config.train_view) == ("weak", "strong")
    assert spice.view_of("strong", spice.Config(encoder="precomputed")) is spice.augment.clean


def test_the_greys_are_who_they_are(images, run):
    assert torch.equal(who(images.batch(torch.arange(N)).pixels_B3HW), torch.arange(N))
    assert Greys().shown is Greys.shown


@pytest.mark.parametrize("n, batch, steps, want", [(1797, 1000, 4, 4), (1797, 300, 4, 5), (50, 0, 3, 3), (7, 3, 1, 2), (60, 20, 1, 3)])
def test_a_batch_holds_different_images_of_one_pass(n, batch, steps, want):
    config = spice.Config(n_clusters=5, head_batch=batch, head_steps=steps)
    batches = spice.batches_of(n, config, Run(devices=Devices("cpu", "fp32", 1)), 0)
    size = min(batch or 1000, n)
    assert len(batches) == want and all(len(ids) == size == len(set(ids.tolist())) for ids in batches)
    for start in range(0, len(batches), n // size):  # a pass sees no image twice either
        ids = torch.cat(batches[start : start + n // size])
        assert len(ids.unique()) == len(ids)


@pytest.mark.parametrize("k, n, want", [(10, 60_000, 1000), (3, 60_000, 1000), (200, 100_000, 20_000), (50, 60_000, 5000), (50, 900, 900)])
def test_a_batch_grows_with_the_clusters(k, n, want):
    batches = spice.batches_of(n, spice.Config(n_clusters=k), Run(devices=Devices("cpu", "fp32", 1)), 0)
    assert {len(ids) for ids in batches} == {want}
