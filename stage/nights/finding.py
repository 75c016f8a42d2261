"""A finding of `stage doctor` on one thing that a run or a night needs."""

from typing import Literal, NamedTuple

Level = Literal["fine", "look", "fails"]


class Finding(NamedTuple):
    """`fails`: a run or a night will fail; `look`: it will not, but somebody should know. `mend` is the next command, or what to do."""

    level: Level
    what: str
    found: str
    mend: str = ""
