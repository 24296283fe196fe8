"""The loss of each pretext task, by hand: which view meets which, and what slow copies, queues and banks hold.

`descend` is kept from running; a task's loss is asked for one batch at a time.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from coterie.images import Batch
from coterie.learning.instance_losses import bank_cross_entropy, decorrelation, neighbourhood_loss, spreading_loss
from coterie.learning.losses import info_nce, nt_xent
from coterie.learning.transport import even_shares
from coterie.methods.pretext import PretextConfig, anchors, byol, instance, moco, rotation, simclr, spreading, swav

from .conftest import N, who

B = 8
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


class Asked:
    """What a task gave to `descend`: `loss(ids)`, `trained` and `kept` modules by name, and the stages with how many epochs they have."""

    def __init__(self) -> None:
        self.trained: dict = {}
        self.kept: dict = {}
        self.stages: list = []

    def __call__(self, loss_of, images, config, run, trained, kept=None, stage="pretext", epochs=None, share=0.7, after=None):
        self.after = after
        self.images, self.loss_of, self.trained, self.kept = images, loss_of, trained, kept or {}
        self.stages.append((stage, epochs, loss_of))

    def loss(self, ids, loss_of=None) -> torch.Tensor:
        return (loss_of or self.loss_of)(self.images.batch(torch.as_tensor(ids)), torch.Generator().manual_seed(0))

    def views(self, ids) -> tuple[torch.Tensor, torch.Tensor]:
        """The two views that `lighter` draws in turn."""
        x = self.images.batch(torch.as_tensor(ids)).pixels_B3HW
        return x + 100 / 255, x + 200 / 255


@pytest.fixture
def ask(images, greys, run, monkeypatch):
    """(task, settings) -> Asked. Views are the picture 100 levels lighter, then 200, then 100 again ..."""
    turn = [0]

    def lighter(x, rng):
        turn[0] += 1
        return x + (100 if turn[0] % 2 else 200) / 255

    def go(task, **settings) -> Asked:
        asked = Asked()
        monkeypatch.setattr(task, "descend", asked)
        monkeypatch.setattr(task.augment, "pretext", lambda name, size: lighter)
        monkeypatch.setattr(task.augment, "weak", lambda name: lighter)
        task.train(greys, images, PretextConfig(**{"projection": 5, "pretext_temperature": 0.3} | settings), run)
        return asked

    return go


def nudge(module: nn.Module, by: float = 0.3) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(by)


IDS = [3, 0, 7, 11, 2, 20, 5, 9]


def test_simclr_pairs_the_two_views_of_an_image(ask, greys):
    asked = ask(simclr)
    got = asked.loss(IDS)
    z = [asked.trained["projector"](greys(x)) for x in asked.views(IDS)]
    torch.testing.assert_close(got, nt_xent(torch.stack(z, 1), 0.3, symmetric=True), **CLOSE)
    assert asked.trained["encoder"] is greys


def test_spreading_pairs_the_two_views_of_an_image(ask, greys):
    asked = ask(spreading)
    got = asked.loss(IDS)
    z = torch.cat([asked.trained["projector"](greys(x)) for x in asked.views(IDS)])
    torch.testing.assert_close(got, spreading_loss(z, 0.3), **CLOSE)


def test_moco_finds_the_key_of_a_slow_copy_among_earlier_keys(ask, greys):
    asked = ask(moco, queue=20, momentum=0.75)
    teacher, queue, student = asked.kept["teacher"], asked.kept["queue"], nn.Sequential(greys, asked.trained["projector"])
    assert len(queue.rows_MD) == 20 and not any(weight.requires_grad for weight in teacher.parameters())
    keys = []
    for step, ids in enumerate((IDS, [1, 4, 6, 8, 10, 12, 13, 14])):
        nudge(student)
        slow = {name: value.clone() for name, value in teacher.state_dict().items()}
        rows = queue.rows_MD.clone()
        got = asked.loss(ids)
        for name, value in teacher.state_dict().items():
            torch.testing.assert_close(value, 0.75 * slow[name] + 0.25 * student.state_dict()[name], **CLOSE)
        first, second = asked.views(ids)
        key = teacher(second)
        torch.testing.assert_close(got, info_nce(student(first), key, rows, 0.3), **CLOSE)
        keys.append(key)
        torch.testing.assert_close(queue.rows_MD[: B * (step + 1)], torch.cat(keys), **CLOSE)
        got.backward()
    assert greys.weight.grad is not None


def test_moco_remembers_no_more_keys_than_there_are_images(ask):
    assert len(ask(moco, queue=4096).kept["queue"].rows_MD) == N


def test_byol_predicts_the_other_view(ask, greys):
    asked = ask(byol, momentum=0.75)
    teacher, predictor, student = asked.kept["teacher"], asked.trained["predictor"].eval(), nn.Sequential(greys, asked.trained["projector"])
    nudge(student)
    slow = {name: value.clone() for name, value in teacher.state_dict().items()}
    got = asked.loss(IDS)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, 0.75 * slow[name] + 0.25 * student.state_dict()[name], **CLOSE)
    first, second = asked.views(IDS)
    pairs = (predictor(student(first)), teacher(second)), (predictor(student(second)), teacher(first))
    torch.testing.assert_close(got, 2 - (sum((found * wanted).sum(1).mean() for found, wanted in pairs)), **CLOSE)
    itself = (predictor(student(first)) * teacher(first)).sum(1).mean() + (predictor(student(second)) * teacher(second)).sum(1).mean()
    assert abs(float((got - (2 - itself)).detach())) > 1e-2, "a view that predicts itself would be told apart here"
    got.backward()
    assert all(weight.grad is None for weight in teacher.parameters()) and greys.weight.grad is not None


def test_swav_predicts_the_codes_of_the_other_view(ask, greys):
    asked = ask(swav, prototypes=6)
    prototypes = asked.trained["prototypes"]
    nudge(prototypes)
    got = asked.loss(IDS)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(6), **CLOSE)
    first, second = (prototypes(asked.trained["projector"](greys(x))) for x in asked.views(IDS))
    wanted = []
    for scores, other in ((first, second), (second, first)):
        codes = even_shares(other.detach() / 0.05, 3)
        wanted.append(-(codes * (scores / 0.3).log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(got, sum(wanted) / 2, **CLOSE)
    got.backward()
    assert greys.weight.grad is not None and prototypes.weight.grad is not None


def test_rotation_names_the_quarter_turns(ask, images, greys, monkeypatch):
    asked = ask(rotation)
    seen = []
    corner = torch.zeros(B, 3, 4, 4)
    corner[:, :, 0, 0] = 1  # top left; counter-clockwise it goes to the bottom left
    monkeypatch.setattr(rotation.augment, "weak", lambda name: None)
    greys.forward = lambda x: seen.append(x) or x[:, 0].flatten(1)[:, [0, 3, 12, 15, 5, 6]] * 1.0
    monkeypatch.setattr(Asked, "loss", lambda self: self.loss_of(Batch(torch.arange(B), corner), None))
    monkeypatch.setattr(rotation.F, "cross_entropy", lambda logits, labels: seen.append(labels) or logits.sum())
    asked.loss()
    x, labels = seen
    bright = (x[:, 0] > 0.6).flatten(1).double().argmax(1)
    assert torch.equal(labels, torch.arange(4).repeat_interleave(B))
    assert bright.view(4, B)[:, 0].tolist() == [0, 12, 15, 3] and (bright.view(4, B) == bright.view(4, B)[:, :1]).all()


# ---- a bank of all images


def written(before: torch.Tensor, ids, z: torch.Tensor, momentum: float) -> torch.Tensor:
    rows = before.clone()
    rows[ids] = F.normalize(momentum * before[ids] + (1 - momentum) * z, dim=1)
    return rows


def test_instance_finds_the_image_in_a_bank_of_what_was_seen_before(ask, greys, images, run):
    asked = ask(instance, bank_momentum=0.25)
    bank, network = asked.kept["bank"], nn.Sequential(greys, asked.trained["projector"])
    torch.testing.assert_close(bank.all_ND, network(images.batch(torch.arange(N)).pixels_B3HW), **CLOSE)
    nudge(network)
    before = bank.all_ND.clone()
    got, z = asked.loss(IDS), network(asked.views(IDS)[0])
    torch.testing.assert_close(got, bank_cross_entropy(z, torch.tensor(IDS), before, 0.3), **CLOSE)
    assert torch.equal(bank.all_ND, before), "the bank stays until the gradient was taken"
    asked.after()
    torch.testing.assert_close(bank.all_ND, written(before, IDS, z.detach(), 0.25), **CLOSE)


def test_idfd_tells_the_columns_apart_as_well(ask, greys):
    asked = ask(instance, decorrelation=0.7)
    bank, network = asked.kept["bank"], nn.Sequential(greys, asked.trained["projector"])
    before = bank.all_ND.clone()
    got, z = asked.loss(IDS), network(asked.views(IDS)[0])
    torch.testing.assert_close(got, bank_cross_entropy(z, torch.tensor(IDS), before, 0.3) + 0.7 * decorrelation(z), **CLOSE)


def test_the_constant_of_the_noise_is_estimated_once(ask, watch):
    asked, learned = ask(instance, negatives=6), watch(instance, "noise_contrastive")
    asked.loss(IDS), asked.loss([1, 4])
    ((z, index, bank, noise, _, constant), _), ((*_, again), _) = learned
    scores = (z[:, None] * bank[torch.cat([index[:, None], noise], 1)]).sum(2).div(0.3).exp()
    assert noise.shape == (B, 6) and torch.equal(constant, again)
    torch.testing.assert_close(constant, scores.mean() * N, **CLOSE)


def test_anchors_dare_more_in_each_round(ask, greys, watch):
    """The first round has none, the second half the images, the third all; each finds the neighbours in the bank as it is then."""
    found = watch(anchors, "surest_neighbourhoods")
    asked = ask(anchors, anchor_rounds=3, pretext_epochs=7, anchor_neighbors=2, bank_momentum=0.25)
    assert [given[1:] for given, _ in found] == [[0, 2, 0.3], [N // 2, 2, 0.3], [N, 2, 0.3]]
    assert [(stage, epochs) for stage, epochs, _ in asked.stages] == [("pretext", 2), ("pretext, round 2", 2), ("pretext, round 3", 3)]
    bank, network = asked.kept["bank"], nn.Sequential(greys, asked.trained["projector"])
    nudge(network)
    for turn, ((_, neighbours), (_, _, loss_of)) in enumerate(zip(found, asked.stages)):
        before = bank.all_ND.clone()
        got, z = asked.loss(IDS, loss_of), network(asked.views(IDS)[turn % 2])
        torch.testing.assert_close(got, neighbourhood_loss(z, torch.tensor(IDS), before, neighbours, 0.3), **CLOSE)
        asked.after()
        torch.testing.assert_close(bank.all_ND, written(before, IDS, z.detach(), 0.25), **CLOSE)


def test_views_of_these_tests_are_two(ask, images):
    first, second = ask(simclr).views(IDS)
    assert torch.equal(who(first), torch.tensor(IDS) + 100) and torch.equal(who(second), torch.tensor(IDS) + 200)
