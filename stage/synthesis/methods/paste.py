"""Pastes real defects on other photographs: cut out by their masks, moved, turned and scaled a little, matched in colour, blended.

Not in the paper. It needs no training, and is the baseline that every other method has to beat.
H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Pixels
from stage.core.digests import derived_seed
from stage.core.synthesis_params import Paste
from stage.datasets.blending import blended
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.method import Planner, Rendered
from stage.synthesis.missed import MissedDefects, with_reason
from stage.synthesis.motion import centre_of
from stage.synthesis.parts import Carry, Parts, has_arrived
from stage.synthesis.placement import check_mask, file_mask, part_of
from stage.synthesis.plan import DefectSource, background_pool, defect_of, defect_pool, empty_row, one_of, row_seed
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, NamedMask, PlanRow, placed_by, placing_masks
from stage.synthesis.shapes import shape_of
from stage.synthesis.source import Source
from stage.synthesis.transplant import colour_matched, placed

MIRRORED = 4  # of `windows.turn`: mirrored, not turned


class Choices(NamedTuple):
    """The choices of a row: rotation in degrees, scale factor, way of blending, and the share of the mask that may lie off the object."""

    rotation: float
    scale: float
    blend: str
    beyond: float = 0.0


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans a real defect with a background that resembles its own photograph."""
    return PastePlanner(recipe, Backgrounds(background_pool(catalog), source, recipe.synthesize), defect_pool(catalog)).row


def renderer(recipe: Recipe, device: str) -> "PasteRenderer":  # the signature of every method
    """The renderer, which has nothing to load."""
    return PasteRenderer(recipe.paste)


class PastePlanner:
    """Plans the rows of a category; holds its backgrounds and defects."""

    def __init__(self, recipe: Recipe, backgrounds: Backgrounds, defects: Mapping[str, Sequence[DefectSource | None]]) -> None:
        self.recipe, self.params = recipe, recipe.paste
        self.backgrounds, self.defects, self.source = backgrounds, defects, backgrounds.source
        self.missed = MissedDefects(recipe.synthesize.count, recipe.missed, defects)
        self.centre = lru_cache(None)(self._centre)
        self.parts = Parts(self.source)

    def row(self, identity: Identity, chosen: DefectSource | None = None) -> PlanRow:
        """The plan row; every choice is drawn from its own seed, except a defect that is given."""
        params, seed = self.params, row_seed(self.recipe.seed, identity)
        random = np.random.default_rng(seed)
        missed = self.missed.drawn(identity, seed) if chosen is None else None
        real = chosen or missed or defect_of(self.defects[identity.defect], identity, self.recipe.seed)
        mirrored = MIRRORED * int(random.integers(2)) if params.mirror else 0
        background = self.backgrounds.draw(real, mirrored, random, like=missed is not None)
        choices = Choices(
            rotation=round(float(random.uniform(-params.rotation, params.rotation)), 3),
            scale=round(float(random.uniform(*params.scale)), 4),
            blend=one_of(params.blends, random),
        )
        row = empty_row(identity, self.recipe.name, seed, background)._replace(
            source_path=real.image_path,
            source_sha256=real.image_sha256,
            mask_path=real.mask_path,
            mask_sha256=real.mask_sha256,
            mask_kind="real",
            mask_turn=mirrored,
            choices=json.dumps({name: value for name, value in choices._asdict().items() if name != "beyond"}),
            foreground=background.foreground_strategy if params.where == "object" else "none",
        )
        return with_reason(self._on_part(row, background.foreground_strategy, random), missed)

    def _on_part(self, row: PlanRow, strategy: str, random: np.random.Generator) -> PlanRow:
        """The row with its defect carried to the background's part; without parts if a pose is unknown, or the defect would miss the part."""
        carry = self._carry(row)
        if carry is None:
            return self._placed(row, None, random)
        own, part = shape_of(row, self.source), self.source.foregrounds[row.background_sha256]
        shifted = self._placed(_carried(row, carry, strategy), carry, np.random.default_rng(derived_seed(row.seed, "place")))
        tries = (shifted, self._at(shifted, own, carry.centre))  # where a shift leads off the part: without one
        found = next((one for one in tries if has_arrived(file_mask(one, self.source), own, carry, part)), None)
        return found or self._placed(placed_by(row, placing_masks(shifted.choices)), None, random)

    def _carry(self, row: PlanRow) -> Carry | None:
        """The motion from the defect's part to the background's; None if `synthesize.placement` asks for none or a pose is unknown."""
        if self.recipe.synthesize.placement != "on_part":
            return None
        return self.parts.carried(row.mask, row.mask_turn, row.background_sha256)

    def _placed(self, row: PlanRow, carry: Carry | None, random: np.random.Generator) -> PlanRow:
        """The row with its shift, and with the area and digest of the mask there."""
        own, other = shape_of(row, self.source), None
        if self.params.where == "type":
            other = one_of(self.defects[row.defect], random).mask
            row = placed_by(row, [other])
        return self._at(row, own, self._target(row, own, carry, other, random))

    def _at(self, row: PlanRow, own: Pixels, target: NDArray[Any]) -> PlanRow:
        """The row with its mask's centre at a row and column."""
        y, x = np.rint(target - centre_of(own)).astype(int).tolist()
        row = row._replace(mask_shift_y=y, mask_shift_x=x)
        mask = file_mask(row, self.source, own)
        return row._replace(mask_area=int(mask.sum()), mask_digest=pixel_digest(mask))

    def _target(self, row: PlanRow, own: Pixels, carry: Carry | None, other: NamedMask | None, random: np.random.Generator) -> NDArray[Any]:
        """Row and column of the place where the defect's centre goes: near the one of the `other` mask if there is one."""
        if self.params.where == "object":
            places = np.argwhere(part_of(row, self.source))
            return places[random.integers(len(places))]
        centre = centre_of(own) if carry is None else carry.centre
        if other is not None:
            way = None if carry is None else self.parts.carried(other, 0, row.background_sha256)
            centre = self.centre(other) if way is None else way.centre
        most = round(self.params.shift * len(own))
        moved = random.integers(-most, most, 2, endpoint=True)
        # Across the axis a defect stays in place, since its surroundings have to meet the part's edges there.
        return centre + moved if carry is None or carry.axis is None else centre + moved[0] * carry.axis

    def _centre(self, mask: NamedMask) -> NDArray[np.int64]:
        return centre_of(self.source.masks[mask].mask)


