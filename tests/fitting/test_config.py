import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import config, presets
from coterie.methods.bounds import Between


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1
    epochs: int = 3
    deep: bool = False
    name: str = "a"


@pytest.mark.parametrize(
    "values, want",
    [
        ({"rate": "1e-3"}, 1e-3),
        ({"rate": 2}, 2.0),
        ({"epochs": "1_000"}, 1000),
        ({"epochs": 7}, 7),
        ({"deep": "true"}, True),
        ({"deep": "No"}, False),
        ({"deep": "1"}, True),
        ({"deep": True}, True),
        ({"name": "x=y z"}, "x=y z"),
        ({"name": ""}, ""),
    ],
)
def test_values_are_read_as_the_type_of_the_field(values, want):
    (name,) = values
    got = getattr(config.change(Settings(), values), name)
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    "values",
    [
        {"rate": "fast"},
        {"rate": "nan"},
        {"rate": "inf"},
        {"rate": None},
        {"rate": ""},
        {"epochs": "3.5"},
        {"epochs": 3.5},
        {"epochs": "3e2"},
        {"epochs": "three"},
        {"epochs": True},
        {"epochs": [1]},
        {"deep": "maybe"},
        {"deep": "2"},
        {"deep": 1},
        {"deep": None},
        {"name": None},
        {"name": 3},
        {"name": ["a"]},
    ],
    ids=str,
)
def test_unfit_values_are_refused_by_name(values):
    (name,) = values
    with pytest.raises(InputError, match=name):
        config.change(Settings(), values)


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="epoch.*did you mean epochs"):
        config.change(Settings(), {"epoch": 3})
    with pytest.raises(InputError, match="did you mean") as told:
        config.change(Settings(), {"zzz": 3})
    assert str(told.value).count(",") == 2, "the three nearest, not all there are"


def test_change_changes_a_copy_and_only_what_is_named():
    start = Settings()
    assert config.change(start, {"epochs": 9}) == Settings(epochs=9) and start == Settings()
    assert config.change(start, {}) == start


