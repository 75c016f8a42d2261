"""Reads a category's catalog into the arrays that training, synthesis and segmentation use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stage.core.digests import file_digest
from stage.datasets.pairs import Pairs, decode_image, decode_mask, rows_digest, rows_of
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
            return type(self)(rows_of(pa.table({"cells": self.cells}), range(*index.indices(len(self))))["cells"], self.decode)
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
    return Pairs.read([folder / CATALOG], _where(split, good=good))


def pairs_digest(folder: Path, split: str, *, good: bool, columns: Sequence[str] = ()) -> str:
    """Digest of the pairs that `pairs_of` gives, with these text columns: what else the catalog holds decides nothing that is made from them."""
    return _pairs_digest(folder / CATALOG, file_digest(folder / CATALOG), split, good, (*columns,))


@cache  # one training after the other asks for it; the file's digest is there to be asked again when the file has changed
def _pairs_digest(file: Path, _content: str, split: str, good: bool, columns: tuple[str, ...]) -> str:
    return rows_digest(file, _where(split, good=good), columns)


def _where(split: str, *, good: bool) -> pc.Expression:
    is_good = pc.field("defect") == GOOD
    return (pc.field("split") == split) & (is_good if good else ~is_good)


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
