"""The types of a manifest's values: a data set may come from anywhere, so its manifest is checked before use."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from stage.core.errors import CorruptFileError
from stage.core.section import Section
from stage.synthesis.schema import SCHEMA_VERSION

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
NAMED = 5  # wrong keys that a message names


class TableEntry(Section):
    """A table beside the shards: its rows, and the SHA-256 of the file."""

    rows: Count
    sha256: Digest


class ShardEntry(Section):
    """A shard: its path, whose samples it holds, counts, SHA-256 of the file, and the digest of its pixels."""

    path: str
    defect: str
    rows: Count
    accepted: Count
    pixels: Digest
    sha256: Digest


class Manifest(Section):
    """The whole file; docs/data.md describes its keys."""

    schema_version: str
    method: str
    category: str
    job: str
    inputs: dict[str, str]
    tables: dict[str, TableEntry]
    count: Count
    accepted: Count
    rejected: Count
    digest: Digest
    shards: tuple[ShardEntry, ...]
    seal: Digest


def check_manifest(values: dict[str, Any], folder: Path, known: tuple[str, ...] = (SCHEMA_VERSION,)) -> None:
    """Raise a CorruptFileError if a manifest is of no `known` schema version, or if a key is missing, unknown or of another type."""
    if (version := values.get("schema_version")) not in known:
        raise CorruptFileError(
            f"Expected schema version {' or '.join(known)}, found {version!r}, in the manifest of {folder}. Read it with the version of "
            "this project that published it, or run `dvc repro synthesize`."
        )
    try:
        Manifest.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:NAMED])
        raise CorruptFileError(
            f"Expected the keys of docs/data.md, found {error.error_count()} that differ ({wrong}), in the manifest of {folder}. "
            "Get the data set again from where it was published."
        ) from None
