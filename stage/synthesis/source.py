"""The images that plan rows name, by the content hash of their files; each is decoded at every look-up and not kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stage.core.errors import CorruptFileError
from stage.datasets.examples import CATALOG, column, pairs_of
from stage.datasets.pairs import Pair, decode_mask
from stage.datasets.recalled import read_withdrawn

Value = TypeVar("Value", Pair, NDArray[np.uint8])


class Source(NamedTuple):
    """The pairs that samples are made from: normal photographs by `image_sha256`, defective ones by `mask_sha256` and `image_sha256`.

    `foregrounds` are the photographs' objects, (H, W) uint8 in {0, 1}, 1 = object: of normal ones by `image_sha256`, of defective ones
    by `mask_sha256`; these may be missing. `recalled`: by `place_key`, the places that recalled photographs had among the nearest.
    """

    backgrounds: Mapping[str, Pair]
    masks: Mapping[str, Pair]
    photographs: Mapping[str, Pair]
    foregrounds: Mapping[str, NDArray[np.uint8]]
    recalled: Mapping[str, frozenset[int]] = {}


class DecodedByDigest(Mapping[str, Value], Generic[Value]):
    """A mapping whose values are decoded at every look-up: `decode(k)` is the value of the k-th digest."""

    def __init__(self, digests: Sequence[str], decode: Callable[[int], Value]) -> None:
        self.places = {digest: place for place, digest in enumerate(digests)}
        self.decode = decode

    def __getitem__(self, digest: str) -> Value:
        return self.decode(self.places[digest])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def read_source(folder: Path) -> Source:
    """The training images of a prepared category, `data/prepare/<category>`; no test images. Raises CorruptFileError."""
    normal, defective = (pairs_of(folder, "train", good=good) for good in (True, False))
    if "foreground" not in normal.table.column_names:
        raise CorruptFileError(f"Expected the column foreground in {folder / CATALOG}, found an older catalog. Run `dvc repro prepare`.")
    images = column(normal, "image_sha256")
    cells = dict(zip(images, normal.table["foreground"], strict=True))
    cells |= {
        sha256: cell for sha256, cell in zip(column(defective, "mask_sha256"), defective.table["foreground"], strict=True) if cell.is_valid
    }
    found = [*cells.values()]
    return Source(
        DecodedByDigest(images, normal.__getitem__),
        DecodedByDigest(column(defective, "mask_sha256"), defective.__getitem__),
        DecodedByDigest(column(defective, "image_sha256"), defective.__getitem__),
        DecodedByDigest([*cells], lambda place: decode_mask(found[place]["bytes"].as_py())),
        read_withdrawn(folder).places,
    )
