"""Chooses the background of a sample: any normal training image, or one like the photograph that its mask comes from."""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np

from stage.core.synthesis_params import Synthesize
from stage.datasets.likeness import Likeness
from stage.datasets.recalled import place_key
from stage.datasets.windows import turn
from stage.synthesis.plan import Background, DefectSource, one_of
from stage.synthesis.source import Source


class Backgrounds:
    """The normal training images of a category, and which of them are like each of its defects' photographs.

    The paper draws any normal image. A background that does not fit teaches a segmenter to look for misfits (docs/method.md).
    """

    def __init__(self, pool: Sequence[Background | None], source: Source, params: Synthesize) -> None:
        """`pool` has None in the places of recalled images."""
        self.pool, self.source, self.params = pool, source, params
        self.normals = [one for one in pool if one is not None]
        self.nearest = lru_cache(None)(self._nearest)

    def draw(self, real: DefectSource, turned: int, random: np.random.Generator, *, like: bool = False) -> Background:
        """A background for a real defect after `turned` of `windows.turn`; with `like` one like its photograph, whatever the parameters."""
        if self.params.background == "random" and not like:
            return one_of(self.pool, random)
        return self.normals[one_of(self.nearest(real, turned), random)]

    def background_for(self, missed: DefectSource | None, random: np.random.Generator) -> Background:
        """Any background, all equally likely, or one like the photograph of a missed defect; for methods that use no real defects otherwise."""
        return one_of(self.pool, random) if missed is None else self.draw(missed, 0, random, like=True)

    @cached_property
    def likeness(self) -> Likeness:
        """The normal images as small pictures, in the order of `normals`."""
        return Likeness(self.source.backgrounds[one.image_sha256].image for one in self.normals)

    def _nearest(self, real: DefectSource, turned: int) -> list[int | None]:
        """Numbers of `normals`, the most similar first, None in the place of a recalled one; if all would be None, the nearest that are left."""
        image, mask = self.source.masks[real.mask]
        count = self.params.neighbours
        found: list[int | None] = [*self.likeness.nearest(turn(image, turned), turn(mask, turned), count)]
        shown = found
        for place in sorted(self.source.recalled.get(place_key(real.image_sha256, turned), ())):
            shown = [*shown[:place], None, *shown[place:]]
        shown = shown[:count]
        return shown if any(one is not None for one in shown) else found
