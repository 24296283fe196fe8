import math

import numpy as np
import pytest
import torch
from torch import nn

from coterie.errors import InputError
from coterie.evaluate import retrieval
from coterie.evaluate.retrieval import Settings, by_class, describe, learn_whitening, region_vectors, regions, regions_of, rmac
from coterie.evaluate.scores import Scores
from coterie.evaluate.task import Task
from coterie.images.arrays import from_array
from coterie.networks.encoder import EncoderSpec, build
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.seeding import forked


class Maps(nn.Module):
    """Maps are the pixels, halved in size; features their flattened means."""

    def maps(self, x):
        return nn.functional.avg_pool2d(x, 2)

    def forward(self, x):
        return x.mean((2, 3))


def naive_ap(rows, labels, i):
    """Loops in float64; those equally similar come at the last rank of them all."""
    rows = [[float(v) for v in row] for row in rows]
    length = [math.sqrt(sum(v * v for v in row)) or 1.0 for row in rows]
    similarity = {j: round(sum(a * b for a, b in zip(rows[i], rows[j])) / length[i] / length[j], 6) for j in range(len(rows)) if j != i}
    total, n = 0.0, 0
    for j in similarity:
        if labels[j] == labels[i]:
            above = [k for k in similarity if similarity[k] >= similarity[j]]
            total += sum(labels[k] == labels[i] for k in above) / len(above)
            n += 1
    return total / n if n else None


def test_by_class_equals_naive_loops(monkeypatch):
    monkeypatch.setattr(retrieval, "ROWS", 7)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(15, 3, generator=generator, dtype=torch.float64)[torch.arange(40) % 15]  # the same row twice or thrice: ties
    labels = torch.randint(4, (40,), generator=generator)
    labels[-1] = 9  # alone: asks nothing
    wanted = [naive_ap(rows, labels.tolist(), i) for i in range(40)]
    wanted = [ap for ap in wanted if ap is not None]
    found = by_class(rows, labels)
    assert found.left_out == 40 - len(wanted) > 0
    assert np.allclose(found.ap_Q, wanted, atol=1e-6) and found.mean_ap == pytest.approx(np.mean(wanted), abs=1e-6)


def test_perfect_is_one_blind_is_chance_unknown_is_not_ranked():
    labels = torch.arange(60) % 5
    assert by_class(torch.eye(5)[labels], labels).mean_ap == 1.0
    ordered = labels.sort().values
    assert by_class(torch.ones(60, 4), ordered).mean_ap == pytest.approx(11 / 59)
    random = torch.randn(600, 64, generator=torch.Generator().manual_seed(1))
    assert by_class(random, torch.arange(600) % 5).mean_ap == pytest.approx(0.2, abs=0.02)
    unknown = torch.cat([labels, torch.full((60,), -1)])
    found = by_class(torch.eye(5)[labels].repeat(2, 1), unknown)
    assert found.mean_ap == 1.0 and found.left_out == 60


@pytest.mark.parametrize(
    "rows, labels, said",
    [
        (torch.ones(3, 2), [0, 1], "one per image"),
        (torch.ones(3, 2), [0, 1, 2], "no two images of one class"),
        (torch.full((2, 2), torch.nan), [0, 0], "NaN"),
        (torch.ones(2, 2), [-1, -1], "no two images"),
    ],
)
def test_one_line_for_what_cannot_be_asked(rows, labels, said):
    with pytest.raises(InputError, match=said):
        by_class(rows, labels)


def test_regions_are_squares_inside_that_cover():
    for height, width in ((7, 7), (6, 9), (12, 5), (3, 20), (1, 1)):
        found = regions(height, width, 3)
        assert all(0 <= top <= height - side and 0 <= left <= width - side for top, left, side in found)
        seen = np.zeros((height, width))
        for top, left, side in (r for r in found if r[2] == min(height, width)):
            seen[top : top + side, left : left + side] += 1
        assert (seen > 0).all() or max(height, width) > 6 * min(height, width)
    assert regions(8, 8, 1) == [(0, 0, 8)]
    assert regions(10, 16, 1) == [(0, 0, 10), (0, 6, 10)], "two squares, 40 % of each shared"
    assert len(regions(30, 40, 3)) == 1 * 2 + 2 * 3 + 3 * 4, "the 20 regions of the paper"
    with pytest.raises(InputError, match="levels"):
        regions(3, 3, 0)


