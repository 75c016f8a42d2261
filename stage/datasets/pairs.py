"""Images with their masks in Parquet files: PNG cells that Hugging Face `datasets` decodes.

H, W image size. Images are (H, W, 3) uint8 RGB; masks are (H, W) uint8 in {0, 1}, 1 = defect, stored as 0/255.
"""

import io
import struct
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

from stage.core.digests import bytes_digest, digest_of
from stage.core.durable import whole_file
from stage.core.errors import CorruptFileError
from stage.datasets.columns import PICTURE, Columns, schema

XMP = "XML:com.adobe.xmp"  # keyword of the chunk that holds XMP, by XMP's specification, part 3
NO_TEXT: Mapping[str, str] = MappingProxyType({})
ROW_GROUP = 16  # rows; few, so that reading one sample reads few others
UNDECODABLE = (  # what Pillow raises for bytes that are not a PNG, or for a PNG with too many pixels
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, MemoryError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
PIXELS = ("image", "mask")
HALF_SCALE = 128  # grey level that separates the stored 0 from the stored 255


class Pair(NamedTuple):
    """An image (H, W, 3) uint8 RGB and its mask (H, W) uint8 in {0, 1}, 1 = defect."""

    image: np.ndarray
    mask: np.ndarray


def encode_png(pixels: np.ndarray, text: Mapping[str, str] = NO_TEXT) -> bytes:
    """The PNG of an image (H, W, 3) uint8, or of a mask (H, W) in {0, 1} as 0/255; `text` becomes tEXt chunks, and iTXt for XMP.

    The same arguments give the same bytes. Raises ValueError for any other array.
    """
    is_mask = pixels.ndim == 2 and bool(np.isin(pixels, (0, 1)).all())
    is_image = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not (is_mask or is_image):
        raise ValueError(f"Expected an image (H, W, 3) of uint8 or a mask (H, W) in {{0, 1}}, found {pixels.shape} of {pixels.dtype}.")
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_itxt(key, value) if key == XMP else chunks.add_text(key, value)
    stored = pixels.astype(np.uint8) * np.uint8(255) if is_mask else pixels
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def decode_image(png: bytes | None) -> np.ndarray:
    """The pixels of a PNG, (H, W, 3) uint8 RGB; raises CorruptFileError, also for None, a missing picture."""
    return _decode(png, "RGB")


def decode_mask(png: bytes | None) -> np.ndarray:
    """The mask in a PNG, (H, W) uint8 in {0, 1}; raises CorruptFileError as `decode_image` does."""
    return (_decode(png, "L") >= HALF_SCALE).astype(np.uint8)


def _decode(png: bytes | None, mode: str) -> np.ndarray:
    if png is None:
        raise CorruptFileError("Expected a whole PNG, found none.")
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
            return np.array(picture.convert(mode))
    except UNDECODABLE as error:
        raise CorruptFileError(f"Expected a whole PNG, found {len(png)} bytes that do not decode ({type(error).__name__}).") from None


def image_columns() -> Columns:
    """The columns `image` and `mask`, struct<bytes, path>; a table's own columns go beside them."""
    return dict.fromkeys(PIXELS, PICTURE)


def image_cell(pixels: np.ndarray, text: Mapping[str, str] = NO_TEXT) -> dict[str, bytes | None]:
    """The value of one cell of the columns `image` and `mask`; arguments as for `encode_png`."""
    return {"bytes": encode_png(pixels, text), "path": None}


def write_table(rows: Iterable[Mapping[str, object]], columns: Columns, path: Path) -> None:
    """Write `rows` to `path` as Parquet (zstd), atomically, a row group of 16 in memory at a time."""
    left, kind = iter(rows), schema(columns)
    with whole_file(path) as partial, pq.ParquetWriter(partial, kind, compression="zstd") as writer:
        while some := list(islice(left, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(some, schema=kind))


class Pairs(Sequence[Pair]):
    """The pairs of one or more Parquet files, decoded on access."""

    def __init__(self, table: pa.Table) -> None:
        """`table` has the columns `image` and `mask`; its other columns are kept."""
        self.table = table

    @classmethod
    def read(cls, paths: Sequence[Path], where: pc.Expression | None = None) -> Self:
        """The rows that have pixels and satisfy `where`, in the order of `paths`; raises CorruptFileError."""
        tables = [_read_table(path, _with_pixels(where)) for path in paths]
        if not tables:
            raise ValueError("Expected at least one Parquet file to read pairs from, found an empty list.")
        return cls(pa.concat_tables(tables))

    def __len__(self) -> int:
        return self.table.num_rows

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Pair | Self:
        if isinstance(index, slice):
            return self.rows(range(*index.indices(len(self))))
        image, mask = (self.table[column][index]["bytes"].as_py() for column in PIXELS)
        return Pair(decode_image(image), decode_mask(mask))

    def rows(self, numbers: Iterable[int]) -> Self:
        """The pairs of these numbers, in this order."""
        return type(self)(rows_of(self.table, numbers))


def rows_of(table: pa.Table, numbers: Iterable[int]) -> pa.Table:
    """The rows of these numbers, in this order. Nothing is copied: `Table.take` joins a column's cells, and fails beyond 2 GiB of them."""
    return pa.concat_tables([table.slice(0, 0), *(table.slice(number, 1) for number in numbers)])


def rows_digest(path: Path, where: pc.Expression, columns: Sequence[str]) -> str:
    """Digest of the rows that `Pairs.read` gives of a file, in their order: of their pictures, and of their values of these columns.

    Other columns, and row groups without such rows, are not read; a few row groups are in memory at a time.
    """
    told: list[list[str]] = []
    with _readable(path):
        scan = pads.dataset(path, format="parquet").to_batches(
            columns=[*columns, *PIXELS], filter=_with_pixels(where), batch_size=ROW_GROUP, batch_readahead=1
        )
        for rows in (batch.to_pylist() for batch in scan):
            told += [[*(row[name] for name in columns), *(bytes_digest(row[name]["bytes"]) for name in PIXELS)] for row in rows]
    return digest_of(told)


def _with_pixels(where: pc.Expression | None) -> pc.Expression:
    has_pixels = pc.field("image").is_valid()
    return has_pixels if where is None else has_pixels & where


def _read_table(path: Path, where: pc.Expression) -> pa.Table:
    with _readable(path):
        return pads.dataset(path, format="parquet").to_table(filter=where)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn what reading a Parquet file of pairs raises into a CorruptFileError."""
    try:
        yield
    except FileNotFoundError:
        raise CorruptFileError(f"Expected a Parquet file at {path}, found none. Run `dvc repro` to make it.") from None
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise CorruptFileError(
            f"Expected a Parquet file with the columns image and mask at {path}, found one that cannot be read: {first_line} "
            "Delete it and run `dvc repro`."
        ) from None
