"""From a category's catalog to the arrays that training, synthesis and segmentation are given."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from stage.crops import Window, cut, random_window, window
from stage.datasets.rules import GOOD
from stage.pairs import Pairs, decode_image, decode_mask
from stage.params import Crop, Prompts
from stage.prompts import prompt, prompts

CATALOG = "catalog.parquet"
VIEWS = 4  # windows that each normal image is seen through, where defects are seen through windows


class Decoded(Sequence[NDArray[np.uint8]]):
    """The pictures of a column `image` or `mask`, decoded only when one is asked for: large photographs do not fit into memory at once."""

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


Pictures = NDArray[np.uint8] | Decoded


@dataclass(frozen=True)
class Examples:
    """Training images and what to call them: images (N, H, W, 3) uint8, masks (N, H, W) uint8; `isolated` is None for a normal one."""

    images: Pictures
    masks: Pictures
    prompts: list[str]
    isolated: list[str | None]

    @property
    def texts(self) -> list[str]:
        """Every prompt once, sorted."""
        return sorted({text for text in (*self.prompts, *self.isolated) if text})

    @property
    def defective(self) -> NDArray[np.int64]:
        """Row numbers of the defective images."""
        return np.flatnonzero([text is not None for text in self.isolated])

    @property
    def normal(self) -> NDArray[np.int64]:
        """Row numbers of the normal images."""
        return np.flatnonzero([text is None for text in self.isolated])


@dataclass(frozen=True)
class DefectImages:
    """The generator's third of a category: images (N, H, W, 3) uint8, masks (N, H, W) uint8 in {0, 1}, the defect type of each.

    Beside it, `normal` training images (K, H, W, 3) uint8, of which there are many.
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
    """The accepted images of a category's folder in a split: the normal ones, or the defective ones."""
    is_good = pc.field("defect") == GOOD
    return Pairs.read([folder / CATALOG], (pc.field("split") == split) & (is_good if good else ~is_good))


def column(pairs: Pairs, name: str) -> list[str]:
    """A text column of the table behind the pairs."""
    return pairs.table[name].to_pylist()


def pretraining_examples(folders: Iterable[Path], templates: Prompts) -> Examples:
    """Every training image of the categories, normal and defective, with its prompts."""
    tables: list[pa.Table] = []
    whole: list[str] = []
    isolated: list[str | None] = []
    for folder in folders:
        for good in (True, False):
            found = pairs_of(folder, "train", good=good)
            names = list(zip(column(found, "category"), column(found, "defect"), strict=True))
            tables.append(found.table.select(["image", "mask"]))
            whole += [prompt(templates.normal, *name) if good else prompts(templates, *name)[0] for name in names]
            isolated += [None if good else prompts(templates, *name)[1] for name in names]
    return Examples(*_pictures(pa.concat_tables(tables)), whole, isolated)


def through_windows(examples: Examples, crop: Crop, base_size: int, random: np.random.Generator) -> Examples:
    """What a base of `base_size` px will be asked for, as arrays (N, base_size, base_size, ..).

    Defective images through their windows, normal ones through `VIEWS` windows of the same sides at random places each. Where
    every window is a whole image of the base's size, the examples as they are.
    """
    image_size = len(examples.masks[0])
    windows = {int(row): window(examples.masks[row], crop, base_size) for row in examples.defective}
    sides = [place.side for place in windows.values()] or [min(base_size, image_size)]
    if {*sides, base_size} == {image_size}:
        return _seen(examples, [[Window(0, 0, base_size)]] * len(examples.images), base_size)
    drawn = {int(row): [random_window(int(random.choice(sides)), image_size, random) for _ in range(VIEWS)] for row in examples.normal}
    return _seen(examples, [drawn.get(row) or [windows[row]] for row in range(len(examples.images))], base_size)


def defect_images(folder: Path, category: str) -> DefectImages:
    """The generator's third of a category, and its normal training images."""
    found = pairs_of(folder, "train", good=False)
    images, masks = (np.stack(pictures) for pictures in _pictures(found.table))
    normal, _ = _pictures(pairs_of(folder, "train", good=True).table)
    return DefectImages(category, images, masks, column(found, "defect"), normal)


def _pictures(table: pa.Table) -> tuple[Decoded, Decoded]:
    return Decoded(table["image"], decode_image), Decoded(table["mask"], decode_mask)


def _seen(examples: Examples, views: Sequence[Sequence[Window]], size: int) -> Examples:
    """One example per row and window of it."""
    images, masks = (
        np.stack([cut(picture, place, size) for picture, places in zip(pictures, views, strict=True) for place in places])
        for pictures in (examples.images, examples.masks)
    )
    rows = [row for row, places in enumerate(views) for _ in places]
    return Examples(images, masks, [examples.prompts[row] for row in rows], [examples.isolated[row] for row in rows])
