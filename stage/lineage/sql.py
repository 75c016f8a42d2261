"""Questions in SQL. A query can only read, and only the views; names and texts from data are values and are never run."""

import resource
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from stage.core.errors import Refusal
from stage.lineage.database import MEMORY, Answer, Database

ROOM = 2 * 2**30  # bytes
STATUS = Path("/proc/self/status")  # of Linux; elsewhere there is none


def sql(database: Database, query: str, limit: int) -> Answer:
    """The first `limit` rows of a SELECT. Raises Refusal for anything else, and for what DuckDB cannot run. Call it in `bounded`."""
    query = query.encode("utf-8", "replace").decode()  # arguments may be any bytes
    try:
        statements = database.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            found = ", ".join(statement.type.name for statement in statements) or "nothing"
            raise Refusal(f"Expected one SELECT, found {found}. The tables can be read and nothing else; docs/lineage.md lists them.")
        _bind()
        with _interruptible():
            database.execute("BEGIN TRANSACTION READ ONLY")
            cursor = database.execute(statements[0])
            names = [str(column[0]) for column in cursor.description or ()]
            found = cursor.fetchmany(limit + 1)
    except duckdb.OutOfMemoryException:
        raise _too_much() from None
    except duckdb.Error as error:
        raise Refusal(f"Expected a query that DuckDB can run on the views of docs/lineage.md, found: {error}") from None
    except Refusal:  # a ValueError, too
        raise
    except (OverflowError, TypeError, ValueError) as error:
        raise Refusal(f"Expected values that Python can hold, found: {error}. Cast the column to VARCHAR.") from None
    more = {"not_shown": [{"rows": f"more than {limit}; --limit shows more"}]} if len(found) > limit else {}
    return {"rows": [dict(zip(_distinct(names), row, strict=True)) for row in found[:limit]], **more}


@contextmanager
def bounded() -> Generator[None]:
    """From the beginning of a query until this ends, let the process grow by 2 GiB at most. Raises Refusal where that is not enough.

    DuckDB's own limit counts neither texts that a query makes, with `repeat` for example (DuckDB 2.0.0), nor what it takes to print them.
    Where there is no /proc, as on macOS, whose kernel does not keep to RLIMIT_DATA either, it is the only one.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        yield
    except MemoryError:
        raise _too_much() from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _bind() -> None:
    """Set the limit of `bounded`."""
    if STATUS.exists():
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = _data_bytes() + ROOM
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _too_much() -> Refusal:
    return Refusal(
        f"Expected a query that needs at most {MEMORY}, and 2 GiB with its texts, found one that needs more. Select fewer columns or rows."
    )


@contextmanager
def _interruptible() -> Generator[None]:
    """Let Ctrl-C end this process: DuckDB looks for it between its tasks, and one task may take forever (DuckDB 2.0.0). Nothing is being written."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _data_bytes() -> int:
    """What this process has mapped for data, as RLIMIT_DATA counts it."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData:"))


def _distinct(names: list[str]) -> list[str]:
    """The names made distinct, since rows are dictionaries by name."""
    seen: dict[str, int] = {}
    told: list[Any] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return told
