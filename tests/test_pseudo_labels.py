import torch

from coterie.pseudo_labels import confident


def naive(p: list[list[float]], threshold: float) -> list[int]:
    return [row.index(max(row)) if max(row) > threshold else -1 for row in p]


def test_confident_equals_naive_loops():
    p = torch.softmax(3 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0)), 1)
    for threshold in (0.0, 0.3, 0.5, 0.9, 0.99, 1.0):
        got = confident(p, threshold)
        assert got.tolist() == naive(p.tolist(), threshold) and got.dtype == torch.int64
    assert len(set(confident(p, 0.5).tolist())) > 2, "the draw is too easy to tell anything"


def test_the_threshold_itself_is_not_enough():
    p = torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5], [0.751, 0.249]])
    assert confident(p, 0.75).tolist() == [-1, -1, -1, 0]
    assert confident(torch.tensor([[1.0, 0.0]]), 1.0).tolist() == [-1]


def test_order_of_images_and_names_of_clusters_do_not_matter():
    p = torch.softmax(3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1)), 1)
    order, names = torch.randperm(50), torch.tensor([2, 0, 3, 1])
    want = confident(p, 0.6)
    assert torch.equal(confident(p[order], 0.6), want[order])
    assert torch.equal(confident(p[:, names.argsort()], 0.6), torch.where(want >= 0, names[want], -1))


def test_no_image_and_no_number():
    assert confident(torch.zeros(0, 3), 0.5).shape == (0,)
    assert confident(torch.full((2, 3), float("nan")), 0.5).tolist() == [-1, -1], "what is no number is not trusted"
