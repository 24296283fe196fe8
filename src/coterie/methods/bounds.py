"""What a setting may be, said in its type: `n_heads: Count = 10`, `choice: Literal["discord", "loss"] = "discord"`.

`fitting.config` reads it there and refuses anything else, by name and before anything is opened; so a value that is documented as
special (0: off, or "as many as ...") belongs to the type of its setting.
"""

from math import inf
from typing import Annotated, NamedTuple


class Between(NamedTuple):
    """Numbers from `least` to `most`, without an end that is `open`; and `also`, which stand for something else."""

    least: float
    most: float = inf
    open: tuple[float, ...] = ()
    also: tuple[float, ...] = ()

    def holds(self, number: float) -> bool:
        return number in self.also or (self.least <= number <= self.most and number not in self.open)

    def __str__(self) -> str:
        low = f"more than {self.least:g}" if self.least in self.open else f"at least {self.least:g}"
        high = f"less than {self.most:g}" if self.most in self.open else f"at most {self.most:g}"
        return " or ".join([*(f"{number:g}" for number in self.also), low if self.most == inf else f"{low} and {high}"])


Count = Annotated[int, Between(1)]
Whole = Annotated[int, Between(0)]  # 0 is special: off, none, or what the comment says
Dimensions = Annotated[int, Between(2)]  # of a space of directions: one alone has two of them
Pixels = Annotated[int, Between(4, 4096)]  # a side of a picture
PixelsOrSame = Annotated[int, Between(4, 4096, also=(0,))]
Amount = Annotated[float, Between(0)]
Positive = Annotated[float, Between(0, open=(0,))]
Share = Annotated[float, Between(0, 1)]
SomeShare = Annotated[float, Between(0, 1, open=(0,))]
BelowOne = Annotated[float, Between(0, 1, open=(1,))]  # a bar that must be passed, or what is kept of the old: all of it would never learn
Number = Annotated[float, Between(-inf)]
