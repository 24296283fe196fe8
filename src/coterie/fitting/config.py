"""Settings: a frozen dataclass per method, changed by `FIELD=VALUE` words or by a json object; strict in both."""

import dataclasses
import difflib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from coterie.errors import InputError

Config = TypeVar("Config")


def change(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values. Texts are read as the field's type. Raises InputError for an unknown field or an unfit value."""
    hints = get_type_hints(type(config), include_extras=True)
    for name in values:
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=3, cutoff=0.0)
            raise InputError(f"no setting is called {name!r}; did you mean {', '.join(close)}?")
    return dataclasses.replace(config, **{name: _read(name, hints[name], value) for name, value in values.items()})  # type: ignore[type-var]


def words(assignments: Iterable[str]) -> dict[str, str]:
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}. Raises InputError for a word without "="."""
    pairs = [word.partition("=") for word in assignments]
    for name, equals, _ in pairs:
        if not equals or not name.strip():
            raise InputError(f"--set {name}{equals}: wanted FIELD=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def plain(config: Any) -> dict[str, Any]:
    """The settings as a json-ready dict."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings that differ, as "name: a, now b"."""
    return [f"{name}: {one.get(name)}, now {other.get(name)}" for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def _read(name: str, hint: Any, value: Any) -> Any:
    """`value` as the setting's type has it: bool, int or float, perhaps with bounds (methods.bounds), str, or one of some words."""
    kind, *bounds = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is Literal:
        words = get_args(kind)
        value = str(value).lower() if isinstance(value, bool) else value  # true and false may be among the words
        if value not in words:
            raise InputError(f"setting {name}={value}: there are {', '.join(filter(None, words))}")
        return value
    if kind is str:
        if not isinstance(value, (str, os.PathLike)):
            raise InputError(f"setting {name}={value}: wanted a text")
        return os.fspath(value)
    read = _plain(name, kind, value)
    for between in bounds:
        if not between.holds(read):
            raise InputError(f"setting {name}={value}: wanted {between}")
    return read


def _plain(name: str, kind: type, value: Any) -> Any:
    """`value` as `kind` (int, float or bool)."""
    try:
        if kind is bool:
            return (
                value
                if isinstance(value, bool)
                else {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            )
        number = kind(str(value).replace("_", ""))
        if number != number or abs(number) == float("inf"):
            raise ValueError
        return number
    except (ValueError, KeyError, AttributeError):
        raise InputError(f"setting {name}={value}: wanted {'true or false' if kind is bool else f'a number ({kind.__name__})'}") from None
