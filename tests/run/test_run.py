"""Run: what is restored, saved, skipped, counted and written down. Whole fits that are killed: tests/systems."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

import coterie.run.run as module
from coterie.clustering.kmeans import Clustering
from coterie.errors import InputError
from coterie.images import open_images
from coterie.run import checkpoint
from coterie.run.devices import Devices
from coterie.run.progress import Silent
from coterie.run.run import MAX_TRACED, Run
from coterie.run.updates import MAX_BAD_STEPS


class Killed(BaseException):
    """Stands for SIGKILL: nothing may run after it."""


class Clock:
    """Time as a test wants it, for Run alone: what else runs in this process, such as a review's server, keeps its own."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def start(folder, **more) -> Run:
    return Run(folder, devices=Devices("cpu", "fp32", 1), **more)


def train(run: Run, epochs: int = 5, die_at: int | None = None, before_log: bool = False) -> dict[str, torch.Tensor]:
    """A small training with everything a state can hold; `die_at` ends it inside that epoch."""
    network = run.new("network", lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    optimizer = Adam(network.parameters(), lr=0.05)
    bank, notes = torch.zeros(4), {"best": float("inf"), "at": -1, "name": "none"}
    for epoch in run.epochs("training", epochs, network=network, optimizer=optimizer, bank=bank, notes=notes):
        network.train()
        x = torch.randn(16, 3, generator=run.rng("x", epoch))
        loss = network(x).square().mean()  # dropout uses the global generator
        run.step(loss, optimizer)
        bank += x[:4, 0] + torch.rand(4)
        if loss.item() < notes["best"]:
            notes.update(best=loss.item(), at=epoch, name=f"epoch {epoch}")
        if epoch == die_at and before_log:
            raise Killed
        run.log(loss=loss, sizes=[1, 2])
        if epoch == die_at:
            raise Killed
    return {**network.state_dict(), "bank": bank, "best": torch.tensor([notes["best"], notes["at"]], dtype=torch.float64)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def lines(folder) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


# ---- continuing


@pytest.fixture(params=["each epoch", "rarely"])
def saved(request, monkeypatch):
    """How often a checkpoint is written: after each epoch, or (these epochs take no time) after the first and the last only."""
    monkeypatch.setattr(module, "SAVE_SHARE", 1e9 if request.param == "each epoch" else 1e-9)
    return request.param


@pytest.mark.parametrize("before_log", [False, True])
@pytest.mark.parametrize("die_at", range(5))
def test_killed_and_continued_ends_with_the_same_bits(tmp_path, die_at, before_log, saved):
    whole = train(start(tmp_path / "whole", seed=4))
    with pytest.raises(Killed):
        train(start(tmp_path / "cut", seed=4), die_at=die_at, before_log=before_log)
    torch.manual_seed(123456)  # another process has another global state
    assert same(train(start(tmp_path / "cut", seed=4)), whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole"), "no line twice, none missing"


def test_killed_again_and_again(tmp_path, saved):
    whole = train(start(tmp_path / "whole"))
    for die_at in (0, 1, 1, 2, 4):
        with pytest.raises(Killed):
            train(start(tmp_path / "cut"), die_at=die_at)
    assert same(train(start(tmp_path / "cut")), whole) and lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_the_newest_checkpoint_damaged_costs_an_epoch_and_no_bit(tmp_path, saved):
    whole = train(start(tmp_path / "whole"))
    with pytest.raises(Killed):
        train(start(tmp_path / "cut"), die_at=3)
    newest = tmp_path / "cut" / "work" / "training.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    assert newest.with_name("training.safetensors.previous").exists() == (saved == "each epoch")
    assert same(train(start(tmp_path / "cut")), whole) and lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_both_checkpoints_damaged_cost_the_stage_and_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_SHARE", 1e9)
    whole = train(start(tmp_path / "whole"))
    with pytest.raises(Killed):
        train(start(tmp_path / "cut"), die_at=3)
    for name in ("training.safetensors", "training.safetensors.previous"):
        path = tmp_path / "cut" / "work" / name
        path.write_bytes(path.read_bytes()[:-7])
    told = []
    again = start(tmp_path / "cut")
    monkeypatch.setattr(again.progress, "message", told.append)
    assert same(train(again), whole) and lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert told == ["training begins anew: what was saved of it is damaged"]


def test_a_checkpoint_of_a_newer_version_is_not_written_over(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        train(start(tmp_path), die_at=3)
    monkeypatch.setattr(checkpoint, "FORMAT", "0")
    for previous in (tmp_path / "work").glob("*.previous"):
        previous.unlink()
    before = (tmp_path / "work" / "training.safetensors").read_bytes()
    with pytest.raises(InputError, match="has format '1'"):
        train(start(tmp_path))
    assert (tmp_path / "work" / "training.safetensors").read_bytes() == before


def test_seeds_give_other_bits(tmp_path):
    assert not same(train(start(tmp_path / "a", seed=0)), train(start(tmp_path / "b", seed=1)))
    assert same(train(start(tmp_path / "c", seed=0)), train(start(tmp_path / "d", seed=0)))


def test_only_the_epochs_left_are_done_and_a_finished_stage_does_none(tmp_path):
    weight = torch.zeros(1)
    for epoch in (run := start(tmp_path)).epochs("a", 3, weight=weight):
        weight += 10**epoch
    again = torch.zeros(1)
    assert list(start(tmp_path).epochs("a", 3, weight=again)) == [] and again == weight == 111
    assert list(run.epochs("b", 2)) == [0, 1], "another stage has its own state"


def test_end_leaves_out_the_rest_for_good(tmp_path):
    weight, run = torch.zeros(1), start(tmp_path)
    for epoch in run.epochs("a", 10, weight=weight):
        weight += 1
        if epoch == 2:
            run.end("a", weight=weight)
            break
    again = torch.zeros(1)
    assert list(start(tmp_path).epochs("a", 10, weight=again)) == [] and again == 3


def test_global_generator_is_reseeded_at_each_epoch_and_given_back(tmp_path):
    def draws(seed: int) -> list[float]:
        return [float(torch.rand(1)) for _ in start(None, seed=seed).epochs("a", 3)]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = draws(5)
    assert torch.equal(torch.get_rng_state(), before) and len(set(first)) == 3
    torch.manual_seed(2)
    assert draws(5) == first != draws(6)


def test_new_depends_on_seed_and_key_only():
    make = lambda: nn.Linear(5, 5)  # noqa: E731
    one = start(None, seed=2).new("head", make).weight
    run = start(None, seed=2)
    run.new("other", make), torch.rand(3)
    assert torch.equal(run.new("head", make).weight, one)
    assert not torch.equal(run.new("other", make).weight, one)
    assert not torch.equal(start(None, seed=3).new("head", make).weight, one)


# ---- whole-dataset steps


def test_once_computes_once_and_is_keyed_by_content(tmp_path):
    calls = []

    def double(x, k=1):
        calls.append(k)
        return x * 2 * k

    x = torch.arange(6.0).view(2, 3)
    run = start(tmp_path)
    for again in (run, start(tmp_path), start(tmp_path)):
        assert torch.equal(again.once("double", double, x.clone(), k=3), x * 6)
    assert len(calls) == 1
    run.once("double", double, x + 1, k=3)
    run.once("double", double, x, k=4)
    run.once("double", double, x.view(3, 2), k=3)
    run.once("double", double, x.double(), k=3)
    run.once("twice", double, x, k=3)
    assert len(calls) == 6
    run.once("double", double, x.T.contiguous().T, k=3)
    assert len(calls) == 6, "strides are no content"


def test_once_is_keyed_by_the_weights_of_a_module(tmp_path):
    calls = []
    layer = nn.Linear(2, 2)
    for _ in range(2):
        start(tmp_path).once("f", lambda net: calls.append(0) or torch.ones(1), layer)
    assert len(calls) == 1
    with torch.no_grad():
        layer.weight[0, 0] += 1e-6
    start(tmp_path).once("f", lambda net: calls.append(0) or torch.ones(1), layer)
    assert len(calls) == 2


def test_once_keeps_named_tuples_and_passes_the_run_on(tmp_path):
    def cluster(run, x):
        assert isinstance(run, Run)
        return Clustering(torch.tensor([0, 1]), x, torch.tensor([1, 1]), 0.25)

    x = torch.rand(2, 3)
    runs = [start(tmp_path), start(tmp_path)]
    first, kept = (run.once("clusters", cluster, run, x) for run in runs)
    assert type(kept) is Clustering and kept.inertia == 0.25 and all(torch.equal(a, b) for a, b in zip(first[:3], kept[:3]))


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"", lambda whole: whole[:-9] + b"?" + whole[-8:]])
def test_once_computes_again_what_is_damaged(tmp_path, damage):
    calls, x = [], torch.arange(6.0)
    for times in (1, 1, 2, 2):
        if times == 2 and len(calls) == 1:
            (path,) = (tmp_path / "work").glob("*.safetensors")
            path.write_bytes(damage(path.read_bytes()))
        assert torch.equal(start(tmp_path).once("double", lambda x: calls.append(0) or x * 2, x), x * 2)
        assert len(calls) == times


def test_a_damaged_trace_is_left_out_and_said(tmp_path):
    run = start(tmp_path)
    for name in ("a", "b"):
        run.keep(name, torch.arange(4))
    path = tmp_path / "work" / "trace" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert list(run.traces()) == ["b"] and "the trace a was damaged" in run.warnings[0]


# ---- one update


def test_step_skips_what_is_not_finite_and_gives_up(tmp_path):
    weight = nn.Parameter(torch.ones(3))
    optimizer = SGD([weight], lr=1.0, momentum=0.9)
    run = start(tmp_path)
    for bad in ((weight * float("nan")).sum(), (weight * float("inf")).sum(), (weight - 1).sqrt().sum()):  # the last: a finite loss
        run.step(bad, optimizer)
        assert torch.equal(weight, torch.ones(3)), "an update with NaN or infinity changed the weights"
    run.step(weight.sum(), optimizer)
    torch.testing.assert_close(weight.detach(), torch.zeros(3))
    for _ in range(MAX_BAD_STEPS - 3):
        run.step((weight * float("nan")).sum(), optimizer)
    with pytest.raises(FloatingPointError, match="learning rate"):
        run.step((weight * float("nan")).sum(), optimizer)


def test_bad_steps_are_counted_by_epoch(tmp_path):
    weight = nn.Parameter(torch.ones(1))
    optimizer, run = SGD([weight], lr=1.0), start(tmp_path)
    for _ in run.epochs("a", 3):
        for _ in range(MAX_BAD_STEPS):
            run.step(weight * float("nan"), optimizer)


def test_step_clips_only_explosions(tmp_path):
    run = start(tmp_path)
    for factor, want in ((3.0, 3.0), (1e6, module.MAX_GRADIENT_NORM)):
        weight = nn.Parameter(torch.zeros(1))
        run.step((weight * factor).sum(), SGD([weight], lr=1.0))
        assert -weight.item() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("clip, want", [(0.0, 1e6), (2.0, 2.0)])
def test_the_bound_of_gradients_is_a_choice(tmp_path, clip, want):
    run, weight = start(tmp_path, clip=clip), nn.Parameter(torch.zeros(1))
    run.step((weight * 1e6).sum(), SGD([weight], lr=1.0))
    assert -weight.item() == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("epochs, long, warned", [(5, 0, False), (5, 5, False), (5, 6, True), (4, 10, False)])
def test_shortened_gradients_are_counted_and_when_most_are_said(tmp_path, epochs, long, warned):
    """A stage of a few updates begins with some: that says nothing."""
    run, weight = start(tmp_path), nn.Parameter(torch.zeros(1))
    optimizer = SGD([weight], lr=1e-9)
    for _ in run.epochs("a", epochs):
        for step in range(10):
            run.step((weight * (1e6 if step < long else 1.0)).sum(), optimizer)
        run.log(loss=0.0)
    assert [row.get("clipped", 0.0) for row in run.history] == [long / 10] * epochs
    assert [("a:" in warning, "clip=10" in warning, "clip=0" in warning) for warning in run.warnings] == [(True,) * 3] * warned


def test_step_forgets_the_last_gradient_and_serves_two_optimizers(tmp_path):
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    both, run = (SGD([a], lr=1.0), SGD([b], lr=0.5)), start(tmp_path)
    for _ in range(2):
        run.step((a + 2 * b).sum(), *both)
    assert a.item() == -2 and b.item() == -2


# ---- time


def test_time_budget_stops_early_and_says_so(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run, done = start(tmp_path, time_budget=35.0), []
    for epoch in run.epochs("a", 100):
        clock.now += 10
        done.append(epoch)
    assert done == [0, 1, 2], "a fourth epoch would end after the budget"
    assert "time budget" in lines(tmp_path)[-1]["text"]
    assert list(start(tmp_path).epochs("a", 100)) == [], "continued, a stage that its budget ended is over"


def test_one_epoch_is_always_done(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run = start(tmp_path, time_budget=1.0)
    clock.now += 1000
    assert list(run.epochs("a", 100)) == [0]
    assert list(run.epochs("b", 100, share=0.1)) == [0]


def test_a_stage_takes_its_share_of_what_is_left(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run, epochs = start(tmp_path, time_budget=100.0), {"a": 0, "b": 0}
    for stage, share in (("a", 0.7), ("b", 1.0)):
        for _ in run.epochs(stage, 1000, share=share):
            clock.now += 1
            epochs[stage] += 1
    assert epochs == {"a": 70, "b": 30}


def test_without_a_budget_the_clock_decides_nothing(tmp_path, monkeypatch):
    clock, run = Clock(monkeypatch), start(tmp_path)
    for epoch in run.epochs("a", 4):
        clock.now += 1e6
        assert run.done(epoch + 0.5, 4) == (epoch + 0.5) / 4


def test_done_follows_the_clock_under_a_budget(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    run = start(tmp_path, time_budget=40.0)
    seen = []
    for epoch in run.epochs("a", 100):
        seen.append(run.done(epoch, 100))
        clock.now += 10
    assert seen == pytest.approx([0, 0.25, 0.5, 0.75]) and run.done(200, 100) == 1.0


def test_batches_stop_at_the_deadline_but_give_one(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    images = open_images(np.zeros((40, 4, 4, 3), np.uint8))
    run = start(tmp_path, time_budget=5.0)
    for _ in run.epochs("a", 9):
        count = 0
        for _ in run.batches(images, 4):
            count += 1
            clock.now += 3
    assert count == 2


def test_checkpoints_cost_at_most_their_share(tmp_path, monkeypatch):
    clock, saves = Clock(monkeypatch), []
    save = checkpoint.save

    def slow(path, state, **more):
        saves.append(state["epoch"])
        clock.now += 2
        save(path, state, **more)

    monkeypatch.setattr(module.checkpoint, "save", slow)
    for _ in start(tmp_path).epochs("a", 200):
        clock.now += 1
    assert saves[0] == 1 and saves[-1] == 200, "the first and the last epoch are always kept"
    assert len(saves) * 2 <= 0.06 * (clock.now - 100) + 4


# ---- what is written down


@pytest.mark.parametrize("total", [1, 2, 39, 40, 41, 79, 80, 81, 119, 500])
def test_trace_keeps_at_most_40_evenly_and_the_last(tmp_path, total, monkeypatch):
    kept = []
    monkeypatch.setattr(module.checkpoint, "save", lambda path, value, **more: kept.append(path.stem))
    run = start(tmp_path)
    run._stage, run._total = "a", total
    for epoch in range(total):
        run._epoch = epoch
        run.trace(torch.zeros(1, 3, dtype=torch.int64))
    epochs = [int(stem.rpartition("-")[2]) for stem in kept]
    assert len(epochs) <= MAX_TRACED == 40 and epochs[0] == 0 and epochs[-1] == total - 1
    assert len(epochs) == total or len(epochs) > MAX_TRACED / 2
    assert len(set(np.diff(epochs)[:-1])) <= 1


def test_traces_come_back_small_and_whole(tmp_path):
    run = start(tmp_path)
    labels = torch.tensor([[0, 3, 255], [1, 1, 2]])
    for stage, values in (("few", labels), ("many", labels + 1000)):
        for _ in run.epochs(stage, 1):
            run.trace(values)
    found = start(tmp_path).traces()
    assert found["few-00000"].dtype == torch.uint8 and torch.equal(found["few-00000"].long(), labels)
    assert torch.equal(found["many-00000"].long(), labels + 1000)


def test_log_is_one_flushed_line_of_plain_numbers(tmp_path):
    run = start(tmp_path)
    for epoch in run.epochs("a", 2):
        run.log(loss=torch.tensor(1 / 3), sizes=[3, 4], name="x")
        assert len(lines(tmp_path)) == epoch + 1, "a reader sees it at once"
    row = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert {"stage": "a", "epoch": 1, "total": 2, "loss": 0.333333, "sizes": [3, 4], "name": "x"}.items() <= row.items()


def test_warnings_are_shown_once_and_survive(tmp_path):
    class Heard(Silent):
        said: list[str] = []

        def message(self, text):
            self.said.append(text)

    run = start(tmp_path, progress=Heard())
    for _ in run.epochs("a", 1):
        run.warn("few images")
        run.warn("few images")
    assert Heard.said == ["health: few images"]
    again = start(tmp_path)
    list(again.epochs("a", 1))
    assert again.warnings == ["few images"]


def test_close_removes_the_state_and_nothing_else(tmp_path):
    run = start(tmp_path)
    for _ in run.epochs("a", 1):
        run.log(loss=1.0)
    (tmp_path / "mine.txt").write_text("x")
    run.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.jsonl", "mine.txt"]
    passing = start(None)
    folder = passing.folder
    assert folder.is_dir()
    passing.close()
    assert not folder.exists()


def test_batches_are_each_image_once_in_an_order_of_the_generator(tmp_path):
    images = open_images(np.arange(10, dtype=np.uint8).repeat(12).reshape(10, 2, 2, 3))
    run = start(tmp_path)
    plain = torch.cat([batch.index_B for batch in run.batches(images, 3)])
    assert plain.tolist() == list(range(10))
    order = [torch.cat([batch.index_B for batch in run.batches(images, 3, run.rng("o", epoch))]).tolist() for epoch in (0, 0, 1)]
    assert order[0] == order[1] != order[2] and sorted(order[0]) == list(range(10))
    assert [len(batch.index_B) for batch in run.batches(images, 3, drop_last=True)] == [3, 3, 3]


def test_batches_of_given_ids(tmp_path):
    """In their order, repeated ones too; with a generator shuffled."""
    images = open_images(np.zeros((9, 8, 8, 3), np.uint8))
    run, ids = Run(tmp_path / "ids", devices=Devices("cpu", "fp32", 1)), torch.tensor([3, 3, 8, 0, 1])
    assert [batch.index_B.tolist() for batch in run.batches(images, 2, ids=ids)] == [[3, 3], [8, 0], [1]]
    assert [batch.index_B.tolist() for batch in run.batches(images, 2, ids=ids, drop_last=True)] == [[3, 3], [8, 0]]
    shuffled = torch.cat([batch.index_B for batch in run.batches(images, 2, run.rng("order"), ids=ids)])
    assert shuffled.tolist() != ids.tolist() and sorted(shuffled.tolist()) == sorted(ids.tolist())


def test_the_time_of_a_continued_fit_is_that_of_all_its_parts(tmp_path):
    assert Run(tmp_path).seconds < 1000
    checkpoint.keep_spent(tmp_path / "work", 5000.25)
    run = Run(tmp_path)
    assert 5000.25 <= run.seconds < 6000
    run.once("half", lambda x: x / 2, torch.ones(2))
    assert Run(tmp_path).seconds >= checkpoint.spent(tmp_path / "work") > 5000.25 - 0.01
    for _ in run.epochs("training", 1):
        pass
    (tmp_path / "work" / "seconds.txt").write_text("no number")
    assert Run(tmp_path).seconds < 1000, "only the time that is told rests on it"
