"""The one kind of error a user can mend, and what others say in one line."""

from typing import Any


class InputError(ValueError):
    """Something the user gave cannot work; the message says what, and what to do.

    The command line prints it as one line `coterie: error: ...` and exits with status 2. Any other exception is a defect of ours.
    """


class RankLost(InputError):
    """Another process of a fit ended. Threads of the collectives may wait for it for good, so a program that ends now ends at once."""


def words(error: BaseException) -> str:
    """What a library's error says, in one line of valid Unicode, without the memory addresses that Pillow puts into some."""
    text = str(error).split(" <_io")[0].encode("utf-8", "backslashreplace").decode()
    return " ".join(text.split()) or type(error).__name__


def printable(value: Any) -> str:
    """Text any terminal can take, in one line: no control characters, no lone surrogates."""
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