def test_rmac_by_hand():
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 0, 0, 0], maps[0, 1, 3, 3] = 3.0, 4.0
    total = np.array([3.0, 4.0]) / 5  # level 1: all; level 2: side 2, the four corners' squares, two of them empty
    total = total + [1.0, 0.0] + [0.0, 1.0]
    assert np.allclose(rmac(maps, 2)[0], total / np.linalg.norm(total))


def test_whitening_is_learned_elsewhere_and_makes_variances_equal():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 4, generator=generator) * torch.tensor([5.0, 2.0, 1.0, 0.1]) + 3
    learned = learn_whitening(rows, 3)
    projected = (rows - learned.mean_D) @ learned.axes_DE
    covariance = projected.T @ projected
    assert projected.shape == (500, 3) and torch.allclose(covariance / covariance[0, 0], torch.eye(3), atol=1e-3)
    assert torch.allclose(learned(rows).norm(dim=1), torch.ones(500))
    with pytest.raises(InputError, match="whitening"):
        learn_whitening(rows[:1])


def test_describe_scales_poolings_and_sizes():
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.rand(2, 3, 16, 24, generator=generator), torch.rand(1, 3, 20, 12, generator=generator)]
    encoder = Maps().train()
    for pooling in retrieval.POOLINGS:
        found = describe(encoder, pixels, pooling, (1.0, 0.5))
        assert found.shape == (3, 3) and torch.allclose(found.norm(dim=1), torch.ones(3)) and encoder.training
    assert torch.allclose(describe(encoder, pixels)[:2], rmac(encoder.maps(pixels[0])))
    half = nn.functional.interpolate(pixels[0], (8, 12), mode="bilinear", antialias=True)
    both = rmac(encoder.maps(pixels[0])) + rmac(encoder.maps(half))
    assert torch.allclose(describe(encoder, pixels[:1], scales=(1.0, 0.5)), nn.functional.normalize(both, dim=1))
    each = regions_of(encoder, pixels[:1])
    assert torch.allclose(each, region_vectors(encoder.maps(pixels[0])).flatten(0, 1))
    assert describe(encoder, pixels, whitening=learn_whitening(each, 2)).shape == (3, 2)
    assert not describe(encoder, pixels).is_inference()


def test_describe_says_what_it_cannot_do():
    class Flat(nn.Module):
        def maps(self, x):
            return None

    one = [torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
    for asked, said in (
        ((Maps(), one, "max"), "pooling"),
        ((Maps(), one, "mean", ()), "scales"),
        ((Flat(), one), "no maps"),
        ((Maps(), []), "no images"),
    ):
        with pytest.raises(InputError, match=said):
            describe(*asked)
    with pytest.raises(InputError, match="cannot see 1 x 1"):
        describe(Maps(), [one[0][:, :, :1, :1]])


def test_as_a_protocol(tmp_path, drawn):
    """Through the task: pictures with classes, the whitening learned on others, numbers written once."""
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"#{i},{i % 4}\n" for i in range(24)))

    def opened(source, size, download):
        return from_array(drawn(24 if source == "these" else 20, size, len(source)), source, "array", size)

    def task(whiten=None):
        encoder = build(EncoderSpec("small", 24)).eval()
        given = {"on": "these", "labels": str(tmp_path / "labels.csv"), "train": whiten}
        return Task(encoder, 24, "weights", {}, opened, Run(devices=Devices("cpu", "fp32", 1)), Scores(folder), **given)

    with forked(0, "encoder"):
        retrieval.judge(task(), Settings())
        retrieval.judge(task("others"), Settings(pooling="rmac,mean", scales="1,0.5", whiten=4))
    rows = Scores(folder).rows()
    assert {(row["set"], row["block"]) for row in rows} == {("these", p) for p in retrieval.POOLINGS[1:]} | {
        ("these, whitened", "rmac"),
        ("these, whitened", "mean"),
    }
    assert {row["value"] for row in rows if row["metric"] == "n_queries"} == {24.0}
    assert all(0.2 < row["value"] <= 1 for row in rows if row["metric"] == "mAP")
    for settings, said in ((Settings(scales="x"), "scales"), (Settings(whiten=3), "--train"), (Settings(pooling="max"), "pooling")):
        with pytest.raises(InputError, match=said):
            retrieval.judge(task(), settings)
