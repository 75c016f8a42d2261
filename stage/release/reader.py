"""Reads a published folder: its manifest, and its samples, keeping only the last used row groups in memory."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stage.core.durable import read_sealed
from stage.core.errors import CorruptFileError
from stage.datasets.pairs import PIXELS, Pair, decode_image, decode_mask
from stage.release.manifest import check_manifest
from stage.release.shards import JsonObject
from stage.synthesis.rows import missed_defect, mixed_masks, placing_masks
from stage.synthesis.schema import MANIFEST

OPEN = 16  # files that are kept open
CACHE = 128 * 2**20  # bytes; about as much as the row groups in memory take: 64 of them, each 16 pictures of 256 px


class _Group(NamedTuple):
    """A row group of a shard."""

    shard: int
    number: int


class Samples(Sequence[Pair]):
    """The pairs in some shards; a row group is read when one of its pairs is used."""

    def __init__(self, shards: Sequence[Path], places: NDArray[np.int32]) -> None:
        """`places`, (N, 3): shard, row group and row of each pair."""
        self._shards, self._places = shards, places
        self._file = lru_cache(OPEN)(self._opened)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Pair:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody takes slices of them
        shard, group, row = map(int, self._places[index])
        image, mask = ((self._cells(_Group(shard, group))[name][row].as_py() or {}).get("bytes") for name in PIXELS)
        return Pair(decode_image(image), decode_mask(mask))

    @cached_property
    def _cells(self) -> Callable[[_Group], pa.Table]:
        """Reads row groups, keeping the last ones; all of a publication are about as large as its first."""
        return lru_cache(max(1, CACHE // self._file(0).metadata.row_group(0).total_byte_size))(self._read)

    def _opened(self, shard: int) -> pq.ParquetFile:
        return open_shard(self._shards[shard])

    def _read(self, group: _Group) -> pa.Table:
        try:
            return self._file(group.shard).read_row_group(group.number, columns=list(PIXELS))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._shards[group.shard], error) from None


def read_samples(folder: Path, *, accepted_only: bool, sources: Collection[str] | None = None) -> Samples:
    """The samples of a published folder; raises CorruptFileError if a shard is missing or is no Parquet file.

    With `sources`, SHA-256 of photographs and masks of real defects: only samples that were made from and planned for none but these.
    """
    paths = shard_paths(folder)
    places = [place for shard, path in enumerate(paths) for place in _places(shard, path, accepted_only=accepted_only, sources=sources)]
    return Samples(paths, np.array(places, np.int32).reshape(-1, 3))


def accepted_ids(folder: Path) -> list[str]:
    """The ids of a published folder's accepted samples; the digest in its manifest does not cover verdicts."""
    return [row["sample_id"] for row in sample_rows(folder, ["sample_id", "verdict"]) if row["verdict"] == "accepted"]


def sample_rows(folder: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """These columns of every sample, in the order of the shards, a row group in memory at a time."""
    for path in shard_paths(folder):
        for batch in open_shard(path).iter_batches(columns=list(columns)):
            yield from batch.to_pylist()


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a published folder, in the order of the manifest; raises CorruptFileError."""
    return [folder / shard["path"] for shard in read_manifest(folder)["shards"]]


def open_shard(path: Path) -> pq.ParquetFile:
    """A shard whose schema and row groups are known; raises CorruptFileError."""
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def read_manifest(folder: Path) -> JsonObject:
    """The manifest of a published folder; raises CorruptFileError if it is missing, was changed, or is not a valid manifest."""
    try:
        values = read_sealed(folder / MANIFEST)
    except FileNotFoundError:
        raise CorruptFileError(
            f"Expected {MANIFEST} beside the published samples in {folder}, found none. Run `dvc repro synthesize`."
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise CorruptFileError(
            f"Expected {folder / MANIFEST} as this version writes it, found {error}. Run `dvc checkout --force synthesize`, or "
            "`dvc repro synthesize` where an earlier version published it."
        ) from None
    check_manifest(values, folder)
    return values


def _used(told: dict[str, str]) -> set[str]:
    """The digests of the photograph and masks that a sample was made from or placed by, and of the missed defect that it was planned for."""
    masks = (*mixed_masks(told["choices"]), *placing_masks(told["choices"]))
    named = {told["source_sha256"], told["mask_sha256"], *(mask.sha256 for mask in masks)} - {""}
    missed = missed_defect(told["choices"])
    return named | ({missed.image_sha256, missed.mask_sha256} if missed else set())


def _places(shard: int, path: Path, *, accepted_only: bool, sources: Collection[str] | None) -> Iterator[tuple[int, int, int]]:
    file = open_shard(path)
    for group in range(file.num_row_groups):
        for row, told in enumerate(file.read_row_group(group, columns=["verdict", "source_sha256", "mask_sha256", "choices"]).to_pylist()):
            is_from = sources is None or _used(told).issubset(sources)
            if is_from and (told["verdict"] == "accepted" or not accepted_only):
                yield shard, group, row


def _unreadable(path: Path, error: Exception) -> CorruptFileError:
    found = "none" if isinstance(error, FileNotFoundError) else f"one that cannot be read: {str(error).splitlines()[0]}"
    return CorruptFileError(f"Expected a Parquet file of samples at {path}, found {found}. Run `dvc checkout --force synthesize`.")
