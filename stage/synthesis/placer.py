"""Places the masks of a whole plan, computing once what rows share."""

import json
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from stage.core.arrays import Mask
from stage.core.digests import derived_seed
from stage.core.synthesis_params import Synthesize
from stage.datasets.images import pixel_digest
from stage.datasets.windows import turn
from stage.synthesis.motion import centre_of
from stage.synthesis.parts import Carry, Parts, has_arrived
from stage.synthesis.placement import PlacementGrid, Shift, file_mask, is_on, moved, places_on, row_mask, stays, trimmed
from stage.synthesis.rows import NamedMask, PlanRow
from stage.synthesis.shapes import NEW, shape_of
from stage.synthesis.source import Source

PICTURES, PAIRS, MASKS = 512, 2**15, 2**16  # entries per cache: arrays of an image's size, places with a bit per pixel, digests


class _Turned(NamedTuple):
    """A mask of a photograph before it is moved."""

    named: NamedMask
    turn: int


class Placer:
    """Completes plan rows by `synthesize.placement`: with the shift, area and digest of the mask that `placement.row_mask` will make."""

    def __init__(self, source: Source, params: Synthesize) -> None:
        """`source` has the photographs and masks of a category."""
        self.source, self.perlin, self.placement, self.parts = source, params.perlin, params.placement, Parts(source)
        self.mask = lru_cache(PICTURES)(self._mask)
        self.part = lru_cache(PICTURES)(source.foregrounds.__getitem__)
        self.places = lru_cache(PAIRS)(self._places)
        self.measures = lru_cache(MASKS)(self._measures)

    def placed(self, row: PlanRow, strategy: str) -> PlanRow:
        """The row with its mask's place, area and digest filled in; `strategy` is the one that found the background's object.

        `on_part` moves a mask as `on_object` does if it is noise, if the pose of a part is unknown, or if it would
        miss the part.
        """
        row = row._replace(foreground="none" if self.placement == "as_is" else strategy)
        if self.placement == "on_part" and row.mask_sha256:
            carry = self.parts.carried(row.mask, row.mask_turn, row.background_sha256)
            carried = None if carry is None else self._carried(row, carry)
            if carried is not None:
                return carried
        return self._on_object(row)

    def _carried(self, row: PlanRow, carry: Carry) -> PlanRow | None:
        """None if the mask would not lie on the part there."""
        turned = shape_of(row, self.source) if row.mask_kind in NEW else self.mask(_Turned(row.mask, row.mask_turn))
        y, x = np.rint(carry.centre - centre_of(turned)).astype(int).tolist()
        choices = json.dumps({**json.loads(row.choices or "{}"), **carry.turned._asdict(), "beyond": carry.beyond})
        row = row._replace(mask_shift_y=y, mask_shift_x=x, choices=choices)
        mask = file_mask(row, self.source, turned)
        if not has_arrived(mask, turned, carry, self.part(row.background_sha256)):
            return None
        return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))

    def _on_object(self, row: PlanRow) -> PlanRow:
        if row.mask_kind in NEW:
            return self._new_on_object(row)
        if row.mask_kind == "perlin":
            mask = row_mask(row, self.source, self.perlin)
            return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))
        chosen = _Turned(row.mask, row.mask_turn)
        places = None if row.foreground == "none" else self.places(chosen, row.background_sha256)
        if places is None:
            area, digest = self.measures(chosen, None, None)
            return row._replace(mask_area=area, mask_digest=digest)
        shift = places.draw(self.mask(chosen), np.random.default_rng(derived_seed(row.seed, "place")))
        area, digest = self.measures(chosen, shift, row.background_sha256)
        return row._replace(mask_shift_y=shift.y, mask_shift_x=shift.x, mask_area=area, mask_digest=digest)

    def _new_on_object(self, row: PlanRow) -> PlanRow:
        shape = shape_of(row, self.source)
        if row.foreground != "none" and not stays(row, shape, part := self.part(row.background_sha256)):
            shift = places_on(shape, part).draw(shape, np.random.default_rng(derived_seed(row.seed, "place")))
            row = row._replace(mask_shift_y=shift.y, mask_shift_x=shift.x)
        mask = file_mask(row, self.source, shape)
        return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))

    def _mask(self, chosen: _Turned) -> Mask:
        return turn(self.source.masks[chosen.named].mask, chosen.turn)

    def _places(self, chosen: _Turned, background: str) -> PlacementGrid | None:
        """None if the mask already lies on the background's object."""
        mask, part = self.mask(chosen), self.part(background)
        return None if is_on(mask, part) else places_on(mask, part)

    def _measures(self, chosen: _Turned, shift: Shift | None, background: str | None) -> tuple[int, str]:
        """Area in px and digest of the mask; with a shift, after it is moved and trimmed to the background's object."""
        mask = self.mask(chosen)
        if shift is not None and background is not None:
            mask = trimmed(moved(mask, shift), self.part(background))
        return int(mask.sum()), pixel_digest(mask)
