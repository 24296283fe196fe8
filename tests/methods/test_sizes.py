"""Whether clusters may differ in size: said, or found; in the last step, and what a fit says when they are torn all the same."""

import pytest
import torch

from coterie import methods
from coterie.fitting.small import small
from coterie.fitting.verdict import settle
from coterie.images.collection import open_rows
from coterie.methods.sizes import of_any_size, prior_of, shares_of, uneven

PLAIN = {"encoder": "precomputed", "pretext": "frozen"}


def rows(sizes, spread=0.15):
    kinds_N = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    rng = torch.Generator().manual_seed(0)
    return torch.eye(len(sizes), 8)[kinds_N] + spread * torch.randn(len(kinds_N), 8, generator=rng) + torch.eye(8)[7]


def notes(run):
    return [row["text"] for row in run.history if row["stage"] == "note" and "evenness" in row["text"]]


@pytest.mark.parametrize("sizes, said, taken", [
    ((58, 2), "auto", True), ((58, 2), "even", False), ((30, 30), "auto", False), ((30, 30), "uneven", True),
])  # fmt: skip
def test_what_is_said_counts_and_else_what_is_found(run, sizes, said, taken):
    z_ND, labels_N = rows(sizes), torch.arange(60) % 2
    found_N = of_any_size(z_ND, labels_N, said, 2, run)
    assert torch.equal(found_N, labels_N) != taken and len(notes(run)) == (taken and said == "auto")
    assert not taken or sorted(found_N.bincount().tolist()) == sorted(sizes)


@pytest.mark.parametrize("name, settings", [
    ("kmeans", {}), ("kmeans", {"final": "diffusion"}), ("deepcluster", {"epochs": 0}),
])  # fmt: skip
def test_two_among_sixty_stay_two(run, name, settings):
    labels_N = fit(name, settings, run).p_NK.argmax(1)
    assert sorted(labels_N.bincount(minlength=2).tolist()) == [2, 58] and not run.warnings


@pytest.mark.parametrize("name", ["scan", "temi", "turtle"])
def test_what_heads_tear_apart_is_put_together(run, name):
    """They ask that clusters be alike in size, and with two pictures the graph of neighbours does not tell."""
    assert sorted(fit(name, {}, run).p_NK.argmax(1).bincount(minlength=2).tolist()) == [2, 58]
    assert any("are returned" in text for text in notes(run)) and not run.warnings


def test_heads_that_are_to_be_even_tear_them_apart(run):
    assert fit("scan", {"sizes": "even"}, run).p_NK.argmax(1).bincount(minlength=2).min() > 15 and not run.warnings


def fit(name, settings, run):
    images, config = open_rows(rows((58, 2)).numpy()), methods.method(name).Config(n_clusters=2, **PLAIN, **settings)
    return settle(methods.method(name).fit(images, config, run), small(images), name, config, run)[0]


@pytest.mark.parametrize("sizes, told", [((30, 30, 30), False), ((46, 30, 20), False), ((60, 30, 9), True)])
def test_clusters_are_told_how_large_to_be_only_where_sizes_clearly_differ(run, sizes, told):
    """The second draw counts as uneven (0.94 of 1), and a cut of a graph errs by as much where kinds are alike."""
    shares_K = shares_of(rows(sizes), "auto", 3, run)
    assert (shares_K is not None) == told and len(notes(run)) == told
    if told:
        torch.testing.assert_close(shares_K, torch.tensor(sizes) / sum(sizes), rtol=0, atol=0.02)
    assert shares_of(rows(sizes), "even", 3, run) is None and shares_of(rows(sizes), "uneven", 3, run) is not None


@pytest.mark.parametrize("prior, want", [("estimated", (0.6, 0.3, 0.1)), ("6,3,1", (0.6, 0.3, 0.1)), ("power-law", (0.594, 0.255, 0.151))])
def test_a_prior_is_said_or_found(run, prior, want):
    found_K = prior_of(prior, rows((60, 30, 10), 0.02), 3, run)
    torch.testing.assert_close(found_K, torch.tensor(want), atol=0.03, rtol=0)
    assert float(found_K.sum()) == pytest.approx(1)


@pytest.mark.parametrize("said, want", [("auto", [10, 30, 60]), ("uneven", [10, 30, 60]), ("even", None)])
def test_spice_gives_clusters_their_share_where_kinds_differ(run, said, want):
    found_K = shares_of(rows((60, 30, 10), 0.02), said, 3, run)
    assert (found_K is None) == (want is None) and (want is None or sorted((100 * found_K).round().int().tolist()) == want)
    assert shares_of(rows((30, 30), 0.02), "auto", 2, run) is None


def test_other_features_of_a_fit_do_not_say_it_again(run):
    for turn, spread in enumerate((0.15, 0.1)):
        assert uneven(rows((58, 2), spread), "auto", 2, run, f"sizes-{turn}", below=1.1)
    assert len(notes(run)) == 1
