"""What Python callers pass for a number or a seed, as the plain integer it stands for."""

import operator
from typing import Any

import numpy as np

from coterie.errors import InputError


def whole(name: str, value: Any) -> int:
    """A whole number, whatever type holds it; InputError for anything else."""
    try:
        return int(value) if isinstance(value, (float, np.floating)) and value.is_integer() else operator.index(value)
    except TypeError:
        raise InputError(f"{name}={value!r}: wanted a whole number") from None


def seed(rng: Any) -> int:
    """The seed that `random_state` stands for; a generator is drawn from, as scikit-learn does, so that a second fit differs."""
    if isinstance(rng, np.random.RandomState):
        return int(rng.randint(1 << 31, dtype=np.int64))
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(1 << 31))
    return 0 if rng is None else whole("random_state", rng)
