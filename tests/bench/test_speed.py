"""The table `speed` on a network that is done in a moment: what it measures, that it continues, and a page of its rows alone."""

import re
from statistics import median

import pytest

from coterie.bench import Asked, make, speed, table
from coterie.bench.rows import Rows
from coterie.errors import InputError
from coterie.run.devices import Devices

LINES = len(speed.TRAINING) + len(speed.FORWARD)


def asked(folder, **more) -> Asked:
    return Asked(folder, folder, folder / "runs", devices=Devices("cpu", "fp32", 1), say=lambda text: None, **more)


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "CPU", (speed.Case("small", 8, 32, 1),))
        patch.setattr(speed, "TURNS", 2)
        patch.setattr(speed, "heads", lambda name, turns, devices: KEPT_HEADS(name, turns, devices, 1200))
        yield


KEPT_HEADS = speed.heads


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    assert make("speed", asked(folder))["new"] == 2 * (LINES + len(speed.HEADS))
    return folder


def test_a_row_is_a_turn(whole):
    rows = Rows(whole / "speed.csv").all
    names = [*speed.TRAINING, *speed.FORWARD, *speed.HEADS]
    assert [row["what"] for row in rows] == [name for name in names for _ in range(2)]
    assert [row["pair"] for row in rows] == ["0", "1"] * len(names)
    for row in rows:
        ours, other = float(row["seconds"]), float(row["other_seconds"])
        ratio = ours / other if row["what"] in speed.HEADS else other / ours
        assert float(row["ratio"]) == pytest.approx(ratio, rel=5e-3, abs=1e-3) and float(row["cpu_ratio"]) > 0
        assert float(row["images_per_second"]) == pytest.approx(int(row["images"]) / ours, rel=5e-3, abs=1)
        assert row["device"] and row["threads"] == "1" and row["precision"] == "fp32" and row["load"]


def test_what_is_there_is_not_measured_again_and_what_is_missing_is(whole, tmp_path):
    rows = Rows(whole / "speed.csv")
    assert make("speed", asked(whole))["new"] == 0
    part = Rows(tmp_path / "speed.csv")
    for row in rows.all[:3]:
        part.append(row)
    assert make("speed", asked(tmp_path, methods=("simclr", "moco")))["new"] == 1
    assert [(row["what"], row["pair"]) for row in Rows(part.path).all[2:]] == [("moco", "0"), ("moco", "1")]
    assert make("speed", asked(tmp_path, methods=("simclr",), seeds=range(100, 104)))["new"] == 2, "more turns where more are asked for"


def test_the_page_is_that_of_the_rows(whole):
    page, rows = (whole / "speed.md").read_text(), Rows(whole / "speed.csv").all
    assert page == table("speed").text(rows, [])
    lines = re.findall(r"^\| ([\w-]+) \| (\w*) \| (\w*) \| 2 \| (\d\.\d\d) \((.*?)\) \|.*?, (met|missed) \|", page, re.M)
    assert len(lines) == LINES + len(speed.HEADS)
    for what, _, _, told, _, met in lines:
        ratio = median(float(row["ratio"]) for row in rows if row["what"] == what)
        assert told == f"{ratio:.2f}"
        assert (met == "met") == (ratio <= 1.3 if what in speed.HEADS else ratio >= 0.95)


@pytest.mark.parametrize("name", [*speed.TRAINING])
def test_the_bare_network_sees_as_many_views_as_the_fit(monkeypatch, name):
    """Counted in the networks: views forward and backward, and views that are only looked at."""
    seen, sides = {True: 0, False: 0}, []
    kept = speed.build

    def counted(spec):
        encoder = kept(spec)
        encoder.register_forward_pre_hook(lambda module, given: seen.update({module.training: seen[module.training] + len(given[0])}))
        return encoder

    def turn_ends():
        sides.append(seen.copy())
        seen.update({True: 0, False: 0})

    class Watched(speed.Timed):
        def __init__(self, devices, other):
            super().__init__(devices, lambda: (turn_ends(), other(), turn_ends()))

        def epochs(self, stage, total, share=1.0, **state):
            seen.update({True: 0, False: 0})  # what came before the first epoch
            yield from super().epochs(stage, total, share, **state)

    monkeypatch.setattr(speed, "build", counted)
    monkeypatch.setattr("coterie.methods.pretext.build", counted)
    monkeypatch.setattr(speed, "Timed", Watched)
    speed.training(name, speed.Case("small", 8, 32, 2), 1, Devices("cpu", "fp32", 1))
    ours, bare = sides[2:]
    assert ours == bare and ours[True] > 0


def test_a_slow_machine_makes_fewer_steps():
    case, devices = speed.Case("small", 8, 32, 3), Devices("cpu", "fp32", 1)
    assert [speed.within(case, devices, seconds).steps for seconds in (1e9, 0.0)] == [3, 1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"methods": ("x",)}, "nothing that is timed is called 'x'; there are simclr, moco"),
        ({"sets": ("digits",)}, "no network that is timed is called 'digits'; there are small:8"),
        ({"budget": 60.0}, "takes no --budget"),
    ],
)
def test_a_mistake_is_said(tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        make("speed", asked(tmp_path, **more))
