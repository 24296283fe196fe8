"""Settings: a frozen dataclass per method, changed by `FIELD=VALUE` words or by a json object; strict in both."""

import dataclasses
import difflib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from coterie.errors import InputError

Config = TypeVar("Config")


def change(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values. Texts are read as the field's type. Raises InputError for an unknown field or an unfit value."""
    hints = get_type_hints(type(config))
    defaults = dataclasses.asdict(type(config)())  # type: ignore[call-overload]
    for name in values:
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=3, cutoff=0.0)
            raise InputError(f"no setting is called {name!r}; did you mean {', '.join(close)}?")
    read = {name: _read(name, hints[name], value) for name, value in values.items()}
    for name, value in read.items():
        if isinstance(value, (int, float)) and value != defaults[name]:
            _check_range(name, value)
    return dataclasses.replace(config, **read)  # type: ignore[type-var]


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


def _check_range(name: str, number: float) -> None:
    """No setting is negative; a count is at least 1, but 0 epochs leave a stage out, and above 0 is always; a temperature divides."""
    least = 1 if isinstance(number, int) and not isinstance(number, bool) and not name.endswith(("epochs", "patience", "above")) else 0
    if number < least or (number == 0 and name.endswith("temperature")):
        raise InputError(f"setting {name}={number}: wanted {'more than 0' if name.endswith('temperature') else f'at least {least}'}")


def _read(name: str, kind: type, value: Any) -> Any:
    """`value` as `kind` (int, float, bool or str)."""
    try:
        if kind is bool:
            return (
                value
                if isinstance(value, bool)
                else {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
            )
        if kind in (int, float):
            number = kind(str(value).replace("_", ""))
            if number != number or abs(number) == float("inf"):
                raise ValueError
            return number
    except (ValueError, KeyError, AttributeError):
        raise InputError(f"setting {name}={value}: wanted {'true or false' if kind is bool else f'a number ({kind.__name__})'}") from None
    if not isinstance(value, (str, os.PathLike)):
        raise InputError(f"setting {name}={value}: wanted a text")
    return os.fspath(value)
