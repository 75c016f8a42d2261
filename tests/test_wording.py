"""Numbers in sentences."""

import pytest

from stage.core.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "plural", "expected"),
    [(0, "row", "", "0 rows"), (1, "row", "", "1 row"), (1, "batch", "batches", "1 batch"), (2, "batch", "batches", "2 batches")],
)
def test_a_number_has_its_noun(number: int, noun: str, plural: str, expected: str) -> None:
    """A page would say `1 clusters`."""
    assert counted(number, noun, plural) == expected
