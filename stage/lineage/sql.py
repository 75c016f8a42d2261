"""Questions in SQL. A question can only read, and only the views; names and texts from data are values and are never run."""

from typing import Any

import duckdb

from stage.core.errors import Refusal
from stage.lineage.database import MEMORY, Answer, Database


def sql(database: Database, query: str, limit: int) -> Answer:
    """The first `limit` rows of a SELECT. Raises Refusal for anything else, and for what DuckDB cannot run."""
    try:
        statements = database.extract_statements(query)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            found = ", ".join(statement.type.name for statement in statements) or "nothing"
            raise Refusal(f"Expected one SELECT, found {found}. The tables can be read and nothing else; docs/lineage.md lists them.")
        database.execute("BEGIN TRANSACTION READ ONLY")
        cursor = database.execute(statements[0])
        names = [str(column[0]) for column in cursor.description or ()]
        found = cursor.fetchmany(limit + 1)
    except duckdb.OutOfMemoryException:
        raise Refusal(f"Expected a query that needs at most {MEMORY}, found one that needs more. Select fewer columns or rows.") from None
    except duckdb.Error as error:
        raise Refusal(f"Expected a query that DuckDB can run on the views of docs/lineage.md, found: {error}") from None
    more = {"not_shown": [{"rows": f"more than {limit}; --limit shows more"}]} if len(found) > limit else {}
    return {"rows": [dict(zip(_distinct(names), row, strict=True)) for row in found[:limit]], **more}


def _distinct(names: list[str]) -> list[str]:
    """Names that each occur once, since a row is told by name."""
    seen: dict[str, int] = {}
    told: list[Any] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return told
