"""How PCP's steps are joined: which clusterings vote, what is learned from whom, and how the two losses are mixed."""

import pytest
import torch

from coterie.methods import pcp
from coterie.methods.fitted import Fitted
from coterie.networks.bank import MemoryBank
from coterie.run import Run

from .conftest import N, negative, who

SETTINGS = {"n_clusters": 3, "epochs": 8, "batch": 8, "projection": 5, "whiten": False}


@pytest.fixture
def fit(run, images, greys, monkeypatch):
    """(settings) -> the run, after PCP with the encoder of greys and without a last step."""
    monkeypatch.setattr(pcp.pretext, "train", lambda *_: greys)
    monkeypatch.setattr(pcp, "assign", lambda encoder, *_: Fitted(encoder, torch.nn.Identity(), torch.zeros(N, 1), torch.zeros(N, 3)))

    def go(**settings) -> Run:
        pcp.fit(images, pcp.Config(**SETTINGS | settings), run)
        return run

    return go


class Ballot(pcp.Votes):
    """Lists what is asked of it, and what it answers."""

    said: list[tuple[str, torch.Tensor, torch.Tensor | None]] = []

    def remember(self, labels_N):
        self.said.append(("remember", labels_N, None))
        super().remember(labels_N)

    def revise(self, kept_N, labels_N, anchor_K):
        revised_N = super().revise(kept_N, labels_N, anchor_K)
        self.said.append(("revise", labels_N, revised_N))
        return revised_N


@pytest.fixture
def said(monkeypatch) -> list:
    monkeypatch.setattr(Ballot, "said", [])
    monkeypatch.setattr(pcp, "Votes", Ballot)
    return Ballot.said


def test_the_present_clustering_does_not_vote_on_itself(fit, said, watch):
    """It is remembered whole, as it was before any image was left out, and after the vote on it."""
    clusterings = watch(pcp, "cluster")
    fit()
    assert [what for what, *_ in said] == ["revise", "remember"] * 4, "from the middle of the round on"
    for i, (_, labels_N, _) in enumerate(said):
        assert labels_N is clusterings[4 + i // 2][1].labels_N


def test_later_rounds_vote_from_a_tenth_of_them_on(fit, said):
    fit(rounds=2, epochs=20)
    assert [what for what, *_ in said] == ["revise", "remember"] * 10 + ["remember"] * 2 + ["revise", "remember"] * 18


def test_what_the_vote_leaves_is_learned(fit, said, monkeypatch, watch, drawn_ids):
    """From one view, against a bank that holds each image's features as they were before this batch."""
    monkeypatch.setattr(pcp.augment, "pretext", lambda name, size: negative)
    learned, written = watch(pcp, "purified_cluster_loss"), watch(MemoryBank, "write")
    fit(bank_momentum=0.25)
    revised = [answer for what, _, answer in said if what == "revise"]
    for epoch, answer in enumerate(revised, 4):
        assert all(torch.equal(labels_N, answer) for (_, _, _, labels_N, *_), _ in learned[3 * epoch : 3 * epoch + 3])
    assert len(learned) == len(written) == len(drawn_ids) == 3 * 8
    for (given, _), (later, _), ((_, index, z, momentum), _), ids in zip(learned, learned[1:], written, drawn_ids):
        z_BD, index_B, bank_ND, _, *more = given
        assert torch.equal(index_B, ids) and torch.equal(index, ids) and torch.equal(z, z_BD) and (momentum, more) == (0.25, [0.1, True])
        want = bank_ND.clone()
        want[ids] = torch.nn.functional.normalize(0.25 * bank_ND[ids] + 0.75 * z_BD, dim=1)
        torch.testing.assert_close(later[2], want)


def test_the_warm_up_mixes_the_losses_as_it_says(fit, greys, monkeypatch):
    """PCP's own loss has 0.2 of the weight at first and 0.5 at the end of the warm-up, then all of it; a second view only till then."""
    steps, views = [], []
    monkeypatch.setattr(pcp, "purified_cluster_loss", lambda z, *_: 0 * z.sum() + 1)
    monkeypatch.setattr(pcp, "spreading_loss", lambda z, *_: views.append(who(greys.shown[-1][2])) or 0 * z.sum() + 100)
    step = Run.step
    monkeypatch.setattr(Run, "step", lambda self, loss, *optimizers: (steps.append(loss.item()), step(self, loss, *optimizers))[1])
    monkeypatch.setattr(pcp.augment, "pretext", lambda name, size: negative)
    run = fit(warm_up=0.5)
    own = [0.2, 0.275, 0.35, 0.425, 1, 1, 1, 1]
    want = [share + (1 - share) * 100 for share in own]
    assert steps == pytest.approx([loss for loss in want for _ in range(3)], rel=1e-5)
    assert [row["loss"] for row in run.history] == pytest.approx(want, rel=1e-5)
    assert len(views) == 12 and all(torch.equal(*ids.chunk(2)) for ids in views), "two views of the same images, in the same order"
    assert [len(x) for training, _, x in greys.shown if training] == [16] * 12 + [8] * 12


@pytest.mark.parametrize("view, seen", [("clean", 0), ("augmented", 255)])
def test_what_is_clustered(fit, greys, monkeypatch, watch, view, seen):
    """The network's features after all that was learned so far, of clean images or of views."""
    asked = watch(pcp, "cluster")
    monkeypatch.setattr(pcp.augment, "pretext", lambda name, size: negative)
    fit(cluster_view=view, vote=False, progressive=False, floor=4)
    given = [words for words, _ in asked]
    assert len(given) == 8 and {k for _, k, *_ in given} == {4} and given[0][0].shape == (N, 5)
    whole = [who(x) for training, _, x in greys.shown if not training and len(x) == N]
    assert torch.equal(whole[-1], (seen - torch.arange(N)).abs()) and not torch.equal(given[0][0], given[-1][0])


def test_the_rate_and_the_clusters_follow_the_round(fit, monkeypatch, watch):
    rates, asked = [], watch(pcp, "cluster")
    monkeypatch.setattr(pcp, "set_rate", lambda optimizer, rate: rates.append(rate))
    fit(epochs=10, floor=4)
    counts = [k for (_, k, *_), _ in asked]
    assert rates == pytest.approx([0.03] * 6 + [0.003] * 2 + [0.0003] * 2)
    assert counts == [max(4, round(N ** (1 - epoch / 10))) for epoch in range(10)] and counts[0] == N and counts[-1] == 4
