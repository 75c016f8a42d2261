"""The images that plan rows name, by what identifies their files; each is decoded at every look-up and not kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stage.core.errors import CorruptFileError
from stage.datasets.examples import CATALOG, column, pairs_of
from stage.datasets.pairs import Pair, decode_mask
from stage.datasets.recalled import read_withdrawn
from stage.synthesis.rows import NamedMask

Key = TypeVar("Key")
Value = TypeVar("Value", Pair, NDArray[np.uint8])


class Source(NamedTuple):
    """The pairs that samples are made from: normal photographs by `image_sha256`, defective ones by `image_sha256` and by mask.

    `foregrounds` are the photographs' objects, (H, W) uint8 in {0, 1}, 1 = object: of normal ones by `image_sha256`, of defective ones
    by mask; these may be missing. `recalled`: by `place_key`, the places that recalled photographs had among the nearest.
    A mask is known by its path and bytes together, since masks of two photographs may have equal bytes.
    """

    backgrounds: Mapping[str, Pair]
    masks: Mapping[NamedMask, Pair]
    photographs: Mapping[str, Pair]
    foregrounds: Mapping[str | NamedMask, NDArray[np.uint8]]
    recalled: Mapping[str, frozenset[int]] = {}


class Decoded(Mapping[Key, Value], Generic[Key, Value]):
    """A mapping whose values are decoded at every look-up: `decode(k)` is the value of the k-th key."""

    def __init__(self, keys: Sequence[Key], decode: Callable[[int], Value]) -> None:
        self.places = {key: place for place, key in enumerate(keys)}
        self.decode = decode

    def __getitem__(self, key: Key) -> Value:
        return self.decode(self.places[key])

    def __iter__(self) -> Iterator[Key]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def read_source(folder: Path) -> Source:
    """The training images of a prepared category, `data/prepare/<category>`; no test images. Raises CorruptFileError."""
    normal, defective = (pairs_of(folder, "train", good=good) for good in (True, False))
    if "foreground" not in normal.table.column_names:
        raise CorruptFileError(f"Expected the column foreground in {folder / CATALOG}, found an older catalog. Run `dvc repro prepare`.")
    images = column(normal, "image_sha256")
    masks = [NamedMask(*named) for named in zip(column(defective, "mask_path"), column(defective, "mask_sha256"), strict=True)]
    cells: dict[str | NamedMask, Any] = dict(zip(images, normal.table["foreground"], strict=True))
    cells |= {mask: cell for mask, cell in zip(masks, defective.table["foreground"], strict=True) if cell.is_valid}
    found = [*cells.values()]
    return Source(
        Decoded(images, normal.__getitem__),
        Decoded(masks, defective.__getitem__),
        Decoded(column(defective, "image_sha256"), defective.__getitem__),
        Decoded([*cells], lambda place: decode_mask(found[place]["bytes"].as_py())),
        read_withdrawn(folder).places,
    )
