"""Pictures of single samples of a version; a shard's other pictures are not read."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow.parquet as pq

from stage.core.errors import CorruptFileError
from stage.lineage.layout import todays_id
from stage.lineage.trees import tree_of
from stage.lineage.versions import Version


class SamplePictures(NamedTuple):
    """A sample's image and mask as PNG."""

    image: bytes
    mask: bytes


def pictures_of(version: Version, sample_ids: Iterable[str]) -> dict[str, SamplePictures]:
    """The pictures of samples by their ids. Raises CorruptFileError if a shard cannot be had."""
    tree, wanted = tree_of(version), set(sample_ids)
    whose = {tuple(sample_id.split("/")[:2]) for sample_id in wanted}
    # In schema 1 the shards lie in the category's folder, later in a folder per method.
    places = tuple(f"synthesize/{category}/{between}shards/" for method, category in whose for between in (f"{method}/", ""))
    found: dict[str, SamplePictures] = {}
    for category in sorted({category for _, category in whose}):
        for path in tree.files(f"synthesize/{category}"):
            if path.startswith(places) and wanted - set(found):
                with tree.open(path) as file:
                    found |= _in_shard(pq.ParquetFile(file, pre_buffer=False), wanted)
    if missing := sorted(wanted - set(found)):
        raise CorruptFileError(f"Expected the pictures of {missing[0]} in version {version.name}, found none. Run `stage verify`.")
    return found


def _in_shard(shard: pq.ParquetFile, wanted: set[str]) -> dict[str, SamplePictures]:
    found: dict[str, SamplePictures] = {}
    for group in range(shard.num_row_groups):
        ids = map(todays_id, shard.read_row_group(group, columns=["sample_id"])["sample_id"].to_pylist())
        if wanted & set(ids):
            for row in shard.read_row_group(group, columns=["sample_id", "image", "mask"]).to_pylist():
                if (sample_id := todays_id(row["sample_id"])) in wanted:
                    found[sample_id] = SamplePictures(row["image"]["bytes"], row["mask"]["bytes"])
    return found
