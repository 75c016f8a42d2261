"""The tables of some versions as views of a DuckDB database that can reach their extracts and no other file.

For queries written by users it can reach no file at all: pyarrow reads the extracts and hands them to DuckDB as objects. DuckDB may also
write any file that it may read, since a `COPY ... TO` can stand in the WITH of a SELECT.
"""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from stage.core.errors import CorruptFileError, MachineError
from stage.lineage.contents import Contents, History
from stage.lineage.extracts import STORE, empty_extracts

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

Row = dict[str, Any]
Answer = Mapping[str, Sequence[Row]]  # tables by their titles
Database = duckdb.DuckDBPyConnection
MEMORY = "1GB"
# The columns of a view before those of its tables, without those that the kind of table has itself.
BEFORE = {
    "samples": "t.version",
    "sources": "t.version, t.method",
    "checkpoints": "t.version, t.category AS of_category, t.method AS of_method",
    "verdict": "t.version, t.category, t.method",
    "runs": "t.version, t.category, t.method",
    "scores": "t.version",
    "differences": "t.version, t.category",
    "catalog": "t.version",
}
# Text columns whose values differ in nearly every row; pyarrow hands over all others as dictionaries, so that a query compares and
# hashes each text once per row group, not once per row, as when DuckDB reads the files itself.
OWN = {"sample_id", "image_digest", "mask_digest", "choices", "reason"}
OURS = "extract, sample_hash, also_names"  # columns of the samples' extracts that no published table has
LOCKS = (
    "SET parquet_metadata_cache = true",
    f"SET memory_limit = '{MEMORY}'",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


# Where an extract belongs, by its number; it may belong to several versions.
_PLACES = """
CREATE TABLE places AS SELECT dense_rank() OVER (ORDER BY extract) AS number, extract, version, place, method, category
FROM tables JOIN versions USING (version) WHERE kind = 'samples'
"""
# Masks that the choices of samples name, a row each, under `name` in samples of which `condition` is true.
_NAMED_MASKS = """
CREATE VIEW {view} AS SELECT * EXCLUDE (mask), mask.path AS path, mask.sha256 AS sha256 FROM (
    SELECT version, sample_id, method, category, defect,
        unnest(from_json(json_extract(choices, '$.{name}'), '[{{"path": "VARCHAR", "sha256": "VARCHAR"}}]')) AS mask
    FROM samples WHERE {condition})
"""
# The further masks that those of `resampled` samples were mixed with: a sample's row names only one mask.
_MIXED = _NAMED_MASKS.format(view="mixed_masks", name="masks", condition="mask_kind = 'resampled'")
# The masks that decided where a sample's defect lies, or by whose photograph its background was chosen.
_PLACING = _NAMED_MASKS.format(view="placing_masks", name="places", condition="contains(choices, '\"places\"')")
# Photograph and mask of the missed defect that a sample is planned for, a row each.
_MISSED = """
CREATE VIEW missed_defects AS SELECT version, sample_id, method, category, defect, unnest([choices ->> '$.missed.image_path', choices ->> '$.missed.mask_path']) AS path,
    unnest([choices ->> '$.missed.image_sha256', choices ->> '$.missed.mask_sha256']) AS sha256
FROM (SELECT version, sample_id, method, category, defect, CASE WHEN contains(choices, '"missed"') THEN choices END AS choices FROM samples)
WHERE choices IS NOT NULL
"""
# The files that samples' textures were drawn from; a computed one has none.
_TEXTURES = """
CREATE VIEW textures AS SELECT * EXCLUDE (choices), choices ->> 'texture_path' AS path, choices ->> 'texture_sha256' AS sha256
FROM (SELECT version, sample_id, method, category, defect, CASE WHEN contains(choices, '"texture_sha256"') THEN choices END AS choices FROM samples)
WHERE choices ->> 'texture_sha256' <> ''
"""


@contextmanager
def opened(history: History, *, is_foreign: bool = False, is_bare: bool = False) -> Generator[Database]:
    """The database of what the versions hold: `versions`, `datasets`, `inputs`, and a view per kind of table (docs/lineage.md).

    With `is_foreign`, for queries written by users, it reaches no file, which is a second slower. With `is_bare` it has no views until
    `make_views` is called, which takes 30 ms: a question that knows which extracts it needs can read those.
    """
    database = duckdb.connect(":memory:", config={"threads": min(4, os.cpu_count() or 1)})
    try:
        if not is_bare:
            make_views(database, history.contents, is_foreign=is_foreign)
        read = [] if is_foreign else [file for kind in BEFORE for file in files_of(kind, history.contents)]
        database.execute("SET allowed_paths = $paths", {"paths": read})
        for setting in LOCKS:
            database.execute(setting)
        yield database
    except duckdb.OutOfMemoryException:
        raise MachineError(
            f"Expected a question that needs at most {MEMORY}, found one that needs more. Name fewer versions with --rev."
        ) from None
    except duckdb.Error as error:
        raise _damaged(error) from None
    finally:
        database.close()


def _damaged(error: Exception) -> CorruptFileError:
    found = str(error).splitlines()[0]
    return CorruptFileError(f"Expected the extracts in {STORE} as they were written, found: {found} Delete that folder and ask again.")


def rows(database: Database, query: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """The rows of one of our queries; values are parameters, never part of its text."""
    cursor = database.execute(query, dict(parameters or {}))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def extracts(database: Database) -> list[str]:
    """The extracts of samples by their numbers in `places`, from 1; for queries that join numbers instead of names."""
    return [row["extract"] for row in rows(database, "SELECT DISTINCT number, extract FROM places ORDER BY number")]


def files_of(kind: str, contents: Sequence[Contents], **whose: str) -> list[str]:
    """The extracts of a kind of table, of any `category` and `method` or of these, each once, after one without rows, which has the columns."""
    found = {one.file for each in contents for one in each.entries if one.kind == kind and whose.items() <= one._asdict().items()}
    return [str(STORE / file) for file in (empty_extracts()[kind], *sorted(found))]


def make_views(database: Database, contents: Sequence[Contents], *, is_foreign: bool = False) -> None:
    """Make the tables and views."""
    versions = [(place, *one.version) for place, one in enumerate(contents)]
    _table(database, "versions", {"place": "BIGINT", "version": "VARCHAR", "commit": "VARCHAR", "date": "VARCHAR"}, versions)
    found = [(one.version.name, entry.kind, entry.category, entry.method, entry.file) for one in contents for entry in one.entries]
    _table(database, "tables", dict.fromkeys(("version", "kind", "category", "method", "extract"), "VARCHAR"), found)
    _manifests(database, contents)
    for kind, before in BEFORE.items():
        files = files_of(kind, contents)
        if is_foreign:
            database.register(f"{kind}_extracts", _dataset(files))
        else:
            database.from_parquet(files).create_view(f"{kind}_extracts")
        database.execute(
            f"CREATE VIEW {kind} AS SELECT {before}, s.* EXCLUDE ({OURS if kind == 'samples' else 'extract'}) FROM {kind}_extracts s "
            f"JOIN tables t ON t.kind = '{kind}' AND t.extract = s.extract"
        )
    for made in (_MIXED, _PLACING, _MISSED, _TEXTURES, _PLACES):
        database.execute(made)


def _dataset(files: Sequence[str]) -> "Dataset":
    import pyarrow as pa  # here, because it loads pandas
    from pyarrow.dataset import ParquetFileFormat, ParquetReadOptions, dataset
    from pyarrow.parquet import read_schema

    try:
        texts = {one.name for one in read_schema(files[0]) if one.type == pa.string()} - OWN
        return dataset(list(files), format=ParquetFileFormat(read_options=ParquetReadOptions(dictionary_columns=texts)))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error) from None


def _manifests(database: Database, contents: Sequence[Contents]) -> None:
    told = [(one.version.name, manifest) for one in contents for manifest in one.manifests]
    names = ("category", "method", "digest", "count", "accepted", "rejected", "job", "published")
    types = {"version": "VARCHAR"} | {name: "BIGINT" if name in ("count", "accepted", "rejected") else "VARCHAR" for name in names}
    _table(database, "datasets", types, [(version, *(manifest[name] for name in names)) for version, manifest in told])
    inputs = [
        (version, manifest["category"], manifest["method"], name, value, name in manifest["rendering"])
        for version, manifest in told
        for name, value in manifest["inputs"].items()
    ]
    types = dict.fromkeys(("version", "category", "method", "name", "value"), "VARCHAR") | {"is_rendering": "BOOLEAN"}
    _table(database, "inputs", types, inputs)


def _table(database: Database, name: str, types: Mapping[str, str], values: Sequence[tuple[Any, ...]]) -> None:
    """Make a table of these rows; values are passed as lists, a column at a time, which is quick and keeps them out of the query's text."""
    columns = [list(column) for column in zip(*values, strict=True)] if values else [[] for _ in types]
    chosen = ", ".join(f'unnest(${number}::{kind}[]) AS "{column}"' for number, (column, kind) in enumerate(types.items(), 1))
    database.execute(f"CREATE TABLE {name} AS SELECT {chosen}", columns)
