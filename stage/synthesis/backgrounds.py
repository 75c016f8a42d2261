"""Chooses the background of a sample: any normal training image, or one like the photograph that its mask comes from."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from stage.core.synthesis_params import Synthesize
from stage.datasets.likeness import Likeness
from stage.datasets.windows import turn
from stage.synthesis.plan import Background, one_of
from stage.synthesis.source import Source


class Backgrounds:
    """The normal training images of a category, and which of them are like each of its defects' photographs.

    The paper draws any. A background that does not fit teaches a segmenter to look for misfits (docs/method.md).
    """

    def __init__(self, normals: Sequence[Background], source: Source, params: Synthesize) -> None:
        self.normals, self.source, self.params = normals, source, params
        self.nearest = lru_cache(None)(self._nearest)

    def draw(self, mask_sha256: str, turned: int, random: np.random.Generator) -> Background:
        """A background for a defect in the place of this mask's, after `turned` of `windows.turn`."""
        if self.params.background == "random":
            return one_of(self.normals, random)
        return self.normals[one_of(self.nearest(mask_sha256, turned), random)]

    @cached_property
    def likeness(self) -> Likeness:
        """The normal images as small pictures, in the order of `normals`."""
        return Likeness(self.source.backgrounds[one.image_sha256].image for one in self.normals)

    def _nearest(self, mask_sha256: str, turned: int) -> list[int]:
        image, mask = self.source.masks[mask_sha256]
        return self.likeness.nearest(turn(image, turned), turn(mask, turned), self.params.neighbours)
