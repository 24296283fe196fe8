"""Numbers, times and file names as a reader wants them; and what a page must not tell: where on the disk things lie."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath, PureWindowsPath

LONGEST = 120  # characters of a name that are shown
_ABSOLUTE = re.compile(r"(?<![\w:/.~\\])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^\s'\"<>|:;,()]*[\\/][^\s'\"<>|:;,()]*")
_NARROW = "\u202f"  # no-break space between a number and its unit


def count(n: int, one: str = "", many: str = "") -> str:
    """`1,797` or `1 picture` or `1,797 pictures`."""
    word = one if n == 1 else many or (one and one + "s")
    return f"{n:,} {word}".strip()


def percent(share: float) -> str:
    """`96 %`; never a rounded 0 or 100 that is not one."""
    rounded = f"{share * 100:.0f}"
    if rounded == "0" and share > 0:
        return f"<{_NARROW}1{_NARROW}%"
    if rounded == "100" and share < 0.99995:
        return f">{_NARROW}99{_NARROW}%"
    return f"{rounded}{_NARROW}%"


def accuracy(share: float) -> str:
    """`97.4 %`."""
    return f"{share * 100:.1f}{_NARROW}%"


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `12 min`, `3 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f}{_NARROW}s"
    if seconds < 100:
        return f"{seconds:.0f}{_NARROW}s"
    minutes = round(seconds / 60)
    hours = f"{minutes // 60}{_NARROW}h " if minutes >= 60 else ""
    return f"{hours}{minutes % 60}{_NARROW}min"


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, or more, without an exponent where a reader needs none."""
    if value == 0 or 0.001 <= abs(value) < 100_000:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
        return text.replace("-", "\u2212")
    return f"{value:.1e}".replace("-", "\u2212")


def shortened(text: str, longest: int = LONGEST) -> str:
    """The end of a long name, which is the part that tells files apart."""
    return text if len(text) <= longest else "\u2026" + text[1 - longest :]


def is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def base_name(path: str) -> str:
    """The last part of a path of either system; the path itself when it has none."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


class Veil:
    """Takes the place of things on the disk out of a text: known paths become their last part, whatever else looks absolute too.

    Veil([]) hides what looks like an absolute path; Veil(None) hides nothing.
    """

    def __init__(self, known: Iterable[str] | None):
        self.open = known is None
        self.known = sorted({path.rstrip("\\/") for path in known or () if is_absolute(path)} - {""}, key=len, reverse=True)

    def name(self, path: str) -> str:
        """A file name to show: relative paths as they are, absolute ones by their last part."""
        return path if self.open or not is_absolute(path) else base_name(path)

    def text(self, text: str) -> str:
        if self.open:
            return text
        if is_absolute(text) and "\n" not in text:
            return base_name(text)
        for path in self.known:
            text = text.replace(path, base_name(path))
        return _ABSOLUTE.sub(lambda found: base_name(found[0]), text)
