"""Places the masks of a whole plan; what rows have in common is computed once."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stage.core.digests import derived_seed, pixel_digest
from stage.core.synthesis_params import Perlin
from stage.datasets.windows import turn
from stage.synthesis.placement import Mask, Places, Shift, is_on, moved, places_on, row_mask, trimmed
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source

PICTURES, PAIRS, MASKS = 512, 2**15, 2**16  # entries per cache: arrays of an image's size, places with a bit per pixel, digests


class _Turned(NamedTuple):
    """A mask of a photograph before it is moved."""

    sha256: str
    turn: int


class Placer:
    """Completes plan rows with the shift, area and digest of the mask that `placement.row_mask` will make."""

    def __init__(self, source: Source, perlin: Perlin) -> None:
        """For the photographs and masks of a category."""
        self.source, self.perlin = source, perlin
        self.mask = lru_cache(PICTURES)(self._mask)
        self.part = lru_cache(PICTURES)(source.foregrounds.__getitem__)
        self.places = lru_cache(PAIRS)(self._places)
        self.measures = lru_cache(MASKS)(self._measures)

    def placed(self, row: PlanRow) -> PlanRow:
        """The row with shift, area and digest filled in."""
        if row.mask_kind == "perlin":
            mask = row_mask(row, self.source, self.perlin)
            return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))
        chosen = _Turned(row.mask_sha256, row.mask_turn)
        places = None if row.foreground == "none" else self.places(chosen, row.background_sha256)
        if places is None:
            area, digest = self.measures(chosen, None, None)
            return row._replace(mask_area=area, mask_digest=digest)
        shift = places.draw(self.mask(chosen), np.random.default_rng(derived_seed(row.seed, "place")))
        area, digest = self.measures(chosen, shift, row.background_sha256)
        return row._replace(mask_shift_y=shift.y, mask_shift_x=shift.x, mask_area=area, mask_digest=digest)

    def _mask(self, chosen: _Turned) -> Mask:
        return turn(self.source.masks[chosen.sha256].mask, chosen.turn)

    def _places(self, chosen: _Turned, background: str) -> Places | None:
        """None if the mask already lies on the background's object."""
        mask, part = self.mask(chosen), self.part(background)
        return None if is_on(mask, part) else places_on(mask, part)

    def _measures(self, chosen: _Turned, shift: Shift | None, background: str | None) -> tuple[int, str]:
        """Area in px and digest of the mask; with a shift, after it is moved and trimmed to the background's object."""
        mask = self.mask(chosen)
        if shift is not None and background is not None:
            mask = trimmed(moved(mask, shift), self.part(background))
        return int(mask.sum()), pixel_digest(mask)
