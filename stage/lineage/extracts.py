"""Tables of a version without their pictures, kept in the spool by content: a query reads megabytes instead of gigabytes, and each once.

A shard has row groups of 16 samples with pictures, which suits training; its extract has row groups of thousands. What is read is
compared with the manifest, so that an extract holds what was published or does not exist. Only making an extract loads pyarrow and the
tables' schemas, which takes a second: later queries do not.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage.core.digests import derived_seed
from stage.core.durable import whole_file
from stage.core.errors import CorruptFileError
from stage.lineage.trees import MEND, Tree

if TYPE_CHECKING:
    import pyarrow as pa

STORE = Path(".spool/lineage/4")  # the number goes up when extracts change
ROWS = 16_384  # of a row group
# What the row of a sample may name beside its background, defect and mask: which column says so, by which text.
ALSO_NAMED = {
    "mixed": ("mask_kind", "resampled"),
    "textured": ("choices", '"texture_sha256"'),
    "missed": ("choices", '"missed"'),
    "placing": ("choices", '"places"'),
}


def keep(name: str, table: "pa.Table") -> str:
    """Write an extract under a name that identifies its content.

    Its column `extract` holds the name, to tell the rows of several extracts apart. For samples, `sample_hash` has 63 bits of the id, and
    `also_names` a bit for each of ALSO_NAMED, so that a query that counts the same samples in many versions need not read, hash and
    compare millions of texts.
    """
    import pyarrow as pa
    from pyarrow.parquet import write_table

    named = table.replace_schema_metadata(None).append_column("extract", pa.array([name] * len(table), pa.string()))
    if "sample_id" in table.column_names:
        named = named.append_column("sample_hash", pa.array(map(derived_seed, table["sample_id"].to_pylist()), pa.int64()))
        columns = (table[column].to_pylist() for column, _ in ALSO_NAMED.values())
        named = named.append_column("also_names", pa.array(map(_bits_of, *columns), pa.uint8()))
    with whole_file(STORE / name) as partial:
        write_table(named, partial, compression="zstd", row_group_size=ROWS)
    return name


def _bits_of(*values: str) -> int:
    return sum((text in value) << place for place, ((_, text), value) in enumerate(zip(ALSO_NAMED.values(), values, strict=True)))


def empty_extracts() -> dict[str, str]:
    """A file without rows per kind of table, so that every kind has its columns even if no version has such a table."""
    kinds = ("samples", "sources", "checkpoints", "verdict", "runs", "scores", "differences", "catalog")
    names = {kind: f"{kind}-empty.parquet" for kind in kinds}
    missing = [kind for kind, name in names.items() if not (STORE / name).is_file()]
    if missing:
        from stage.lineage.published import schemas

        known = schemas()
        for kind in missing:
            keep(names[kind], known[kind].empty_table())
    return names


def keep_samples(tree: Tree, folder: str, manifest: dict[str, Any], *, again: bool = False) -> str:
    """The extract of a published folder's samples, with all columns but the pictures; raises CorruptFileError if they are not as published.

    With `again` they are read even if there is an extract.
    """
    name = f"samples-{manifest['seal']}.parquet"
    is_kept = (STORE / name).is_file()
    if again or not is_kept:
        from stage.lineage.published import samples

        table = samples(tree, folder, manifest)
        if not is_kept:
            keep(name, table)
    return name


def keep_table(tree: Tree, path: str, kind: str, content: str) -> str:
    """The extract of any other table; `content` identifies its content, as in `Tree.files`."""
    name = f"{kind}-{content}.parquet"
    if not (STORE / name).is_file():
        from stage.lineage.published import without_pictures

        keep(name, without_pictures(tree, path, kind))
    return name


def keep_beside(tree: Tree, folder: str, file: str, manifest: dict[str, Any]) -> str:
    """The extract of a table beside the shards, compared with its SHA-256 in the manifest."""
    kind = file.partition(".")[0]
    told = manifest["tables"].get(file)
    if told is None:
        raise CorruptFileError(f"Expected the manifest of {folder} to name {file}, found that it does not. {MEND}")
    name = f"{kind}-{told['sha256']}.parquet"
    if not (STORE / name).is_file():
        from stage.lineage.published import beside

        keep(name, beside(tree, f"{folder}/{file}", told["sha256"], kind, manifest["schema_version"]))
    return name
