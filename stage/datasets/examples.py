"""Reads a category's catalog into the arrays that training, synthesis and segmentation use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stage.datasets.pairs import Pairs, decode_image, decode_mask
from stage.datasets.rules import GOOD

CATALOG = "catalog.parquet"


class DecodedColumn(Sequence[NDArray[np.uint8]]):
    """The pictures of a column `image` or `mask`, decoded on access: large photographs do not all fit into memory."""

    def __init__(self, cells: pa.ChunkedArray, decode: Callable[[bytes], NDArray[np.uint8]]) -> None:
        self.cells, self.decode = cells, decode

    def __len__(self) -> int:
        return len(self.cells)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Self:
        if isinstance(index, slice):
            return type(self)(self.cells.take(pa.array(range(*index.indices(len(self))), pa.int64())), self.decode)
        return self.decode(self.cells[int(index)]["bytes"].as_py())


Pictures = NDArray[np.uint8] | DecodedColumn


@dataclass(frozen=True)
class DefectImages:
    """The generator's third of a category: images (N, H, W, 3) uint8, masks (N, H, W) uint8 in {0, 1}, the defect type of each.

    `normal` are the category's normal training images, (K, H, W, 3) uint8.
    """

    category: str
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    defects: list[str]
    normal: Pictures

    @property
    def types(self) -> tuple[str, ...]:
        """Its defect types, sorted."""
        return tuple(sorted(set(self.defects)))


def pairs_of(folder: Path, split: str, *, good: bool) -> Pairs:
    """The accepted images of one split in a category's folder: the normal ones if `good`, else the defective ones."""
    is_good = pc.field("defect") == GOOD
    return Pairs.read([folder / CATALOG], (pc.field("split") == split) & (is_good if good else ~is_good))


def column(pairs: Pairs, name: str) -> list[str]:
    """A text column of the table behind the pairs."""
    return pairs.table[name].to_pylist()


def defect_images(folder: Path, category: str) -> DefectImages:
    """The generator's third of a category, and its normal training images."""
    found = pairs_of(folder, "train", good=False)
    images, masks = (np.stack(pictures) for pictures in pictures(found.table))
    normal, _ = pictures(pairs_of(folder, "train", good=True).table)
    return DefectImages(category, images, masks, column(found, "defect"), normal)


def pictures(table: pa.Table) -> tuple[DecodedColumn, DecodedColumn]:
    """The images and the masks of a table."""
    return DecodedColumn(table["image"], decode_image), DecodedColumn(table["mask"], decode_mask)
