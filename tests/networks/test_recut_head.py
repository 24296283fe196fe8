"""A head around a head: sums of joined clusters, shares of divided ones, against loops; saved, loaded, and refused when damaged."""

import math

import pytest
import torch
import torch.nn.functional as F

from coterie.errors import InputError
from coterie.networks import model as models
from coterie.networks.encoder import EncoderSpec, build
from coterie.networks.heads import Centroids, Heads, MlpHeads, UnitCentroids, UnitHeads
from coterie.networks.model import Model, load, recut
from coterie.networks.recut import Recut, centroids
from coterie.run import checkpoint
from coterie.run.devices import Devices

D, K = 6, 5
# 0 and 2 are one, 1 is in three parts, 4 in two, one of which goes to 3
OF, INTO, WHICH = (
    [0, 1, 1, 1, 2, 3, 4, 4],
    [0, 1, 2, 3, 0, 4, 5, 4],
    [1, 2, 3, 6, 7],
)
DEVICES = Devices("cpu", "fp32", 1)


def layer(seed=0) -> dict[str, torch.Tensor]:
    of = torch.Generator().manual_seed(seed)
    numbers = {"of": torch.tensor(OF), "into": torch.tensor(INTO), "which": torch.tensor(WHICH)}
    return numbers | {"weight": torch.randn(5, D, generator=of), "bias": torch.randn(5, generator=of)}


def around(before, seed=0) -> Recut:
    head = Recut(before, D, K, 6, len(OF), len(WHICH))
    head.load_state_dict(layer(seed), strict=False)
    return head


def features(n=30, seed=1):
    return 5 * torch.randn(n, D, generator=torch.Generator().manual_seed(seed)) + 1


