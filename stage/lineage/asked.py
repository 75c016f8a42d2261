"""Asks a question of versions: reads what they hold, and gives the answer with what could not be read."""

from collections.abc import Callable, Sequence
from typing import Any

from stage.lineage.contents import Gap, History, history_of
from stage.lineage.database import Answer, Database, opened
from stage.lineage.versions import Version

UNREAD = "not_read"


def ask(
    versions: Sequence[Version], question: Callable[[Database, History], Answer], *, strict: bool = False, is_foreign: bool = False
) -> Answer:
    """The answer to a question about versions. What cannot be read of a single version, or with `strict`, is an error, else the first table.

    `is_foreign`: whether the question runs a query that is not ours.
    """
    history = history_of(list(dict.fromkeys(versions)), strict=strict or len(versions) == 1)
    with opened(history, is_foreign=is_foreign) as database:
        return {**unread(history.gaps), **question(database, history)}


def unread(gaps: Sequence[Gap]) -> dict[str, list[dict[str, Any]]]:
    """Versions that an answer does not speak of; no table where there is none."""
    return {UNREAD: [gap._asdict() for gap in gaps]} if gaps else {}
