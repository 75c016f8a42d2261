"""Numbers and lists in sentences."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 cluster`, `2 clusters`; `plural` where it is not the noun with an s, such as `batches`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def first_of(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first names, `most` at most, and how many more there are: `a, b and 3 more`."""
    return between.join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def apart(one: float, other: float, digits: int) -> tuple[str, str]:
    """Two different numbers with as many decimals as tell them apart, `digits` or more."""
    while f"{one:.{digits}f}" == f"{other:.{digits}f}" and one != other:
        digits += 1
    return f"{one:.{digits}f}", f"{other:.{digits}f}"
