"""Training examples of the base from scratch: every training image with its prompt, through the windows that it will be shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stage.core.model_params import Crop, Prompts
from stage.datasets.examples import Pictures, column, pairs_of, pictures
from stage.datasets.windows import Window, cut, random_window, window
from stage.model.prompts import prompt, prompts

VIEWS = 4  # windows through which each normal image is seen, if defects are seen through windows


@dataclass(frozen=True)
class Examples:
    """Images (N, H, W, 3) uint8, masks (N, H, W) uint8 and prompts; `isolated`, of the defect alone, is None for a normal image."""

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
    return Examples(*pictures(pa.concat_tables(tables)), whole, isolated)


def through_windows(examples: Examples, crop: Crop, base_size: int, random: np.random.Generator) -> Examples:
    """The examples as a base of `base_size` px is shown them, as arrays (N, base_size, base_size, ..).

    Defective images are seen through their windows, each normal image through `VIEWS` windows of the same sides at random places.
    If every window is a whole image of the base's size, the examples stay as they are.
    """
    image_size = len(examples.masks[0])
    windows = {int(row): window(examples.masks[row], crop, base_size) for row in examples.defective}
    sides = [place.side for place in windows.values()] or [min(base_size, image_size)]
    if {*sides, base_size} == {image_size}:
        return _seen(examples, [[Window(0, 0, base_size)]] * len(examples.images), base_size)
    drawn = {int(row): [random_window(int(random.choice(sides)), image_size, random) for _ in range(VIEWS)] for row in examples.normal}
    return _seen(examples, [drawn.get(row) or [windows[row]] for row in range(len(examples.images))], base_size)


def _seen(examples: Examples, views: Sequence[Sequence[Window]], size: int) -> Examples:
    """One example per row and window."""
    images, masks = (
        np.stack([cut(picture, place, size) for picture, places in zip(some, views, strict=True) for place in places])
        for some in (examples.images, examples.masks)
    )
    rows = [row for row, places in enumerate(views) for _ in places]
    return Examples(images, masks, [examples.prompts[row] for row in rows], [examples.isolated[row] for row in rows])
