"""Asks a question of versions: reads what they hold, and gives the answer with what could not be read."""

from collections.abc import Callable, Sequence
from typing import Any

from stage.lineage.contents import Gap, History, history_of
from stage.lineage.database import Answer, Database, opened
from stage.lineage.versions import Version

UNREAD = "not read"


def ask(versions: Sequence[Version], question: Callable[[Database, History], Answer]) -> Answer:
    """The answer to a question about versions; of a single one, what cannot be read is an error, of many a table of its own."""
    history = history_of(versions, strict=len(versions) == 1)
    with opened(history) as database:
        return {**question(database, history), **unread(history.gaps)}


def unread(gaps: Sequence[Gap]) -> dict[str, list[dict[str, Any]]]:
    """Versions that an answer does not speak of; no table where there is none."""
    return {UNREAD: [gap._asdict() for gap in gaps]} if gaps else {}