def test_probabilities_are_those_of_a_loop():
    z_BD, p_BK = features(), torch.rand(30, K, generator=torch.Generator().manual_seed(2)).softmax(1)
    head, told = around(torch.nn.Identity()), layer()
    wanted = torch.zeros(30, 6, dtype=torch.float64)
    for b in range(30):
        row_D = F.normalize(z_BD[b], dim=0).half().double()
        score = {part: float(told["weight"][i].double() @ row_D + told["bias"][i]) for i, part in enumerate(WHICH)}
        for part, cluster in enumerate(OF):
            siblings = [math.exp(score[other]) for other in WHICH if OF[other] == cluster]
            share = math.exp(score[part]) / sum(siblings) if part in score else 1.0
            wanted[b, INTO[part]] += float(p_BK[b, cluster]) * share
    found = head.probabilities(p_BK, z_BD)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.sum(1), torch.ones(30))
    torch.testing.assert_close(head.probabilities(p_BK, 3 * z_BD), found, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", [Heads, UnitHeads, MlpHeads, Centroids, UnitCentroids])
def test_it_says_of_a_head_what_it_says_of_its_probabilities(kind):
    torch.manual_seed(0)
    before, z_BD = kind(D, K), features()
    head = around(before)
    p_BK = before(z_BD)[0].softmax(1)
    torch.testing.assert_close(head(z_BD)[0].softmax(1), head.probabilities(p_BK, z_BD))


def test_parts_go_to_the_nearest_mean_and_are_unsure_between():
    of = torch.Generator().manual_seed(0)
    kind_N = torch.arange(60) % 2
    rows_ND = F.normalize(4 * torch.eye(2, D)[kind_N] + 0.3 * torch.randn(60, D, generator=of)).half().float()
    weight, bias = centroids(rows_ND, [(kind_N == 0).nonzero().squeeze(1), (kind_N == 1).nonzero().squeeze(1)])
    means = torch.stack([rows_ND[kind_N == kind].mean(0) for kind in (0, 1)])
    score_N2 = rows_ND @ weight.T + bias
    assert torch.equal(score_N2.argmax(1), torch.cdist(rows_ND, means).argmin(1)) and torch.equal(score_N2.argmax(1), kind_N)
    between = means.mean(0) @ weight.T + bias
    assert float(between[0] - between[1]) == pytest.approx(0, abs=1e-3)
    weight, bias = centroids(torch.ones(4, D) / D**0.5, [torch.tensor([0, 1]), torch.tensor([2, 3])])
    assert weight.isfinite().all() and bias.isfinite().all(), "the same rows twice"


def saved(folder, kind=Heads):
    torch.manual_seed(0)
    encoder = build(EncoderSpec("precomputed", 1))
    Model(encoder, kind(D, K), 1, D, K).save(folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("kind", [Heads, UnitHeads, MlpHeads, UnitCentroids])
def test_a_recut_model_is_saved_loaded_and_recut_again(tmp_path, kind):
    path, z_BD = saved(tmp_path, kind), features()
    plain = load(tmp_path, DEVICES)
    for depth in (1, 2):
        folder = tmp_path / str(depth)
        folder.mkdir()
        once = layer() if depth == 1 else {"of": torch.arange(6), "into": torch.tensor([0, 1, 2, 2, 1, 0]), "which": torch.zeros(0).long()}
        once |= {} if depth == 1 else {"weight": torch.zeros(0, D), "bias": torch.zeros(0)}
        recut(path, folder / "model.safetensors", once, 6 if depth == 1 else 3)
        path = folder / "model.safetensors"
    first, second = load(tmp_path / "1", DEVICES), load(tmp_path / "2", DEVICES)
    p_B6 = around(torch.nn.Identity()).probabilities(plain.probabilities(z_BD), z_BD)
    torch.testing.assert_close(first.probabilities(z_BD), p_B6)
    p_B3 = torch.stack([p_B6[:, [0, 5]].sum(1), p_B6[:, [1, 4]].sum(1), p_B6[:, [2, 3]].sum(1)], 1)
    torch.testing.assert_close(second.probabilities(z_BD), p_B3)
    second.save(tmp_path / "model.safetensors")  # as estimators and others may
    torch.testing.assert_close(load(tmp_path, DEVICES).probabilities(z_BD), second.probabilities(z_BD))


DAMAGE = {
    "an outer head that is none": lambda state: state.update(head="Heads"),
    "an inner head that is unknown": lambda state: state["within"][0].__setitem__(0, "Head"),
    "an inner head without end": lambda state: state.update(within=[["Recut", 5]]),
    "no inner head": lambda state: state.update(within=[]),
    "too many": lambda state: state.update(within=[["Recut", 5]] * 99 + [["Heads", 5]]),
    "no list": lambda state: state.update(within={"Heads": 5}),
    "a name that is none": lambda state: state.update(within=[[["Heads"], 5]]),
    "another number before": lambda state: state["within"][0].__setitem__(1, 4),
    "no number before": lambda state: state["within"][0].__setitem__(1, "5"),
    "another number after": lambda state: state.update(n_clusters=2),
    "more clusters than parts": lambda state: state.update(n_clusters=1 << 29),
    "a cluster that is not there": lambda state: state["head_state"]["of"].__setitem__(3, 5),
    "a new cluster that is not there": lambda state: state["head_state"]["into"].__setitem__(3, -1),
    "a part that is not there": lambda state: state["head_state"]["which"].__setitem__(0, 8),
    "a part too many": lambda state: state["head_state"].update(of=torch.zeros(9, dtype=torch.int64)),
    "no parts": lambda state: state["head_state"].pop("of"),
    "parts as text": lambda state: state["head_state"].update(of="012"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_no_recut_wrote_is_refused(tmp_path, what):
    path = saved(tmp_path)
    (tmp_path / "new").mkdir()
    recut(path, tmp_path / "new" / "model.safetensors", layer(), 6)
    state = checkpoint.load(tmp_path / "new" / "model.safetensors")
    DAMAGE[what](state)
    checkpoint.save(tmp_path / "new" / "model.safetensors", state, keep_previous=False)
    with pytest.raises(InputError, match="model.safetensors is not a model that a fit wrote"):
        load(tmp_path / "new", DEVICES)


def test_it_is_not_recut_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "LAYERS", 1)
    path = saved(tmp_path)
    recut(path, tmp_path / "1.safetensors", layer(), 6)
    with pytest.raises(InputError, match="recut 1 times already"):
        recut(tmp_path / "1.safetensors", tmp_path / "2.safetensors", layer(), 6)