def test_words():
    assert config.words(["a=1", " b = x=y ", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for word in ("a", "a:1", "--set"):
        with pytest.raises(InputError, match=word):
            config.words([word])
    with pytest.raises(InputError, match="FIELD=VALUE"):
        config.words(["=3"])


def test_differences_name_what_differs():
    assert config.differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == ["b: 2, now 5", "c: 3, now None", "d: None, now 4"]
    assert config.differences({"a": 1}, {"a": 1}) == []


@pytest.mark.parametrize("method", methods.METHODS)
def test_plain_and_back_for_every_method_and_preset(method):
    """What config.json keeps repeats the fit: every field is of a type that `change` can read."""
    make = methods.method(method).Config
    for preset in presets.KINDS:
        for gpu in (False, True):
            one = config.change(make(), presets.settings(method, preset, 5000, gpu))
            assert config.change(make(), config.plain(one)) == one
            assert config.change(make(), {name: str(value) for name, value in config.plain(one).items()}) == one, "as --set gives them"
    assert {field.name for field in fields(make)} == set(config.plain(make()))


def test_an_unknown_method_or_preset_is_named():
    with pytest.raises(InputError, match="scann.*kmeans"):
        methods.method("scann")
    with pytest.raises(InputError, match="nope.*quick"):
        presets.settings("scan", "nope", 10, False)


# ---- what a setting may be

ALL = {(method, field.name): field for method in methods.METHODS for field in fields(methods.method(method).Config)}
HINTS = {method: get_type_hints(methods.method(method).Config, include_extras=True) for method in methods.METHODS}
FREE = {"encoder", "weights", "prior", "joint_encoder", "spaces"}  # texts: names, paths, numbers with commas
ANY = {"vote_drop", "vote_add"}  # scores, which lie on both sides of zero
DOCS = Path(__file__).parents[2] / "docs" / "methods"


def change(method: str, **values):
    return config.change(methods.method(method).Config(), values)


def refused(method: str, name: str, value) -> str:
    with pytest.raises(InputError, match=rf"^setting {name}=") as found:
        change(method, **{name: value})
    return str(found.value)


@pytest.mark.parametrize("method", methods.METHODS)
def test_every_setting_says_what_it_may_be(method):
    for name, hint in HINTS[method].items():
        kind = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        assert kind is bool or get_origin(kind) is Literal or get_origin(hint) is Annotated or (kind is str and name in FREE), name
        assert change(method, **{name: str(ALL[method, name].default)}) == methods.method(method).Config(), "a default is allowed"


@pytest.mark.parametrize("method", methods.METHODS)
def test_nonsense_is_refused_by_name(method):
    for name, hint in HINTS[method].items():
        if name in FREE | ANY:
            continue
        assert "\n" not in refused(method, name, "nonsense")
        if get_origin(hint) is Annotated:
            assert "at least" in (said := refused(method, name, "-1")) or "more than" in said


NEVER_0 = "n_clusters n_heads batch rounds draws pretext_batch pretext_rate pretext_temperature queue max_pixels image_size"
NEVER_0 += " cluster_rate selflabel_rate selflabel_batch head_rate joint_rate joint_batch temperature classifier_rate final_neighbors"
NEVER_0 += " restarts iterations"
NOT_ALL = "momentum bank_momentum reliable_bar"  # nothing would ever be learned, or pass
SHARES = NOT_ALL + " threshold keep_share vote_from vote_decay warm_up mix_from mix_to core_share core_share_end reliable_ratio"


@pytest.mark.parametrize("names, value", [(NEVER_0, "0"), (SHARES, "1.5"), (NOT_ALL, "1")], ids=["0", "1.5", "1"])
def test_what_cannot_be_0_or_more_than_all_is_refused(names, value):
    found = [key for key in ALL if key[1] in names.split() and key != ("scan", "n_heads")]  # where 0: as many as K allows
    assert {name for _, name in found} == set(names.split())
    for method, name in found:
        refused(method, name, value)


def documented() -> list[tuple[str, str, str]]:
    """(method, setting, value) of each value that a settings table explains, as "0: ..." or "1: ..."; shared ones stand on SCAN's page,
    where a method's own does not say more."""
    rows = []
    for method in methods.METHODS:
        page = (DOCS / "scan.md").read_text() + (DOCS / f"{method}.md").read_text()
        for name, meaning in dict(re.findall(r"^\| `(\w+)` \| \w+ \| `.*?` \| (.*?) \|$", page, re.M)).items():
            rows += [(method, name, value) for value in re.findall(r"(?:^|[ ;])([01]): ", meaning) if (method, name) in ALL]
    return sorted(set(rows))


def test_what_is_documented_as_special_is_accepted():
    found = documented()
    names = {name for _, name, _ in found}
    assert {"components", "joint_epochs", "warm_up", "floor", "negatives", "view_size", "clip", "head_batch", "rate"} <= names, names
    for method, name, value in found:
        assert float(getattr(change(method, **{name: value}), name)) == float(value)


@pytest.mark.parametrize(
    "between, inside, outside, said",
    [
        (Between(1), [1, 2, 1e9], [0, -1, 0.99], "at least 1"),
        (Between(0, open=(0,)), [1e-9, 3], [0, -1], "more than 0"),
        (Between(0, 1), [0, 0.5, 1], [-0.1, 1.1], "at least 0 and at most 1"),
        (Between(0, 1, open=(1,)), [0, 0.99], [1, 2], "at least 0 and less than 1"),
        (Between(4, 9, also=(0,)), [0, 4, 9], [1, 3, 10, -1], "0 or at least 4 and at most 9"),
    ],
)
def test_bounds(between, inside, outside, said):
    assert all(map(between.holds, inside)) and not any(map(between.holds, outside)) and str(between) == said