def _carried(row: PlanRow, carry: Carry, strategy: str) -> PlanRow:
    """The row with its choices taken relative to the part, and its mask kept on it.

    Along an axis the defect keeps its direction: turned by its own rotation too, a long one would leave the part's edge.
    """
    own = choices_of(row)
    rotation = carry.turned.rotation + (own.rotation if carry.axis is None else 0.0)
    scale = own.scale * carry.turned.scale
    choices = own._replace(rotation=round(rotation, 3), scale=round(scale, 4), beyond=carry.beyond)
    return row._replace(choices=json.dumps(choices._asdict()), foreground=strategy)


class PasteRenderer(NamedTuple):
    """Cuts, moves, matches and blends."""

    params: Paste

    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of the rows, each rendered on its own."""
        return [self._rendered(row, source) for row in rows]

    def _rendered(self, row: PlanRow, source: Source) -> Rendered:
        defect, background = placed(row, source), source.backgrounds[row.background_sha256].image
        check_mask(defect.mask, row)
        image = pasted(defect, background, row, self.params)
        return Rendered(Pair(image, defect.mask), reach=reach_of(row, self.params))


def choices_of(row: PlanRow) -> Choices:
    """The planner's choices for a row."""
    return Choices(**{name: value for name, value in json.loads(row.choices).items() if name in Choices._fields})


def reach_of(row: PlanRow, params: Paste) -> int:
    """How far outside the mask a row's way of blending changes the photograph, px."""
    return 0 if choices_of(row).blend == "hard" else params.reach


def pasted(defect: Pair, background: Pixels, row: PlanRow, params: Paste) -> Pixels:
    """`background` with the defect that `placed` has moved, matched in colour and blended as the row says."""
    matched = colour_matched(defect, background, params.ring)
    return blended(matched, background, defect.mask, blend=choices_of(row).blend, reach=params.reach)
