from dataclasses import dataclass, fields

import pytest

from coterie import methods
from coterie.errors import InputError
from coterie.fitting import config, presets


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
    for preset in presets.PRETEXT:
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
