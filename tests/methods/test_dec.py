"""DEC's target and probabilities, the autoencoder's pieces, against loops in float64."""

import numpy as np
import pytest
import torch

from coterie.images import Batch
from coterie.methods.dec import divergence, target
from coterie.methods.pretext.autoencoder import drawing, hidden
from coterie.networks.decoder import Decoder
from coterie.networks.heads import StudentHead, Students
from coterie.run import Run
from coterie.run.devices import Devices
from coterie.run.seeding import generator


def q_of(n: int = 9, k: int = 4) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(k), n)


def test_students_are_the_t_distribution():
    students = Students(3, 4).double()
    z = torch.randn(5, 3, generator=generator(0, "z"), dtype=torch.float64)
    q = students(z)[0].softmax(1)
    for i in range(5):
        near = [1 / (1 + sum(float(z[i, d] - c[d]) ** 2 for d in range(3))) for c in students.centroids.detach()]
        np.testing.assert_allclose(q[i].detach().numpy(), np.array(near) / sum(near), rtol=1e-9)


def test_target_is_q_squared_less_for_what_is_large():
    q = q_of()
    found = target(torch.from_numpy(q)).numpy()
    for i in range(len(q)):
        row = [q[i, j] ** 2 / sum(q[:, j]) for j in range(4)]
        np.testing.assert_allclose(found[i], np.array(row) / sum(row), rtol=1e-9)


def test_target_does_not_mind_the_order_of_images_and_clusters():
    q = torch.from_numpy(q_of())
    rows, columns = torch.tensor([3, 1, 0, 2, 8, 7, 6, 5, 4]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(target(q)[rows][:, columns], target(q[rows][:, columns]))


def test_target_of_an_empty_cluster_stays_finite():
    q = torch.zeros(6, 3)
    q[:, 0] = 1
    assert torch.isfinite(target(q)).all() and target(q)[:, 0].eq(1).all()


def test_divergence_is_kl_of_the_images_and_nothing_at_the_target():
    q, logits = q_of(), torch.randn(9, 4, generator=generator(1, "l"), dtype=torch.float64)
    p, r = target(torch.from_numpy(q)).numpy(), logits.softmax(1).numpy()
    wanted = sum(p[i, j] * (np.log(p[i, j]) - np.log(r[i, j])) for i in range(9) for j in range(4)) / 9
    assert float(divergence(torch.from_numpy(p), logits)) == pytest.approx(wanted, rel=1e-9)
    assert float(divergence(torch.from_numpy(p), torch.from_numpy(p).log())) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("size", [8, 12, 16, 20, 33])
def test_the_decoder_draws_any_size(size):
    assert Decoder(10, size).eval()(torch.randn(2, 10)).shape == (2, 3, size, size)


def test_hidden_pixels_are_black_in_all_colours_and_as_many_as_asked():
    x = torch.ones(50, 3, 20, 20)
    seen = hidden(x, 0.3, generator(0, "noise"))
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2]) and set(seen.unique().tolist()) == {0.0, 1.0}
    assert 0.29 < float((seen == 0).float().mean()) < 0.31
    assert torch.equal(hidden(x, 0.3, generator(0, "noise")), seen) and hidden(x, 0.0, generator(0, "noise")) is x


def test_drawing_is_the_mean_squared_difference_from_the_whole_image():
    x = torch.rand(4, 3, 8, 8, generator=generator(2, "x"))
    loss = drawing(torch.nn.Identity(), torch.nn.Identity(), 0.5, Run(devices=Devices("cpu", "fp32", 1)))(
        Batch(torch.arange(4), x), generator(3, "noise")
    )
    seen = hidden(x, 0.5, generator(3, "noise"))
    assert float(loss) == pytest.approx(float(((seen - x) ** 2).mean()), rel=1e-5) and float(loss) > 0.01


def test_a_head_embeds_in_ten_dimensions_or_as_many_as_clusters():
    assert StudentHead(32, 4)(torch.randn(3, 32, generator=generator(4, "z"))).shape == (1, 3, 4)
    assert StudentHead(32, 4).embed.out_features == 10 and StudentHead(32, 25).embed.out_features == 25
