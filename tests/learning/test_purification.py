"""Who stays in a cluster: nearest to the mean, votes of past clusterings; and AND's surest images. Against naive loops."""

import math

import pytest
import torch

from coterie.clustering.rows import means
from coterie.errors import InputError
from coterie.learning.pseudo_labels import Votes, anchors, near_centroid, surest_neighbourhoods


@pytest.fixture(params=range(3))
def clustering(request):
    """features (60, 4) float64, labels (60,) of 8 clusters: large ones, one of 5, one of 1, an empty one, and images left out."""
    generator = torch.Generator().manual_seed(request.param)
    labels = torch.randint(-1, 5, (60,), generator=generator)
    labels[torch.randperm(60, generator=generator)[:6]] = torch.tensor([5, 5, 5, 5, 5, 7])
    return torch.randn(60, 4, generator=generator, dtype=torch.float64), labels


def nearest_first(features, labels, cluster) -> list[int]:
    ids = [i for i in range(len(labels)) if labels[i] == cluster]
    middle = [sum(float(features[i, d]) for i in ids) / len(ids) for d in range(features.shape[1])] if ids else []
    return sorted(ids, key=lambda i: sum((float(features[i, d]) - m) ** 2 for d, m in enumerate(middle)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_near_centroid(clustering, share):
    features, labels = clustering
    want = torch.full_like(labels, -1)
    for cluster in range(8):
        ids = nearest_first(features, labels, cluster)
        kept = ids if len(ids) <= 5 else ids[: int(len(ids) * share)]
        want[kept if len(kept) > 1 else []] = cluster
    assert torch.equal(near_centroid(features, labels, share), want)
    assert (want == 5).sum() == 5 and not (want == 7).any(), "a small cluster stays whole, a lone image is left out"


def test_near_centroid_does_not_care_for_order_or_place(clustering):
    features, labels = clustering
    order = torch.randperm(60, generator=torch.Generator().manual_seed(9))
    kept = near_centroid(features, labels)
    assert torch.equal(near_centroid(features[order] * 3 + 7, labels[order]), kept[order])


def test_anchors_and_means(clustering):
    features, labels = clustering
    want = [ids[0] if (ids := nearest_first(features, labels, cluster)) else -1 for cluster in range(8)]
    assert want[6] == -1 and anchors(features, labels).tolist() == want
    got = means(features, labels, 8)
    for cluster in range(8):
        rows = features[labels == cluster]
        torch.testing.assert_close(got[cluster], rows.mean(0) if len(rows) else torch.zeros(4, dtype=torch.float64))


def test_nobody_at_all():
    nobody = torch.full((4,), -1)
    assert torch.equal(near_centroid(torch.randn(4, 2), nobody), nobody) and len(anchors(torch.randn(4, 2), nobody)) == 0
    votes = Votes(window=1)
    votes.remember(torch.zeros(4, dtype=torch.int64))
    assert torch.equal(votes.revise(nobody, nobody, anchors(torch.randn(4, 2), nobody)), nobody)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share):
    with pytest.raises(InputError, match="share"):
        near_centroid(torch.randn(4, 2), torch.zeros(4, dtype=torch.int64), share)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("decay, drop, add", [(0.8, 0.0, 1.5), (0.5, 0.6, 1.2)])
def test_votes(clustering, signed, decay, drop, add):
    features, labels = clustering
    generator = torch.Generator().manual_seed(4)
    shuffled = lambda: torch.where(torch.rand(60, generator=generator) < 0.4, torch.randint(0, 8, (60,), generator=generator), labels)  # noqa: E731
    past = [shuffled().clamp(min=0) for _ in range(5)]
    kept, middle = near_centroid(features, labels), anchors(features, labels)
    votes = Votes(3, decay, drop, add, signed)
    for clusters in past:
        assert votes.full == (len(votes.past) == 3)
        votes.remember(clusters)
    got = votes.revise(kept, labels, middle)

    want, changes = torch.full_like(labels, -1), set()
    for i, cluster in enumerate(labels.tolist()):
        if cluster < 0:
            continue
        score = 1.0
        for ago, clusters in enumerate(past[:1:-1], 1):  # the latest three
            together = clusters[i] == clusters[middle[cluster]]
            score += decay**ago * (1 if together else -1 if signed else 0)
        stays = score >= drop if kept[i] >= 0 else score >= add
        want[i] = cluster if stays else -1
        changes.add((bool(kept[i] >= 0), stays))
    for cluster in range(8):
        if (want == cluster).sum() == 1:
            want[want == cluster] = -1
    assert torch.equal(got, want)
    assert (False, True) in changes, "the case shows images that come"


def test_votes_wait_until_the_window_is_full_and_survive_a_restart():
    generator = torch.Generator().manual_seed(0)
    rounds = [torch.randint(0, 3, (30,), generator=generator) for _ in range(7)]
    features, labels = torch.randn(30, 2, generator=generator), rounds[0]
    kept, middle = near_centroid(features, labels), anchors(features, labels)
    votes = Votes(window=4)
    for past in rounds[:3]:
        votes.remember(past)
        assert torch.equal(votes.revise(kept, labels, middle), kept) and not votes.full
    again = Votes(window=4)
    again.load_state_dict(votes.state_dict())
    for past in rounds[3:]:
        votes.remember(past)
        again.remember(past)
        assert torch.equal(again.revise(kept, labels, middle), votes.revise(kept, labels, middle)) and again.full
    assert not torch.equal(votes.revise(kept, labels, middle), kept), "this vote changes something"
    with pytest.raises(InputError, match="window"):
        Votes(window=0)


def test_a_score_at_the_bound_stays_and_comes_and_two_are_a_cluster():
    """Numbers that floats hold exactly: with decay 1/2 and two votes scores are 1/4, 3/4, 5/4 and 7/4."""
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    middle = torch.tensor([0, 4, 6])  # who stands in the middle of each cluster
    votes = Votes(window=2, decay=0.5, drop_below=0.25, add_from=1.75)
    votes.remember(torch.tensor([0, 1, 0, 0, 0, 1, 0, 1]))  # with its middle: 2, 3; not: 1, 5, 7
    votes.remember(torch.tensor([0, 1, 0, 1, 0, 1, 0, 0]))  # with its middle: 2, 7; not: 1, 3, 5
    assert votes.scores(labels, middle).tolist() == [1.75, 0.25, 1.75, 0.75, 1.75, 0.25, 1.75, 1.25]
    kept = torch.tensor([0, 0, -1, -1, 1, 1, 2, -1])
    assert votes.revise(kept, labels, middle).tolist() == [0, 0, 0, -1, 1, 1, -1, -1], (
        "1 and 5 stay at the bound, 2 comes at it, 6 is alone"
    )
    votes.drop_below, votes.add_from = 0.2500001, 1.7500001
    assert votes.revise(kept, labels, middle).tolist() == [-1] * 8, "beyond it each of them goes, and who is alone then"
    votes.add_from = 1.25
    assert votes.revise(kept, labels, middle).tolist() == [0, -1, 0, -1, -1, -1, 2, 2]


def test_the_numbering_of_past_clusters_does_not_matter(clustering):
    features, labels = clustering
    kept, middle = near_centroid(features, labels), anchors(features, labels)
    past = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(0))
    one, other = Votes(window=1), Votes(window=1)
    one.remember(past)
    other.remember((past + 1) % 3 + 5)
    assert torch.equal(one.revise(kept, labels, middle), other.revise(kept, labels, middle))


def test_surest_neighbourhoods():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    unit = features / features.norm(dim=1, keepdim=True)
    entropies = []
    for i in range(20):
        p = [math.exp(float(unit[i] @ unit[j]) / 0.1) for j in range(20)]
        entropies.append(-sum(q / sum(p) * math.log(q / sum(p)) for q in p))
    want = set(sorted(range(20), key=lambda i: entropies[i])[:6])
    got = surest_neighbourhoods(features, 6, 2)
    assert {i for i in range(20) if got[i, 0] >= 0} == want
    for i in want:
        others = sorted((j for j in range(20) if j != i), key=lambda j: -float(unit[i] @ unit[j]))
        assert got[i].tolist() == others[:2]
    assert torch.equal(surest_neighbourhoods(features * 5, 6, 2), got), "lengths do not matter"
    assert (surest_neighbourhoods(features, 0) == -1).all()
