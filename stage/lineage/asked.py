"""Asks a question of versions: reads what they hold, and answers with a list of what could not be read."""

from collections.abc import Callable, Sequence
from typing import Any

from stage.lineage.contents import Gap, History, history_of
from stage.lineage.database import Answer, Database, opened
from stage.lineage.versions import Version

UNREAD = "not_read"


def ask(
    versions: Sequence[Version],
    question: Callable[[Database, History], Answer],
    *,
    strict: bool = False,
    is_foreign: bool = False,
    is_bare: bool = False,
    needs_samples: bool = True,
) -> Answer:
    """The answer to a question about versions. What cannot be read is listed in the first table; with a single version, or with `strict`, it is an error.

    `is_foreign`: whether the question runs a query that is not ours; `is_bare`: whether it makes the views itself, if it needs them;
    `needs_samples`: whether there is an answer only once samples are published, and not by the catalog alone.
    """
    history = history_of(list(dict.fromkeys(versions)), strict=strict or len(versions) == 1, needs_samples=needs_samples)
    with opened(history, is_foreign=is_foreign, is_bare=is_bare) as database:
        return {**unread(history.gaps), **question(database, history)}


def unread(gaps: Sequence[Gap]) -> dict[str, list[dict[str, Any]]]:
    """The table of versions that an answer leaves out; no table if there are none."""
    return {UNREAD: [gap._asdict() for gap in gaps]} if gaps else {}
