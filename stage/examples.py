"""From a category's catalog to the arrays that training, synthesis and segmentation are given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from stage.datasets.rules import GOOD
from stage.pairs import Pair, Pairs
from stage.params import Prompts
from stage.prompts import prompt, prompts

CATALOG = "catalog.parquet"


@dataclass(frozen=True)
class Examples:
    """Training images and what to call them: images (N, H, W, 3) uint8, masks (N, H, W) uint8; `isolated` is None for a normal one."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    prompts: list[str]
    isolated: list[str | None]

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

    Beside it, `normal` training images (K, H, W, 3) uint8.
    """

    category: str
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    defects: list[str]
    normal: NDArray[np.uint8]

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
    pairs: list[Pair] = []
    whole: list[str] = []
    isolated: list[str | None] = []
    for folder in folders:
        for good in (True, False):
            found = pairs_of(folder, "train", good=good)
            names = list(zip(column(found, "category"), column(found, "defect"), strict=True))
            pairs += found
            whole += [prompt(templates.normal, *name) if good else prompts(templates, *name)[0] for name in names]
            isolated += [None if good else prompts(templates, *name)[1] for name in names]
    return Examples(*_stack(pairs), whole, isolated)


def defect_images(folder: Path, category: str) -> DefectImages:
    """The generator's third of a category, and its normal training images."""
    found = pairs_of(folder, "train", good=False)
    normal = _stack(pairs_of(folder, "train", good=True))[0]
    return DefectImages(category, *_stack(found), column(found, "defect"), normal)


def by_digest(pairs: Pairs, name: str) -> dict[str, Pair]:
    """The pairs by a content hash column: `image_sha256` or `mask_sha256`."""
    return dict(zip(column(pairs, name), pairs, strict=True))


def _stack(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray]:
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)
