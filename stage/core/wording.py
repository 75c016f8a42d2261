"""Numbers, lists and foreign names in sentences."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 cluster`, `2 clusters`; `plural` where it is not the noun with an s, such as `batches`."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def first_of(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Up to `most` of the names, and how many more there are: `a, b and 3 more`."""
    return between.join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def printable(text: str) -> str:
    """A text from data without control characters, which a terminal would obey: each as its escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def apart(one: float, other: float, digits: int) -> tuple[str, str]:
    """Two different numbers as texts that differ, with `digits` decimals or as many more as that takes."""
    while f"{one:.{digits}f}" == f"{other:.{digits}f}" and one != other:
        digits += 1
    return f"{one:.{digits}f}", f"{other:.{digits}f}"
