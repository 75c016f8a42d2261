"""Numbers and lists in sentences."""

import pytest

from stage.core.wording import apart, counted, first_of


@pytest.mark.parametrize(
    ("number", "noun", "plural", "expected"),
    [(0, "row", "", "0 rows"), (1, "row", "", "1 row"), (1, "batch", "batches", "1 batch"), (2, "batch", "batches", "2 batches")],
)
def test_a_number_has_its_noun(number: int, noun: str, plural: str, expected: str) -> None:
    """A page would say `1 clusters`."""
    assert counted(number, noun, plural) == expected


@pytest.mark.parametrize(("names", "expected"), [((), ""), (("a", "b"), "a; b"), (("a", "b", "c", "d"), "a; b and 2 more")])
def test_a_list_says_how_many_it_leaves_out(names: tuple[str, ...], expected: str) -> None:
    """A message would hide all files but the first few, or say `and 0 more`."""
    assert first_of(names, 2, "; ") == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(4.2, 3.9, ("4.2", "3.9")), (4.54, 4.52, ("4.54", "4.52")), (4.5021, 4.5019, ("4.5021", "4.5019")), (4.5, 4.5, ("4.5", "4.5"))],
)
def test_numbers_that_differ_are_shown_to_differ(one: float, other: float, expected: tuple[str, str]) -> None:
    """A message would call 4.5 more than 4.5."""
    assert apart(one, other, 1) == expected
